//! A tail gives every record that was appended and not retired; whatever else its memory holds, it gives what is in
//! order, and can be bound again.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use thinpool::{Incarnation, Shape, Tail, TailContents, TailImage};

const LANES: u8 = 2;
const LANE_BYTES: u64 = 4096;
const NEXT_INCARNATION: Incarnation = [0xff; 16];
/// Incarnations of one script; none is ever used twice.
const BINDS_MAX: u8 = 0xfe;

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    Append { lane: u8, gap: u8, record: &'a [u8] },
    Retire { back: u8 },
    Void,
    Bind,
}

#[derive(Debug, Arbitrary)]
enum End {
    Whole,
    /// Killed in the newest record of a lane.
    Torn(u8),
    /// The memory is not what it was.
    Damaged {
        changes: Vec<(u16, u8)>,
        shortened: u16,
        sealed: bool,
    },
}

#[derive(Debug)]
struct Model {
    tail: Tail,
    incarnation: u8,
    sequence: u64,
    /// What a reader must find, by sequence; with it, its lane.
    records: BTreeMap<u64, (u8, Vec<u8>)>,
    voided: bool,
}

impl Model {
    fn new() -> Self {
        let tail = Tail::in_memory(Shape::new(LANES.into(), LANE_BYTES).expect("a small shape"));
        tail.bind([0; 16]);
        Self { tail, incarnation: 0, sequence: 0, records: BTreeMap::new(), voided: false }
    }

    fn take(&mut self, step: &Step<'_>) {
        match step {
            Step::Append { lane, gap, record } => self.append(lane % LANES, *gap, record),
            Step::Retire { back } => {
                let upto = self.sequence.saturating_sub((*back).into());
                self.tail.retire(upto);
                self.records.retain(|sequence, _| *sequence > upto);
            }
            Step::Void => {
                self.tail.void();
                self.voided = true;
            }
            Step::Bind => {
                self.incarnation = (self.incarnation + 1).min(BINDS_MAX);
                self.tail.bind([self.incarnation; 16]);
                (self.sequence, self.voided) = (0, false);
                self.records.clear();
            }
        }
    }

    fn append(&mut self, lane: u8, gap: u8, record: &[u8]) {
        let sequence = self.sequence + u64::from(gap) + 1;
        if self.tail.append(lane.into(), sequence, record).is_ok() {
            self.sequence = sequence;
            self.records.insert(sequence, (lane, record.to_vec()));
        } else {
            assert!(!self.records.is_empty() || record.len() > self.tail.record_bytes_max(), "there is room");
        }
    }

    fn expected(&self) -> TailContents {
        let records = self.records.iter().filter(|_| !self.voided);
        let records = records.map(|(sequence, (_, record))| (*sequence, record.clone())).collect();
        let incarnation = Some([self.incarnation; 16]);
        TailContents { incarnation, voided: self.voided, records, holes: 0 }
    }

    fn tear(&mut self, lane: u8) -> TailImage {
        let newest =
            self.records.iter().rev().find(|(_, (of, _))| *of == lane).map(|(sequence, _)| *sequence);
        newest.and_then(|sequence| self.records.remove(&sequence));
        self.tail.torn_image(lane.into())
    }
}

fn damaged(image: &TailImage, changes: &[(u16, u8)], shortened: u16, sealed: bool) -> TailImage {
    let mut bytes = image.bytes().to_vec();
    for (at, byte) in changes {
        let at = usize::from(*at) % bytes.len();
        bytes[at] = *byte;
    }
    if sealed {
        bytes[12..16].fill(0);
        let checksum = crc32c::crc32c(&bytes[..32]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes.truncate(bytes.len() - usize::from(shortened).min(bytes.len()));
    bytes.into()
}

fn reread(image: &TailImage, expected: Option<TailContents>) {
    let Ok(tail) = Tail::from_image(image) else {
        assert!(expected.is_none(), "an image of a tail is a tail");
        return;
    };
    let contents = tail.read();
    assert!(contents.records.is_sorted_by_key(|(sequence, _)| *sequence));
    if let Some(expected) = expected {
        assert_eq!(TailContents { holes: 0, ..contents }, expected);
    }
    tail.bind(NEXT_INCARNATION);
    assert!(tail.read().records.is_empty(), "nothing of an earlier incarnation is a record");
    tail.append(0, 1, b"next").expect("an empty lane has room");
    assert_eq!(tail.read().records, [(1, b"next".to_vec())]);
}

fuzz_target!(|script: (Vec<Step>, End)| {
    let (steps, end) = script;
    let mut model = Model::new();
    steps.iter().take(usize::from(BINDS_MAX)).for_each(|step| model.take(step));
    match end {
        End::Whole => reread(&model.tail.image(), Some(model.expected())),
        End::Torn(lane) => {
            let image = model.tear(lane % LANES);
            reread(&image, Some(model.expected()));
        }
        End::Damaged { changes, shortened, sealed } => {
            reread(&damaged(&model.tail.image(), &changes, shortened, sealed), None);
        }
    }
});
