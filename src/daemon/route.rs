//! Where in the API a request of the command line goes: the client's side of `routes.rs`.

use crate::failure::{Code, Failure};
use crate::handler::describe;
use crate::wire::Ask;
use hyper::Method;
use serde::Serialize;
use serde_json::Value;

/// Method, path below `/v1/pools/NAME`, and body.
///
/// Fails for a path that is no text: JSON has none.
pub(super) fn route(ask: &Ask) -> Result<(Method, String, Option<Value>), Failure> {
    Ok(match ask {
        Ask::Entries => (Method::GET, "/entries".to_owned(), None),
        Ask::Status => (Method::GET, String::new(), None),
        Ask::Exports => (Method::GET, "/exports".to_owned(), None),
        Ask::CreateVolumes(order) => (Method::POST, "/volumes".to_owned(), Some(body(ask, order)?)),
        Ask::Clone(order) => (Method::POST, "/clones".to_owned(), Some(body(ask, order)?)),
        Ask::Snapshot(order) => (Method::POST, "/snapshots".to_owned(), Some(body(ask, order)?)),
        Ask::Rollback(order) => (Method::POST, "/rollbacks".to_owned(), Some(body(ask, order)?)),
        Ask::Remove(order) => (Method::POST, "/removals".to_owned(), Some(body(ask, order)?)),
        Ask::Resize(order) => (Method::POST, "/resizes".to_owned(), Some(body(ask, order)?)),
        Ask::Label(order) => (Method::POST, "/labels".to_owned(), Some(body(ask, order)?)),
        Ask::Import(order) => (Method::POST, "/imports".to_owned(), Some(body(ask, order)?)),
        Ask::ExportImage(order) => (Method::POST, "/image-exports".to_owned(), Some(body(ask, order)?)),
        Ask::Grow(order) => (Method::POST, "/grow".to_owned(), Some(body(ask, order)?)),
        Ask::SetPool(order) => (Method::PATCH, String::new(), Some(body(ask, order)?)),
        Ask::Settle => (Method::POST, "/settle".to_owned(), None),
        Ask::Thin => (Method::POST, "/thin".to_owned(), None),
        Ask::Check => (Method::POST, "/check".to_owned(), None),
        Ask::Export(order) => (Method::POST, "/exports".to_owned(), Some(body(ask, order)?)),
        Ask::SetExport { name, change } => {
            (Method::PATCH, format!("/exports/{}", escape(name)), Some(body(ask, change)?))
        }
        Ask::Unexport { name } => (Method::DELETE, format!("/exports/{}", escape(name)), None),
    })
}

fn body(ask: &Ask, order: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(order).map_err(|error| {
        let why = format!("the daemon cannot be told: {error}");
        Failure::new(Code::Usage, describe(ask), why, "a path in UTF-8")
    })
}

/// A segment of a path: what is neither a letter, a digit nor one of `-._~@+` is written in hexadecimal (RFC 3986, 2.1).
pub(super) fn escape(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@+".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_are_segments_of_a_path() {
        assert_eq!(escape("desk-01@a.b+c"), "desk-01@a.b+c");
        assert_eq!(escape("../a b?"), "..%2Fa%20b%3F");
    }
}
