//! The handshake of one connection, without I/O: bytes in, bytes out, until an export is agreed.
//!
//! Fixed newstyle as in "Session Negotiation" of the specification. [`Handshake::advance`] answers at most one
//! option a call, so that the caller sends the answer before the next one is looked at: a client that does not
//! read its answers gets no more of them. Nothing is opened before GO or EXPORT_NAME (CVE-2019-14850).

mod answers;
mod options;
mod selection;

use crate::contexts::Context;
use crate::fields::Fields;
use crate::limits::{NAME_BYTES_MAX, OPTION_DATA_BYTES_MAX, OPTION_SKIP_BYTES_MAX, OPTIONS_MAX, bytes};
use crate::proto::{
    CLIENT_FIXED_NEWSTYLE, CLIENT_NO_ZEROES, FIXED_NEWSTYLE, GREETING_MAGIC, NO_ZEROES, OPT_ABORT,
    OPT_EXPORT_NAME, OPT_SET_META_CONTEXT, OPT_STARTTLS, OPTION_HEADER_BYTES, OPTION_MAGIC,
    REP_ERR_EXT_HEADER_REQD, REP_ERR_INVALID, REP_ERR_POLICY, REP_ERR_SHUTDOWN, REP_ERR_TLS_REQD,
    REP_ERR_TOO_BIG, REP_ERR_UNKNOWN,
};
use crate::tls::Stance;
use options::{Question, Refused};
use selection::Selection;

/// What a client may learn of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) name: String,
    /// For people.
    pub(crate) text: String,
    pub(crate) size: u64,
    pub(crate) read_only: bool,
    /// Snapshots of the same volume: what can be asked is what has changed since one of them.
    pub(crate) points: Vec<String>,
}

/// One of a list of exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// For people.
    pub(crate) text: String,
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
    fn list(&self) -> Result<Vec<Listed>, Refusal>;
    /// The empty name means the default export.
    fn describe(&self, name: &str) -> Result<Description, Refusal>;
    /// Makes the export ready for requests of this connection, some of them about what has changed since `points`.
    fn open(&mut self, name: &str, points: &[&str]) -> Result<Description, Refusal>;
}

/// How requests and replies are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dialect {
    Simple,
    /// Reads and block status are answered with structured replies.
    Structured,
    /// Everything has extended headers, with lengths of 64 bits.
    Extended,
}

/// What both sides know when requests begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) read_only: bool,
    pub(crate) dialect: Dialect,
    /// Selected for this export; their numbers are their places, from 1 on.
    pub(crate) contexts: Vec<Context>,
}

/// Where a handshake stands after a call of [`Handshake::advance`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More bytes are needed.
    Hungry,
    /// An option was answered; send the answer and call again.
    Answered,
    /// Send the answer and throw away what has come; TLS begins, and in it the handshake goes on.
    StartTls,
    /// Send the answer; what follows in the input are requests.
    Agreed(Terms),
    /// Send the answer, if there is one, and close.
    Over,
}

/// The state of one handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    stage: Stage,
    tls: Stance,
    client_flags: u32,
    dialect: Dialect,
    selected: Option<Selection>,
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
    pub(crate) fn new(tls: Stance, out: &mut Vec<u8>) -> Self {
        out.extend(GREETING_MAGIC.to_be_bytes());
        out.extend(OPTION_MAGIC.to_be_bytes());
        out.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
        Self {
            stage: Stage::ClientFlags,
            tls,
            client_flags: 0,
            dialect: Dialect::Simple,
            selected: None,
            options: 0,
        }
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
            self.selected = None;
        }
        let Refused { reply, text } = match self.tls {
            Stance::Required => Refused { reply: REP_ERR_TLS_REQD, text: "this server talks over TLS only" },
            _ => options::too_big(option),
        };
        answers::error(out, option, reply, text);
        Some(Progress::Answered)
    }

    fn answer(&mut self, option: u32, data: &[u8], exports: &mut dyn Exports, out: &mut Vec<u8>) -> Progress {
        if self.tls == Stance::Required && !matches!(option, OPT_STARTTLS | OPT_ABORT) {
            if option == OPT_EXPORT_NAME {
                return Progress::Over;
            }
            answers::error(out, option, REP_ERR_TLS_REQD, "this server talks over TLS only");
            return Progress::Answered;
        }
        let question = match options::parse(option, data) {
            Ok(question) => question,
            Err(_) if option == OPT_EXPORT_NAME => return Progress::Over,
            Err(refused) => {
                if option == OPT_SET_META_CONTEXT {
                    self.selected = None;
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
            Question::Go { name } => match self.open(name, exports) {
                Ok((export, terms)) => {
                    answers::information(out, option, &export, self.dialect);
                    return Progress::Agreed(terms);
                }
                Err(refusal) => refuse(out, option, name, refusal),
            },
            Question::Info { name } => match exports.describe(name) {
                Ok(export) => answers::information(out, option, &export, self.dialect),
                Err(refusal) => refuse(out, option, name, refusal),
            },
            Question::List => match exports.list() {
                Ok(listed) => answers::list(out, &listed),
                Err(refusal) => refuse(out, option, "", refusal),
            },
            Question::StartTls => return self.start_tls(option, out),
            Question::StructuredReply => self.speak(Dialect::Structured, option, out),
            Question::ExtendedHeaders => self.speak(Dialect::Extended, option, out),
            Question::ListContexts { name, queries } => {
                if let Some(export) = self.describe_for_contexts(option, name, exports, out) {
                    for context in selection::listed(&export, &queries) {
                        answers::context(out, option, 0, &context.name());
                    }
                    answers::acknowledge(out, option);
                }
            }
            Question::SetContexts { name, queries } => {
                self.selected = None;
                if let Some(export) = self.describe_for_contexts(option, name, exports, out) {
                    self.select(option, &export, &queries, out);
                }
            }
        }
        Progress::Answered
    }

    /// Nothing that was agreed in the open counts any more (W9).
    fn start_tls(&mut self, option: u32, out: &mut Vec<u8>) -> Progress {
        match self.tls {
            Stance::Refused => {
                answers::error(out, option, REP_ERR_POLICY, "this server does not offer TLS here");
                Progress::Answered
            }
            Stance::Started => {
                answers::error(out, option, REP_ERR_INVALID, "TLS has been started already");
                Progress::Answered
            }
            Stance::Offered | Stance::Required => {
                answers::acknowledge(out, option);
                (self.tls, self.dialect, self.selected) = (Stance::Started, Dialect::Simple, None);
                Progress::StartTls
            }
        }
    }

    /// A richer dialect includes the poorer; the same twice is a mistake of the client's, as qemu's server has it.
    fn speak(&mut self, dialect: Dialect, option: u32, out: &mut Vec<u8>) {
        if self.dialect == Dialect::Extended && dialect < self.dialect {
            return answers::error(
                out,
                option,
                REP_ERR_EXT_HEADER_REQD,
                "extended headers were agreed already",
            );
        }
        if self.dialect == dialect {
            return answers::error(out, option, REP_ERR_INVALID, "this was agreed already");
        }
        self.dialect = dialect;
        answers::acknowledge(out, option);
    }

    fn export_name(&self, name: &str, exports: &mut dyn Exports, out: &mut Vec<u8>) -> Progress {
        // The extension has no place for this option's reply.
        if self.dialect == Dialect::Extended {
            return Progress::Over;
        }
        let Ok((export, terms)) = self.open(name, exports) else {
            return Progress::Over;
        };
        let padded = self.client_flags & CLIENT_NO_ZEROES == 0;
        answers::export_name(out, &export, self.dialect, padded);
        Progress::Agreed(terms)
    }

    fn open(&self, name: &str, exports: &mut dyn Exports) -> Result<(Description, Terms), Refusal> {
        let contexts = match &self.selected {
            Some(selected) if selected.is_of(&exports.describe(name)?) => selected.contexts().to_vec(),
            _ => Vec::new(),
        };
        let points: Vec<&str> = contexts
            .iter()
            .filter_map(|context| match context {
                Context::Since(point) => Some(point.as_str()),
                _ => None,
            })
            .collect();
        let export = exports.open(name, &points)?;
        let terms = Terms { read_only: export.read_only, dialect: self.dialect, contexts };
        Ok((export, terms))
    }

    fn describe_for_contexts(
        &self,
        option: u32,
        name: &str,
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Option<Description> {
        if self.dialect == Dialect::Simple {
            answers::error(out, option, REP_ERR_INVALID, "ask for structured replies first");
            return None;
        }
        exports.describe(name).map_err(|refusal| refuse(out, option, name, refusal)).ok()
    }

    fn select(&mut self, option: u32, export: &Description, queries: &[&str], out: &mut Vec<u8>) {
        let Ok(selected) = Selection::new(export, queries) else {
            let text = "a connection may select 16 contexts at most";
            return answers::error(out, option, REP_ERR_TOO_BIG, text);
        };
        for (id, context) in (1..).zip(selected.contexts()) {
            answers::context(out, option, id, &context.name());
        }
        answers::acknowledge(out, option);
        self.selected = Some(selected);
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
