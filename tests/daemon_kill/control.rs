//! The control socket, as the program's other commands use it: a line of JSON each way.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

#[derive(Debug)]
pub(crate) struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    /// The socket of the one pool that has its things in this directory.
    pub(crate) fn connect(run_directory: &Path) -> Self {
        let mut paths =
            run_directory.read_dir().expect("readable").map(|entry| entry.expect("an entry").path());
        let socket = paths.find(|path| path.extension().is_some_and(|ending| ending == "sock"));
        let stream = UnixStream::connect(socket.expect("a control socket")).expect("it listens");
        Self { stream: BufReader::new(stream) }
    }

    /// The answer, or `None` when the daemon was killed before it gave one.
    pub(crate) fn ask(&mut self, ask: &Value) -> Option<Value> {
        self.stream.get_mut().write_all(format!("{ask}\n").as_bytes()).ok()?;
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(length) if length > 0 && line.ends_with('\n') => {}
            _ => return None,
        }
        let answer: Value = serde_json::from_str(&line).expect("an answer is JSON");
        assert_ne!(answer["answer"], "failed", "{ask}: {answer}");
        Some(answer)
    }

    /// Every name of the pool.
    pub(crate) fn names(&mut self) -> Vec<String> {
        let answer = self.ask(&json!({"ask": "entries"})).expect("the daemon runs");
        let items = answer["items"].as_array().expect("a list").iter();
        items.map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// All metadata agree with each other.
    pub(crate) fn check(&mut self) {
        let answer = self.ask(&json!({"ask": "check"})).expect("the daemon runs");
        assert_eq!((&answer["errors"], &answer["leaked_blocks"]), (&json!([]), &json!(0)));
    }
}
