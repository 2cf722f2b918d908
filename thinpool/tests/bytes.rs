//! Requests of any offset and length, several at a time, beside a model that is the bytes themselves.

mod engine;

use blockstore::simulated::Profile;
use blockstore::{Buffer, Durability};
use engine::{Engine, MIB, snapshot, tiny_limits, volume};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use std::ops::Range;
use thinpool::{Action, Attachment, Command, GeometryOptions, Payload, Request, ZeroSpace};

const SIZE: usize = 12 * 4096;

#[derive(Debug, Clone)]
enum Step {
    /// Together: none of them touches a byte of another.
    Changes(Vec<Change>),
    Read(Range<usize>),
    Snapshot,
    Checkpoint,
}

#[derive(Debug, Clone)]
struct Change {
    range: Range<usize>,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Write(u8),
    Zero(ZeroSpace),
    Trim,
}

fn range() -> impl Strategy<Value = Range<usize>> {
    let place = prop_oneof![0..SIZE, (0..SIZE / 512).prop_map(|sector| sector * 512)];
    let length = prop_oneof![1..40_usize, 400..600_usize, 1..9000_usize];
    (place, length).prop_map(|(start, length)| start..(start + length).min(SIZE))
}

fn change() -> impl Strategy<Value = Change> {
    let what = prop_oneof![
        4 => (1..=255_u8).prop_map(What::Write),
        1 => any::<bool>().prop_map(|keep| What::Zero(if keep { ZeroSpace::Allocate } else { ZeroSpace::Release })),
        1 => any::<bool>().prop_map(|_| What::Trim),
    ];
    (range(), what).prop_map(|(range, what)| Change { range, what })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(change(), 1..6).prop_map(|changes| Step::Changes(apart(changes))),
        3 => range().prop_map(Step::Read),
        1 => any::<bool>().prop_map(|snapshot| if snapshot { Step::Snapshot } else { Step::Checkpoint }),
    ]
}

/// Those that touch no byte of one before.
fn apart(changes: Vec<Change>) -> Vec<Change> {
    let mut kept: Vec<Change> = Vec::new();
    for change in changes {
        let overlaps =
            |other: &Change| other.range.start < change.range.end && change.range.start < other.range.end;
        if !kept.iter().any(overlaps) {
            kept.push(change);
        }
    }
    kept
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("small")
}

fn action(change: &Change) -> Action {
    let (offset, bytes) = (length(change.range.start), change.range.len());
    let durability = Durability::Cached;
    match change.what {
        What::Write(byte) => {
            Action::Write { offset, buffer: Buffer::from_slice(&vec![byte; bytes]), durability }
        }
        What::Zero(space) => Action::WriteZeroes { offset, length: length(bytes), durability, space },
        What::Trim => Action::Trim { offset, length: length(bytes), durability },
    }
}

/// What the change makes of the bytes: a trim of whole blocks, of which the rest stays as it is.
fn apply(model: &mut [u8], change: &Change) {
    let (range, byte) = match change.what {
        What::Write(byte) => (change.range.clone(), byte),
        What::Zero(_) => (change.range.clone(), 0),
        What::Trim => {
            let (start, end) = (change.range.start.next_multiple_of(4096), change.range.end / 4096 * 4096);
            (start..end.max(start), 0)
        }
    };
    model[range].fill(byte);
}

/// All at once: submitted before any is answered.
fn make(engine: &mut Engine, v: &Attachment, changes: &[Change]) {
    for (tag, change) in (0..).zip(changes) {
        let request = Request { tag, attachment: v.clone(), action: action(change) };
        engine.channel.submit(request).expect("there is room");
    }
    let mut replies = Vec::new();
    while replies.len() < changes.len() {
        engine.channel.poll(&mut replies);
        engine.tick();
    }
    assert!(replies.iter().all(|reply| matches!(reply.result, Ok(Payload::None))), "{replies:?}");
}

fn play(mut engine: Engine, steps: &[Step]) {
    engine.must(volume("v", length(SIZE)));
    let v = engine.attach("v");
    let mut model = vec![0; SIZE];
    let mut sealed: Vec<(String, Vec<u8>)> = Vec::new();
    for step in steps {
        match step {
            Step::Changes(changes) => {
                make(&mut engine, &v, changes);
                changes.iter().for_each(|change| apply(&mut model, change));
            }
            Step::Read(range) => {
                let found = engine.read(&v, length(range.start), range.len());
                assert!(found == model[range.clone()], "{range:?}");
            }
            Step::Snapshot => {
                let name = format!("v@{}", sealed.len());
                engine.must(snapshot(&name));
                sealed.push((name, model.clone()));
            }
            Step::Checkpoint => engine.must(Command::Checkpoint),
        }
    }
    assert!(engine.read(&v, 0, SIZE) == model, "the volume at the end");
    for (name, bytes) in sealed {
        let point = engine.look(&name);
        assert!(engine.read(&point, 0, SIZE) == bytes, "{name}");
    }
    engine.assert_clean();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_are_written_zeroed_and_trimmed_and_those_beside_them_stay(
        steps in prop::collection::vec(step(), 1..30),
    ) {
        play(Engine::with(512 * MIB, tiny_limits(), GeometryOptions::default()), &steps);
    }

    #[test]
    fn so_are_they_on_a_device_of_large_sectors(steps in prop::collection::vec(step(), 1..20)) {
        let profile = Profile { alignment: 4096, ..Profile::default() };
        let geometry = GeometryOptions { journal_blocks: Some(64), group_blocks: Some(128) };
        play(Engine::simulated(64 * MIB, profile, tiny_limits(), geometry).0, &steps);
    }
}
