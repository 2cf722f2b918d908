//! A connection played through without sockets and without a pool, for tests and for a fuzzer: any bytes a client may
//! send go in, and what the door promises (W1, W3, W4) is asserted on the way.

pub(crate) mod certificates;
pub(crate) mod client;
pub mod secure;

use crate::fields::Fields;
use crate::handshake::{Description, Dialect, Exports, Handshake, Listed, Progress, Refusal, Terms};
use crate::limits::{
    COPIED_BYTES_MAX, HANDSHAKE_RECEIVE_BYTES, Limits, STAGE_BYTES, STATUS_DESCRIPTORS_MAX, bytes,
};
use crate::proto::EXTENDED_REQUEST_BYTES;
use crate::session::{Ask, Leaving, Phase, Session, Slot, Step};
use crate::tls::Stance;
use std::collections::VecDeque;
use thinpool::{Action, ChangeStatus, ExtentKind, ExtentStatus, Payload};

/// Bytes of every rehearsed export.
const SIZE: u64 = 1 << 20;
/// A chunk of one context, and a header or two, more than what is staged at once.
const SLACK_BYTES: usize = 16 * STATUS_DESCRIPTORS_MAX + (4 << 10);

/// A fixed list of exports; their names, and whether they are read-only.
#[derive(Debug, Clone)]
pub(crate) struct FixedExports {
    pub(crate) exports: Vec<(String, bool)>,
    /// What was opened last.
    pub(crate) opened: Option<String>,
}

impl FixedExports {
    pub(crate) fn new(exports: &[(&str, bool)]) -> Self {
        let exports = exports.iter().map(|(name, read_only)| ((*name).to_owned(), *read_only)).collect();
        Self { exports, opened: None }
    }
}

impl Exports for FixedExports {
    fn list(&self) -> Result<Vec<Listed>, Refusal> {
        let listed = |(name, _): &(String, bool)| Listed { name: name.clone(), text: "rehearsed".to_owned() };
        Ok(self.exports.iter().map(listed).collect())
    }

    fn describe(&self, name: &str) -> Result<Description, Refusal> {
        let found = match name {
            "" => self.exports.first(),
            name => self.exports.iter().find(|export| export.0 == name),
        };
        let (name, read_only) = found.ok_or(Refusal::Unknown)?;
        Ok(Description {
            name: name.clone(),
            text: "rehearsed".to_owned(),
            size: SIZE,
            read_only: *read_only,
            points: vec!["monday".to_owned(), "sunday".to_owned()],
        })
    }

    fn open(&mut self, name: &str, points: &[&str]) -> Result<Description, Refusal> {
        let export = self.describe(name)?;
        assert!(points.iter().all(|point| export.points.iter().any(|known| known == point)));
        self.opened = Some(export.name.clone());
        Ok(export)
    }
}

/// Plays a connection: the first byte says in which pieces the client's bytes arrive, the rest are its bytes.
/// Returns the number of requests that were answered.
///
/// # Panics
/// When the door breaks a promise.
pub fn rehearse(script: &[u8]) -> usize {
    let Some((first, stream)) = script.split_first() else { return 0 };
    let piece = usize::from(*first) + 1;
    let mut arriving = Arriving { pieces: stream.chunks(piece).collect(), unused: Vec::new() };
    match rehearse_handshake(&mut arriving) {
        Some(terms) => rehearse_session(&terms, &mut arriving),
        None => 0,
    }
}

#[derive(Debug)]
struct Arriving<'a> {
    pieces: VecDeque<&'a [u8]>,
    unused: Vec<u8>,
}

impl Arriving<'_> {
    /// Whether more came.
    fn receive(&mut self) -> bool {
        let Some(piece) = self.pieces.pop_front() else { return false };
        self.unused.extend_from_slice(piece);
        true
    }

    /// Lets `step` look at what is there and forgets what it used.
    fn feed<T>(&mut self, step: impl FnOnce(&mut &[u8]) -> T) -> T {
        let mut input = self.unused.as_slice();
        let result = step(&mut input);
        let used = self.unused.len() - input.len();
        self.unused.drain(..used);
        result
    }
}

fn rehearse_handshake(arriving: &mut Arriving<'_>) -> Option<Terms> {
    let mut exports = FixedExports::new(&[("disk", false), ("disk@yesterday", true)]);
    let mut out = Vec::new();
    let mut handshake = Handshake::new(Stance::Offered, &mut out);
    loop {
        out.clear();
        let progress = arriving.feed(|input| handshake.advance(input, &mut exports, &mut out));
        assert!(out.len() < HANDSHAKE_RECEIVE_BYTES, "an answer of {} bytes", out.len());
        match progress {
            Progress::Hungry => {
                let waiting = arriving.unused.len();
                assert!(waiting < HANDSHAKE_RECEIVE_BYTES - 256, "{waiting} bytes and still hungry");
                if !arriving.receive() {
                    return None;
                }
            }
            Progress::Answered => assert!(!out.is_empty(), "an answer has bytes"),
            Progress::Agreed(terms) => {
                assert!(exports.opened.is_some(), "an export is open");
                return Some(terms);
            }
            // What TLS carries is a stream like any other; what came before it is thrown away.
            Progress::StartTls => arriving.unused.clear(),
            Progress::Over => return None,
        }
    }
}

fn rehearse_session(terms: &Terms, arriving: &mut Arriving<'_>) -> usize {
    let limits = Limits { requests_in_flight: 4, bytes_in_flight: 256 << 10, ..Limits::default() };
    let mut session = Session::new(terms.clone(), &limits);
    let mut engine: VecDeque<(Slot, Ask)> = VecDeque::new();
    let (mut taken, mut answered) = (0, Answered::default());
    loop {
        match arriving.feed(|input| session.next(input, SIZE, Phase::Serving)) {
            Step::Submit(slot, ask) => {
                assert_legal(&ask, terms);
                engine.push_back((slot, ask));
                taken += 1;
                assert!(engine.len() <= 4, "more requests than slots");
                assert_bounded(&engine);
            }
            Step::Answered => taken += 1,
            Step::Full => {
                // Every second time the youngest is answered first: replies come in any order.
                let next = if taken % 2 == 0 { engine.pop_front() } else { engine.pop_back() };
                if let Some((slot, ask)) = next
                    && let Some(more) = session.complete(slot, Ok(perform(ask)))
                {
                    engine.push_back((slot, more));
                }
                answered.stage(&mut session, terms);
            }
            Step::Hungry => {
                assert!(arriving.unused.len() < EXTENDED_REQUEST_BYTES, "a whole header and still hungry");
                if !arriving.receive() {
                    break;
                }
            }
            Step::Disconnect | Step::Lost => break,
        }
    }
    session.end_intake();
    while let Some((slot, ask)) = engine.pop_front() {
        let more = session.complete(slot, Ok(perform(ask)));
        engine.extend(more.map(|ask| (slot, ask)));
    }
    while session.unanswered() > 0 {
        answered.stage(&mut session, terms);
    }
    if terms.dialect != Dialect::Simple {
        assert_eq!(answered.replies(), taken, "one reply for each request");
    }
    taken
}

/// What the client has got.
#[derive(Debug, Default)]
struct Answered(Vec<u8>);

impl Answered {
    fn stage(&mut self, session: &mut Session, terms: &Terms) {
        let mut out = Vec::new();
        let leaving = session.stage(&mut out, COPIED_BYTES_MAX);
        assert!(out.len() <= STAGE_BYTES + SLACK_BYTES, "{} bytes staged", out.len());
        if terms.dialect != Dialect::Simple {
            self.0.extend(out);
            self.0.extend_from_slice(leaving.as_ref().map_or(&[], Leaving::run));
        }
        leaving.into_iter().for_each(|leaving| session.has_left(leaving));
    }

    /// The number of last chunks.
    fn replies(&self) -> usize {
        let mut fields = Fields::new(&self.0);
        let mut replies = 0;
        while !fields.is_empty() {
            let magic = fields.u32().expect("a magic");
            if magic == crate::proto::SIMPLE_REPLY_MAGIC {
                fields.take(12).expect("an error and a cookie");
                replies += 1;
                continue;
            }
            let flags = fields.u16().expect("flags");
            fields.take(10).expect("a type and a cookie");
            let length = if magic == crate::proto::EXTENDED_REPLY_MAGIC {
                fields.u64().expect("an offset");
                fields.u64().and_then(|length| usize::try_from(length).ok()).expect("a length")
            } else {
                assert_eq!(magic, crate::proto::STRUCTURED_REPLY_MAGIC);
                bytes(fields.u32().expect("a length"))
            };
            fields.take(length).expect("the chunk's payload");
            replies += usize::from(flags & 1);
        }
        replies
    }
}

/// One request may be larger than the limit, but then no other holds memory beside it.
fn assert_bounded(engine: &VecDeque<(Slot, Ask)>) {
    let held: Vec<usize> = engine.iter().map(|(_, ask)| memory(ask)).filter(|size| *size > 0).collect();
    let sum: usize = held.iter().sum();
    assert!(sum <= 256 << 10 || held.len() == 1, "{sum} bytes in {} requests", held.len());
}

fn memory(ask: &Ask) -> usize {
    match ask {
        Ask::Act(Action::Read { buffer, .. } | Action::Write { buffer, .. }) => buffer.len(),
        _ => 0,
    }
}

fn assert_legal(ask: &Ask, terms: &Terms) {
    let size_of = |buffer: &blockstore::Buffer| u64::try_from(buffer.len()).expect("a size in memory");
    let (offset, length, changes) = match ask {
        Ask::Changes { since, range } => {
            assert!(*since < terms.contexts.len(), "a snapshot that was selected");
            (range.offset, range.length, false)
        }
        Ask::Act(action) => match action {
            Action::Read { offset, buffer } => (*offset, size_of(buffer), false),
            Action::Write { offset, buffer, .. } => (*offset, size_of(buffer), true),
            Action::Flush => return,
            Action::Trim { offset, length, .. } | Action::WriteZeroes { offset, length, .. } => {
                (*offset, *length, true)
            }
            Action::Extents { offset, length, .. } => (*offset, *length, false),
            Action::Changes { .. } => unreachable!("a session has no attachments"),
        },
    };
    assert!(length > 0);
    assert!(offset.checked_add(length).is_some_and(|end| end <= SIZE), "inside the export");
    assert!(!(changes && terms.read_only), "a read-only export is not changed");
}

/// An engine on which everything was written, except for the first half of what is asked.
fn perform(ask: Ask) -> Payload {
    let action = match ask {
        Ask::Act(action) => action,
        Ask::Changes { range, .. } => {
            let change = |changed| ChangeStatus { length: range.length, changed };
            return Payload::Changes(vec![change(true), change(false)]);
        }
    };
    match action {
        Action::Read { mut buffer, .. } => {
            let half = buffer.len() / 2;
            buffer[half..].fill(0x5a);
            Payload::Buffer(buffer)
        }
        Action::Extents { length, .. } => Payload::Extents(vec![
            ExtentStatus { length: length / 2, kind: ExtentKind::Hole },
            ExtentStatus { length, kind: ExtentKind::Shared { depth: 3 } },
        ]),
        _ => Payload::None,
    }
}

#[cfg(test)]
mod tests;
