//! Who has changed what: a line of JSON for each change, also for those that were refused. Whoever holds the pool writes it, so a
//! daemon and a command without one write the same.

use crate::clock;
use crate::failure::Failure;
use crate::output::say;
use crate::state_directory::StateDirectory;
use crate::wire::{Answer, Ask};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;
use utoipa::ToSchema;

/// A file that has grown past this becomes the older one of two.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// An order with ten thousand names is shorter.
const ORDER_BYTES_MAX: usize = 1 << 20;
const TEXT_CHARS_MAX: usize = 1000;

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Record {
    /// RFC 3339, UTC: when it ended.
    pub(crate) time: String,
    pub(crate) pool: String,
    /// The user number of who asked.
    pub(crate) user: u32,
    pub(crate) pid: Option<i32>,
    /// The command, such as `clone create`.
    pub(crate) command: String,
    /// All that was asked, word for word, without what is in seeds.
    #[schema(value_type = Object)]
    pub(crate) order: serde_json::Value,
    /// The job it was, if it was one.
    pub(crate) job: Option<String>,
    pub(crate) seconds: f64,
    /// Why nothing was changed, or not all.
    pub(crate) failure: Option<Failure>,
}

impl Record {
    fn new(
        pool: &str,
        author: &Author,
        command: &str,
        order: serde_json::Value,
        start: Instant,
        failure: Option<Failure>,
    ) -> Self {
        Self {
            time: clock::rfc3339(clock::unix_seconds()),
            pool: pool.to_owned(),
            user: author.user,
            pid: author.pid,
            command: command.to_owned(),
            order: bounded(order),
            job: author.job.clone(),
            seconds: start.elapsed().as_secs_f64(),
            failure: failure.map(shortened),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct RecordList {
    pub(crate) items: Vec<Record>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) user: u32,
    pub(crate) pid: Option<i32>,
    pub(crate) job: Option<String>,
}

impl Author {
    pub(crate) fn this_process() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { user: rustix::process::geteuid().as_raw(), pid: Some(pid), job: None }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct History {
    path: Option<PathBuf>,
}

impl History {
    /// Where no history can be kept, that is said, and nothing is refused for it.
    pub(crate) fn open() -> Self {
        match StateDirectory::choose() {
            Ok(state) => Self { path: Some(state.history()) },
            Err(failure) => {
                say(&format!("note: no history is kept: {}", failure.why));
                Self { path: None }
            }
        }
    }

    /// Notes what came of a change that only this machine can make: of the pool's devices.
    pub(crate) fn note_change<T>(
        &self,
        pool: &str,
        command: &str,
        order: serde_json::Value,
        run: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let start = clock::now();
        let result = run();
        self.note(&Record::new(
            pool,
            &Author::this_process(),
            command,
            order,
            start,
            result.as_ref().err().cloned(),
        ));
        result
    }

    /// Carries out a change and notes what came of it.
    pub(crate) fn of<T>(
        &self,
        pool: &str,
        author: &Author,
        ask: &Ask,
        run: impl FnOnce() -> Result<T, Failure>,
        failure_in: impl Fn(&T) -> Option<Failure>,
    ) -> Result<T, Failure> {
        if !ask.is_change() {
            return run();
        }
        let start = clock::now();
        let result = run();
        let failure = match &result {
            Ok(value) => failure_in(value),
            Err(failure) => Some(failure.clone()),
        };
        self.note(&Record::new(pool, author, ask.word(), order_of(ask), start, failure));
        result
    }

    /// The newest of a pool, or of all, the oldest of them first.
    pub(crate) fn newest(&self, pool: Option<&str>, count: usize) -> Vec<Record> {
        let Some(path) = self.path.as_ref().filter(|_| count > 0) else { return Vec::new() };
        let mut found = std::collections::VecDeque::new();
        for path in [older(path), path.clone()] {
            let Ok(file) = File::open(path) else { continue };
            // A line that makes no sense is a newer version's, or was cut by a crash.
            let lines = BufReader::new(file).lines().map_while(Result::ok);
            let records = lines.filter_map(|line| serde_json::from_str::<Record>(&line).ok());
            for record in records.filter(|record| pool.is_none_or(|pool| record.pool == pool)) {
                if found.len() == count {
                    found.pop_front();
                }
                found.push_back(record);
            }
        }
        found.into()
    }

    fn note(&self, record: &Record) {
        let Some(path) = &self.path else { return };
        if let Err(error) = append(path, record) {
            say(&format!("note: this change is missing in the history: {}: {error}", path.display()));
        }
    }
}

/// What an answer says of names that were left out.
pub(crate) fn failure_in(answer: &Answer) -> Option<Failure> {
    match answer {
        Answer::Removed(removed) => removed.failures.first().cloned(),
        _ => None,
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1.jsonl")
}

fn append(path: &Path, record: &Record) -> io::Result<()> {
    let mut file = open_whole(path)?;
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    // Of a line that a crash has cut, the next one is kept apart.
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != [b'\n'] {
        line.insert(0, '\n');
    }
    file.write_all(line.as_bytes())
}

/// The file there is at this moment, locked: of two writers each has its line whole, and only one of them turns the files.
fn open_whole(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let held = file.metadata()?;
        let is_current =
            path.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino()));
        match (is_current, held.len() > FILE_BYTES_MAX) {
            (true, false) => return Ok(file),
            (true, true) => std::fs::rename(path, older(path))?,
            // Another writer has turned the files meanwhile.
            (false, _) => {}
        }
    }
}

/// What was asked, without what is in seeds: that may be keys and passwords.
fn order_of(ask: &Ask) -> serde_json::Value {
    let mut order = serde_json::to_value(ask).unwrap_or_default();
    if let Some(seed) = order.get_mut("seed") {
        *seed = left_out(seed);
    }
    order
}

fn left_out(value: &serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "left_out_bytes": value.to_string().len() })
}

/// What was asked, unless that is so long that a few of it would push everything else out of the files.
fn bounded(order: serde_json::Value) -> serde_json::Value {
    if order.to_string().len() <= ORDER_BYTES_MAX { order } else { left_out(&order) }
}

fn shortened(mut failure: Failure) -> Failure {
    for text in [&mut failure.what, &mut failure.why, &mut failure.next] {
        *text = text.chars().take(TEXT_CHARS_MAX).collect();
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::{Author, History};
    use crate::failure::{Code, Failure};
    use crate::wire::{Ask, SnapshotOrder};

    #[test]
    fn changes_are_noted_with_their_outcome_and_looks_are_not() {
        let place = tempfile::tempdir().expect("a directory");
        let history = History { path: Some(place.path().join("history.jsonl")) };
        let author = Author { user: 7, pid: None, job: None };
        let snapshot = Ask::Snapshot(SnapshotOrder { names: vec!["a@b".to_owned()] });
        let none = |_: &()| None;
        history.of("p0", &author, &Ask::Status, || Ok(()), none).expect("a look");
        history.of("p0", &author, &snapshot, || Ok(()), none).expect("a change");
        let refused = || Err(Failure::new(Code::Conflict, "a", "b", "c"));
        history.of::<()>("p1", &author, &snapshot, refused, none).expect_err("refused");
        let all = history.newest(None, 10);
        let seen: Vec<_> =
            all.iter().map(|r| (r.pool.as_str(), r.command.as_str(), r.failure.is_some())).collect();
        assert_eq!(seen, [("p0", "snap create", false), ("p1", "snap create", true)]);
        assert_eq!(all[0].order["names"][0], "a@b");
        assert_eq!(history.newest(None, 1)[0].pool, "p1");
        assert_eq!(history.newest(Some("p0"), 10).len(), 1);
    }
}
