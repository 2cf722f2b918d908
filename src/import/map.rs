//! Where the bytes of an image's disk lie, as a contained qemu-img tells it, line by line.
//!
//! What it tells is about files that were handed to it and are open here: a lie would make another disk of the image, and lead
//! nowhere else.

use super::chain::Chain;
use super::source::{Stop, Stopper};
use crate::contained::{Contained, Job, Output};
use crate::failure::{Code, Failure};
use crate::qemu::{PACKAGE, limits};
use crate::size::GRAIN_BYTES;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use std::io::{self, Read};
use std::process::ChildStdout;
use std::time::Duration;

/// A run of the disk that is read from where it lies, or left out, has at least so many bytes; shorter ones are not worth it.
const RUN_BYTES_MIN: u64 = 64 << 10;
/// Bytes of one line, at most.
const LINE_BYTES_MAX: usize = 4096;
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Looks without a word until it is given up: five minutes.
const LOOKS_MAX: u32 = 3000;
const END_PATIENCE: Duration = Duration::from_secs(30);

/// Where a run of the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: it reads as zeros.
    Zero,
    /// As it is, from this byte of this file of the chain on.
    File { index: usize, offset: u64 },
    /// In the image, in another form.
    Inside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) length: u64,
    pub(super) place: Place,
}

/// A line of `qemu-img map --output=json`.
#[derive(Debug, Deserialize)]
struct Line {
    start: u64,
    length: u64,
    depth: usize,
    zero: bool,
    data: bool,
    offset: Option<u64>,
}

impl Line {
    fn run(&self) -> Run {
        let place = match (self.data, self.zero, self.offset) {
            (false, true, _) => Place::Zero,
            (true, false, Some(offset)) => Place::File { index: self.depth, offset },
            _ => Place::Inside,
        };
        Run { length: self.length, place }
    }
}

/// The lines, as they come.
pub(super) struct Map<'a> {
    /// `None` once it has ended.
    child: Option<Contained>,
    output: ChildStdout,
    stopper: &'a Stopper,
    shown: String,
    what: &'a str,
    heard: Vec<u8>,
    /// Bytes of the disk that were told of.
    at: u64,
}

impl<'a> Map<'a> {
    pub(super) fn start(chain: &Chain, stopper: &'a Stopper, what: &'a str) -> Result<Self, Failure> {
        let job = Job {
            program: "qemu-img",
            package: PACKAGE,
            arguments: ["map", "--output=json", &format!("json:{}", chain.node())]
                .map(str::to_owned)
                .to_vec(),
            files: &chain.handed(),
            limits: limits(chain.size),
            socket: None,
            output: Output::Heard,
        };
        let mut child = Contained::start(job, what)?;
        let output = child.take_output().expect("it is to be heard");
        let shown = chain.shown().to_owned();
        Ok(Self { child: Some(child), output, stopper, shown, what, heard: Vec::new(), at: 0 })
    }

    /// The next run of the disk; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Run>, Stop> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return self.parse(&line).map(Some).ok_or_else(|| self.failed("it makes no sense"));
            }
            if self.heard.len() > LINE_BYTES_MAX {
                return Err(self.failed("it does not end its lines"));
            }
            let mut part = [0; LINE_BYTES_MAX];
            match self.hear(&mut part)? {
                0 => return self.end().map(|()| None),
                length => self.heard.extend(&part[..length]),
            }
        }
    }

    /// Lines are the elements of an array, and follow each other without gaps.
    fn parse(&mut self, line: &[u8]) -> Option<Run> {
        let text = std::str::from_utf8(line).ok()?.trim().trim_start_matches('[');
        let line: Line = serde_json::from_str(text.trim_end_matches([',', ']'])).ok()?;
        if line.start != self.at || line.length == 0 {
            return None;
        }
        self.at = self.at.checked_add(line.length)?;
        Some(line.run())
    }

    fn hear(&mut self, part: &mut [u8]) -> Result<usize, Stop> {
        for _ in 0..LOOKS_MAX {
            if self.stopper.is_stopped() {
                return Err(Stop::Unwanted);
            }
            let ready = poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&LOOK));
            if !matches!(ready, Ok(1..)) {
                continue;
            }
            match self.output.read(part) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error.to_string())),
                Ok(length) => return Ok(length),
            }
        }
        Err(self.failed("it said nothing for five minutes"))
    }

    fn end(&mut self) -> Result<(), Stop> {
        let Some(child) = self.child.take() else { return Ok(()) };
        child.finish(&[0], END_PATIENCE, &|| self.stopper.is_stopped()).map_err(|why| self.failed(&why))
    }

    fn failed(&self, why: &str) -> Stop {
        let why = format!("qemu-img, confined, cannot tell where the disk of {} lies: {why}", self.shown);
        Failure::new(Code::Failed, self.what, why, "qemu-img check on a copy of the image").into()
    }
}

/// Makes runs of whole blocks of what is told; only the disk's end may be inside of a block. What is short, or beyond the end of
/// its file, is left to who reads the image.
#[derive(Debug)]
pub(super) struct Runs {
    size: u64,
    /// Of the files of the chain.
    lengths: Vec<u64>,
    /// Bytes that were told of, and those of them that are in runs.
    told: u64,
    covered: u64,
}

impl Runs {
    pub(super) fn new(size: u64, lengths: Vec<u64>) -> Self {
        Self { size, lengths, told: 0, covered: 0 }
    }

    /// The runs that are certain by now.
    pub(super) fn add(&mut self, extent: Run) -> Vec<Run> {
        let start = self.told;
        self.told = self.size.min(start.saturating_add(extent.length));
        let from = start.next_multiple_of(GRAIN_BYTES);
        let to = if self.told == self.size { self.size } else { self.told - self.told % GRAIN_BYTES };
        let is_short = to.saturating_sub(from) < RUN_BYTES_MIN;
        let place = match extent.place {
            _ if is_short => return Vec::new(),
            Place::Inside => return Vec::new(),
            Place::Zero => Place::Zero,
            Place::File { index, offset } => {
                let offset = offset.saturating_add(from - start);
                let is_there = self
                    .lengths
                    .get(index)
                    .is_some_and(|length| offset.checked_add(to - from).is_some_and(|end| end <= *length));
                if !is_there {
                    return Vec::new();
                }
                Place::File { index, offset }
            }
        };
        let before = Run { length: from - self.covered, place: Place::Inside };
        self.covered = to;
        let runs = [before, Run { length: to - from, place }];
        runs.into_iter().filter(|run| run.length > 0).collect()
    }

    /// What is left, if the whole disk was told of.
    pub(super) fn last(&mut self) -> Option<Run> {
        let length = self.size - self.covered;
        let is_all = self.told == self.size && length > 0;
        self.covered = self.told;
        is_all.then_some(Run { length, place: Place::Inside })
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Place, Run, Runs};
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    const FILE: Place = Place::File { index: 0, offset: 1 << 20 };

    fn shape(extents: &[(u64, Place)], size: u64) -> Vec<(u64, Place)> {
        let mut runs = Runs::new(size, vec![1 << 40]);
        let mut all: Vec<Run> =
            extents.iter().flat_map(|&(length, place)| runs.add(Run { length, place })).collect();
        all.extend(runs.last());
        all.into_iter().map(|run| (run.length, run.place)).collect()
    }

    #[test]
    fn runs_are_of_whole_blocks_and_short_ones_are_left_to_others() {
        assert_eq!(
            shape(&[(4096, FILE), (4096, Place::Zero), (8192, FILE)], 16_384),
            [(16_384, Place::Inside)]
        );
        let odd = [(512, FILE), (1 << 20, Place::Zero), (512, FILE)];
        let inside = |length| (length, Place::Inside);
        let size = (1 << 20) + 1024;
        assert_eq!(shape(&odd, size), [inside(4096), ((1 << 20) - 4096, Place::Zero), inside(1024)]);
        assert_eq!(shape(&[(100_352, FILE)], 100_352), [(100_352, FILE)], "the end of a disk");
        let shifted = Place::File { index: 0, offset: (1 << 20) + 3584 };
        assert_eq!(
            shape(&[(512, Place::Zero), (1 << 20, FILE)], (1 << 20) + 512),
            [inside(4096), ((1 << 20) - 3584, shifted)]
        );
        let beyond = Place::File { index: 0, offset: 1 << 40 };
        let nowhere = Place::File { index: 1, offset: 0 };
        assert_eq!(shape(&[(1 << 20, beyond), (1 << 20, nowhere)], 2 << 20), [inside(2 << 20)]);
        assert_eq!(
            shape(&[(1 << 20, Place::Zero)], 2 << 20),
            [(1 << 20, Place::Zero)],
            "the rest is missing"
        );
    }

    #[test]
    fn lines_of_qemu_img_are_understood() {
        let line = r#"{ "start": 0, "length": 65536, "depth": 1, "present": true, "zero": false, "data": true, "offset": 327680}"#;
        let run = serde_json::from_str::<Line>(line).expect("a line").run();
        assert_eq!(run, Run { length: 65_536, place: Place::File { index: 1, offset: 327_680 } });
        let compressed = line.replace(", \"offset\": 327680", ", \"compressed\": true");
        assert_eq!(serde_json::from_str::<Line>(&compressed).expect("a line").run().place, Place::Inside);
    }

    proptest! {
        #[test]
        fn runs_cover_the_disk_once_and_lie_where_they_were_told_to(
            extents in prop::collection::vec((1_u64..400, 0_u8..3, any::<u16>()), 1..20),
        ) {
            let place = |kind, offset| match kind {
                0 => Place::Zero,
                1 => Place::Inside,
                _ => Place::File { index: 0, offset: u64::from(offset) * 512 },
            };
            let extents: Vec<(u64, Place)> =
                extents.into_iter().map(|(sectors, kind, offset)| (sectors * 512, place(kind, offset))).collect();
            let size = extents.iter().map(|(length, _)| length).sum();
            let told = |at: u64| {
                let mut start = 0;
                let found = extents.iter().find(|(length, _)| { start += length; at < start }).expect("inside");
                let within = at - (start - found.0);
                match found.1 {
                    Place::File { index, offset } => Place::File { index, offset: offset + within },
                    other => other,
                }
            };
            let mut at = 0_u64;
            for (length, place) in shape(&extents, size) {
                prop_assert!(at.is_multiple_of(4096));
                for step in (0..length).step_by(512) {
                    match place {
                        Place::Inside => {}
                        Place::Zero => prop_assert_eq!(told(at + step), Place::Zero),
                        Place::File { index, offset } => {
                            prop_assert_eq!(told(at + step), Place::File { index, offset: offset + step });
                        }
                    }
                }
                at += length;
            }
            prop_assert_eq!(at, size);
        }
    }
}
