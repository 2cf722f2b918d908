//! The handshake of one connection, without I/O: bytes in, bytes out, until an export is agreed.
//!
//! Fixed newstyle as in "Session Negotiation" of the specification. [`Handshake::advance`] answers at most one
//! option a call, so that the caller sends the answer before the next one is looked at: a client that does not
//! read its answers gets no more of them. Nothing is opened before GO or EXPORT_NAME (CVE-2019-14850).

mod answers;
mod options;

use crate::fields::Fields;
use crate::limits::{NAME_BYTES_MAX, OPTION_DATA_BYTES_MAX, OPTION_SKIP_BYTES_MAX, OPTIONS_MAX, bytes};
use crate::proto::{
    CLIENT_FIXED_NEWSTYLE, CLIENT_NO_ZEROES, FIXED_NEWSTYLE, GREETING_MAGIC, NO_ZEROES, OPT_EXPORT_NAME,
    OPT_SET_META_CONTEXT, OPTION_HEADER_BYTES, OPTION_MAGIC, REP_ERR_INVALID, REP_ERR_POLICY,
    REP_ERR_SHUTDOWN, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN,
};
use options::{Query, Question, Refused};

/// What a client may learn of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) name: String,
    /// For people.
    pub(crate) text: String,
    pub(crate) size: u64,
    pub(crate) read_only: bool,
}

/// Why an export cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    Unknown,
    /// It is there, but not for this client now; the sentence says why.
    Policy(String),
    ShuttingDown,
}

/// The exports a handshake talks about: a pool's, or a fixed list in tests and under a fuzzer.
pub(crate) trait Exports {
    fn names(&self) -> Result<Vec<String>, Refusal>;
    /// The empty name means the default export.
    fn describe(&self, name: &str) -> Result<Description, Refusal>;
    /// Makes the export ready for requests of this connection.
    fn open(&mut self, name: &str) -> Result<Description, Refusal>;
}

/// What both sides know when requests begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) read_only: bool,
    /// Reads and block status are answered with structured replies.
    pub(crate) structured: bool,
    /// `base:allocation` was selected for this export.
    pub(crate) status: bool,
}

/// Where a handshake stands after a call of [`Handshake::advance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More bytes are needed.
    Hungry,
    /// An option was answered; send the answer and call again.
    Answered,
    /// Send the answer; what follows in the input are requests.
    Agreed(Terms),
    /// Send the answer, if there is one, and close.
    Over,
}

/// The state of one handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    stage: Stage,
    client_flags: u32,
    structured: bool,
    /// The export `base:allocation` is selected for.
    status_of: Option<String>,
    options: u32,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    ClientFlags,
    Header,
    Data { option: u32, length: u32 },
    Skip { option: u32, length: u32 },
}

impl Handshake {
    /// Starts by greeting the client.
    pub(crate) fn new(out: &mut Vec<u8>) -> Self {
        out.extend(GREETING_MAGIC.to_be_bytes());
        out.extend(OPTION_MAGIC.to_be_bytes());
        out.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
        Self { stage: Stage::ClientFlags, client_flags: 0, structured: false, status_of: None, options: 0 }
    }

    /// Consumes the front of `input` and appends an answer to `out`.
    pub(crate) fn advance(
        &mut self,
        input: &mut &[u8],
        exports: &mut dyn Exports,
        out: &mut Vec<u8>,
    ) -> Progress {
        loop {
            let step = match self.stage {
                Stage::ClientFlags => self.client_flags(input),
                Stage::Header => self.header(input, out),
                Stage::Data { option, length } => match take(input, bytes(length)) {
                    Some(data) => {
                        self.stage = Stage::Header;
                        return self.answer(option, data, exports, out);
                    }
                    None => Some(Progress::Hungry),
                },
                Stage::Skip { option, length } => self.skip(option, length, input, out),
            };
            if let Some(progress) = step {
                return progress;
            }
        }
    }

    fn client_flags(&mut self, input: &mut &[u8]) -> Option<Progress> {
        let Some(flags) = take(input, 4).and_then(|raw| Fields::new(raw).u32()) else {
            return Some(Progress::Hungry);
        };
        self.client_flags = flags;
        self.stage = Stage::Header;
        (flags & !(CLIENT_FIXED_NEWSTYLE | CLIENT_NO_ZEROES) != 0).then_some(Progress::Over)
    }

    fn header(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Option<Progress> {
        let Some(raw) = take(input, OPTION_HEADER_BYTES) else {
            return Some(Progress::Hungry);
        };
        let mut fields = Fields::new(raw);
        let (magic, option, length) = (fields.u64()?, fields.u32()?, fields.u32()?);
        if magic != OPTION_MAGIC {
            return Some(Progress::Over);
        }
        self.options += 1;
        let old_client = self.client_flags & CLIENT_FIXED_NEWSTYLE == 0;
        if option == OPT_EXPORT_NAME {
            if bytes(length) > NAME_BYTES_MAX || self.options > OPTIONS_MAX {
                return Some(Progress::Over);
            }
        } else if old_client {
            return Some(Progress::Over);
        } else if self.options > OPTIONS_MAX {
            answers::error(out, option, REP_ERR_POLICY, "too many options");
            return Some(Progress::Over);
        } else if length > OPTION_SKIP_BYTES_MAX {
            answers::error(out, option, REP_ERR_TOO_BIG, "the option has too much data");
            return Some(Progress::Over);
        }
        self.stage = if length > OPTION_DATA_BYTES_MAX {
            Stage::Skip { option, length }
        } else {
            Stage::Data { option, length }
        };
        None
    }

    fn skip(&mut self, option: u32, length: u32, input: &mut &[u8], out: &mut Vec<u8>) -> Option<Progress> {
        let here = input.len().min(bytes(length));
        *input = &input[here..];
        let left = length - u32::try_from(here).expect("not more than the length, which has 32 bits");
        if left > 0 {
            self.stage = Stage::Skip { option, length: left };
            return Some(Progress::Hungry);
        }
        self.stage = Stage::Header;
        if option == OPT_SET_META_CONTEXT {
            self.status_of = None;
        }
        let Refused { reply, text } = options::too_big(option);
        answers::error(out, option, reply, text);
        Some(Progress::Answered)
    }

    fn answer(&mut self, option: u32, data: &[u8], exports: &mut dyn Exports, out: &mut Vec<u8>) -> Progress {
        let question = match options::parse(option, data) {
            Ok(question) => question,
            Err(_) if option == OPT_EXPORT_NAME => return Progress::Over,
            Err(refused) => {
                if option == OPT_SET_META_CONTEXT {
                    self.status_of = None;
                }
                answers::error(out, option, refused.reply, refused.text);
                return Progress::Answered;
            }
        };
        match question {
            Question::Abort => {
                answers::acknowledge(out, option);
                return Progress::Over;
            }
            Question::ExportName { name } => return self.export_name(name, exports, out),
            Question::Go { name } => match exports.open(name) {
                Ok(export) => {
                    answers::information(out, option, &export, self.structured);
                    return Progress::Agreed(self.terms(&export));
                }
                Err(refusal) => refuse(out, option, name, refusal),
            },
            Question::Info { name } => match exports.describe(name) {
                Ok(export) => answers::information(out, option, &export, self.structured),
                Err(refusal) => refuse(out, option, name, refusal),
            },
            Question::List => match exports.names() {
                Ok(names) => answers::list(out, &names),
                Err(refusal) => refuse(out, option, "", refusal),
            },
            Question::StructuredReply => {
                self.structured = true;
                answers::acknowledge(out, option);
            }
            Question::ListContexts { name, query } | Question::SetContexts { name, query } => {
                self.contexts(option, name, query, exports, out);
            }
        }
        Progress::Answered
    }

    fn export_name(&self, name: &str, exports: &mut dyn Exports, out: &mut Vec<u8>) -> Progress {
        let Ok(export) = exports.open(name) else {
            return Progress::Over;
        };
        let padded = self.client_flags & CLIENT_NO_ZEROES == 0;
        answers::export_name(out, &export, self.structured, padded);
        Progress::Agreed(self.terms(&export))
    }

    fn contexts(
        &mut self,
        option: u32,
        name: &str,
        query: Query,
        exports: &mut dyn Exports,
        out: &mut Vec<u8>,
    ) {
        let select = option == OPT_SET_META_CONTEXT;
        if select {
            self.status_of = None;
        }
        if !self.structured {
            return answers::error(out, option, REP_ERR_INVALID, "ask for structured replies first");
        }
        let export = match exports.describe(name) {
            Ok(export) => export,
            Err(refusal) => return refuse(out, option, name, refusal),
        };
        let found = match query {
            Query::Exact => true,
            Query::Empty | Query::Wildcard => !select,
            Query::Nothing => false,
        };
        if found {
            answers::context(out, option, select);
        }
        answers::acknowledge(out, option);
        if select && found {
            self.status_of = Some(export.name);
        }
    }

    fn terms(&self, export: &Description) -> Terms {
        Terms {
            read_only: export.read_only,
            structured: self.structured,
            status: self.status_of.as_ref() == Some(&export.name),
        }
    }
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(front)
}

fn refuse(out: &mut Vec<u8>, option: u32, name: &str, refusal: Refusal) {
    match refusal {
        Refusal::Unknown => {
            let name = crate::fields::clip(name, 64).escape_debug();
            answers::error(out, option, REP_ERR_UNKNOWN, &format!("there is no export '{name}'"));
        }
        Refusal::Policy(text) => answers::error(out, option, REP_ERR_POLICY, &text),
        Refusal::ShuttingDown => answers::error(out, option, REP_ERR_SHUTDOWN, "the server is closing"),
    }
}

#[cfg(test)]
mod tests;
