//! One option of the handshake: raw data in, a typed question or a refusal out. Pure.
//!
//! Lengths inside the data are compared with what is really there, never used to allocate.

use crate::fields::Fields;
use crate::limits::{NAME_BYTES_MAX, QUERIES_MAX, bytes};
use crate::proto::{
    OPT_ABORT, OPT_EXPORT_NAME, OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT,
    OPT_SET_META_CONTEXT, OPT_STARTTLS, OPT_STRUCTURED_REPLY, REP_ERR_INVALID, REP_ERR_TOO_BIG,
    REP_ERR_UNSUP,
};

/// What a client asks during the handshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Question<'a> {
    ExportName { name: &'a str },
    Abort,
    List,
    StartTls,
    Info { name: &'a str },
    Go { name: &'a str },
    StructuredReply,
    ExtendedHeaders,
    ListContexts { name: &'a str, queries: Vec<&'a str> },
    SetContexts { name: &'a str, queries: Vec<&'a str> },
}

/// Why an option is not answered: the reply type and a sentence for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reply: u32,
    pub(crate) text: &'static str,
}

fn invalid(text: &'static str) -> Refused {
    Refused { reply: REP_ERR_INVALID, text }
}

/// Reads one option with all its data.
pub(crate) fn parse(option: u32, data: &[u8]) -> Result<Question<'_>, Refused> {
    match option {
        OPT_EXPORT_NAME => name(data).map(|name| Question::ExportName { name }),
        OPT_ABORT => Ok(Question::Abort),
        OPT_LIST => without_data(data).map(|()| Question::List),
        OPT_STRUCTURED_REPLY => without_data(data).map(|()| Question::StructuredReply),
        OPT_EXTENDED_HEADERS => without_data(data).map(|()| Question::ExtendedHeaders),
        OPT_STARTTLS => without_data(data).map(|()| Question::StartTls),
        OPT_INFO => information(data).map(|name| Question::Info { name }),
        OPT_GO => information(data).map(|name| Question::Go { name }),
        OPT_LIST_META_CONTEXT => {
            contexts(data).map(|(name, queries)| Question::ListContexts { name, queries })
        }
        OPT_SET_META_CONTEXT => contexts(data).map(|(name, queries)| Question::SetContexts { name, queries }),
        _ => Err(Refused { reply: REP_ERR_UNSUP, text: "this option is not known" }),
    }
}

/// What is answered to an option whose data was too much to be looked at.
pub(crate) fn too_big(option: u32) -> Refused {
    match parse(option, &[]) {
        Err(refused) if refused.reply == REP_ERR_UNSUP => refused,
        _ => Refused { reply: REP_ERR_TOO_BIG, text: "the option has too much data" },
    }
}

fn without_data(data: &[u8]) -> Result<(), Refused> {
    if data.is_empty() { Ok(()) } else { Err(invalid("this option takes no data")) }
}

fn name(raw: &[u8]) -> Result<&str, Refused> {
    if raw.len() > NAME_BYTES_MAX {
        return Err(invalid("the name is longer than 4096 bytes"));
    }
    let name = std::str::from_utf8(raw).map_err(|_| invalid("the name is not UTF-8"))?;
    if name.contains('\0') {
        return Err(invalid("the name contains a zero byte"));
    }
    Ok(name)
}

fn sized_name<'a>(fields: &mut Fields<'a>) -> Result<&'a str, Refused> {
    let length = fields.u32().ok_or(invalid("the name's length is missing"))?;
    let raw = fields.take(bytes(length)).ok_or(invalid("the name is longer than the option"))?;
    name(raw)
}

/// INFO and GO: a name and the information wanted. All information there is is always sent, so the wishes are
/// only checked for their form.
fn information(data: &[u8]) -> Result<&str, Refused> {
    let mut fields = Fields::new(data);
    let name = sized_name(&mut fields)?;
    let wishes = fields.u16().ok_or(invalid("the number of information requests is missing"))?;
    for _ in 0..wishes {
        fields.u16().ok_or(invalid("an information request is missing"))?;
    }
    if !fields.is_empty() {
        return Err(invalid("the option has bytes after its last information request"));
    }
    Ok(name)
}

fn contexts(data: &[u8]) -> Result<(&str, Vec<&str>), Refused> {
    let mut fields = Fields::new(data);
    let name = sized_name(&mut fields)?;
    let count = fields.u32().ok_or(invalid("the number of queries is missing"))?;
    let queries: Vec<&str> = (0..count).map(|_| one_query(&mut fields)).collect::<Result<_, _>>()?;
    if !fields.is_empty() {
        return Err(invalid("the option has bytes after its last query"));
    }
    if queries.len() > QUERIES_MAX {
        return Err(Refused { reply: REP_ERR_TOO_BIG, text: "the option has more than 256 queries" });
    }
    Ok((name, queries))
}

fn one_query<'a>(fields: &mut Fields<'a>) -> Result<&'a str, Refused> {
    let text = sized_name(fields)?;
    if text.contains(':') { Ok(text) } else { Err(invalid("a query lacks its namespace")) }
}

#[cfg(test)]
mod tests;
