//! HTTP over a Unix socket, a connection for each request, by hand: what the daemon says is seen as it is.
#![allow(dead_code, reason = "each test file uses its part")]

use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What came back; the body is `Null` where it is no JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

pub(crate) fn socket_in(run_directory: &Path) -> PathBuf {
    run_directory.join("api.sock")
}

/// `None` when the daemon is gone, or hung up before it had answered.
pub(crate) fn call(socket: &Path, method: &str, path: &str, body: &Value) -> Option<Answer> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let text = raw(
        socket,
        &format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // What was cut off is not an answer.
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    if length.is_some_and(|length: usize| length != body.len()) {
        return None;
    }
    Some(Answer { status, body: serde_json::from_str(body).unwrap_or_default() })
}

/// Longest silence after which nothing more is expected.
const PATIENCE: Duration = Duration::from_secs(60);

/// All that is said until the daemon hangs up.
pub(crate) fn raw(socket: &Path, request: &str) -> Option<String> {
    hear(socket, request, PATIENCE)
}

/// All that is said until the daemon hangs up, or says nothing for so long.
pub(crate) fn hear(socket: &Path, request: &str, patience: Duration) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // What was heard until it became silent counts.
    let _silent_is_fine = stream.read_to_end(&mut answer);
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}
