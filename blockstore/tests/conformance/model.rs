//! Random operations against the plainest model there is: a row of bytes.
//!
//! A *batch* is in flight at once, spread over two channels; its ranges do not meet, so the model knows the outcome.

use crate::drive::{bytes, channel, contents, finish, queue, write_of};
use crate::factory::Factory;
use blockstore::{Buffer, Durability, Operation};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

const CASES: u32 = 24;
/// The device, and a stripe of it that one operation of a batch may touch, in bytes.
const SIZE: usize = 512 << 10;
const STRIPE: usize = 64 << 10;
const STRIPES: usize = SIZE / STRIPE;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Read,
    Write { stamp: u8, durability: Durability },
    Discard,
    WriteZeroes,
    Allocate,
}

/// A kind, and its range as parts of the stripe.
type Piece = (Kind, usize, usize);

#[derive(Debug, Clone)]
enum Action {
    Batch(Vec<Option<Piece>>),
    Flush,
    Resize { blocks: usize },
}

fn action() -> impl Strategy<Value = Action> {
    let durability = prop_oneof![Just(Durability::Cached), Just(Durability::Through)];
    let kind = prop_oneof![
        3 => Just(Kind::Read),
        4 => (any::<u8>(), durability).prop_map(|(stamp, durability)| Kind::Write { stamp, durability }),
        1 => Just(Kind::Discard),
        1 => Just(Kind::WriteZeroes),
        1 => Just(Kind::Allocate),
    ];
    let piece = proptest::option::of((kind, any::<usize>(), any::<usize>()));
    prop_oneof![
        8 => vec(piece, STRIPES).prop_map(Action::Batch),
        1 => Just(Action::Flush),
        1 => (0..=SIZE / 4096).prop_map(|blocks| Action::Resize { blocks }),
    ]
}

/// The range of a piece on a device of this length; `None` if its stripe is behind the end.
fn range(
    stripe: usize,
    start: usize,
    length: usize,
    size: usize,
    unit: usize,
) -> Option<std::ops::Range<usize>> {
    let end_of_stripe = size.min((stripe + 1) * STRIPE);
    let units = end_of_stripe.checked_sub(stripe * STRIPE)? / unit;
    if units == 0 {
        return None;
    }
    let start = start % units;
    let length = 1 + length % (units - start);
    let at = stripe * STRIPE + start * unit;
    Some(at..at + length * unit)
}

pub(crate) fn random_operations_agree_with_a_row_of_bytes(factory: &dyn Factory) {
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&vec(action(), 1..30), |actions| {
        run_case(factory, &actions);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

fn run_case(factory: &dyn Factory, actions: &[Action]) {
    let made = factory.make(bytes(SIZE));
    let unit = made.device.alignment();
    let can_discard = made.device.discard_granularity().is_some();
    let mut channels = [channel(&*made.device, 3), channel(&*made.device, 8)];
    let mut model = vec![0; SIZE];
    for action in actions {
        let mut queues = [queue([]), queue([])];
        let mut reads = Vec::new();
        match action {
            Action::Resize { .. } if !factory.can_resize() => {}
            Action::Flush => queues[0] = queue([Operation::Flush]),
            Action::Resize { blocks } => {
                queues[1] = queue([Operation::Resize { length: bytes(blocks * 4096) }]);
                model.resize(blocks * 4096, 0);
            }
            Action::Batch(pieces) => {
                let mut lanes = [Vec::new(), Vec::new()];
                for (stripe, piece) in pieces.iter().enumerate() {
                    let Some((kind, start, length)) = *piece else { continue };
                    let Some(range) = range(stripe, start, length, model.len(), unit) else { continue };
                    let (offset, length) = (bytes(range.start), bytes(range.len()));
                    let operation = match kind {
                        Kind::Read => {
                            reads.push((stripe % 2, lanes[stripe % 2].len(), range.clone()));
                            Operation::Read { offset, buffer: Buffer::zeroed(range.len()) }
                        }
                        Kind::Write { stamp, durability: Durability::Cached } => {
                            model[range.clone()].fill(stamp);
                            write_of(offset, &model[range])
                        }
                        Kind::Write { stamp, durability } => {
                            model[range.clone()].fill(stamp);
                            Operation::Write { offset, buffer: Buffer::from_slice(&model[range]), durability }
                        }
                        Kind::Discard if !can_discard => continue,
                        Kind::Discard => {
                            model[range].fill(0);
                            Operation::Discard { offset, length }
                        }
                        Kind::WriteZeroes => {
                            model[range].fill(0);
                            Operation::WriteZeroes { offset, length }
                        }
                        Kind::Allocate => Operation::Allocate { offset, length },
                    };
                    lanes[stripe % 2].push(operation);
                }
                queues = lanes.map(queue);
            }
        }
        for (channel, queue) in channels.iter_mut().zip(&mut queues) {
            channel.submit(queue);
        }
        for (lane, (channel, queue)) in channels.iter_mut().zip(&mut queues).enumerate() {
            for completion in finish(&mut **channel, queue) {
                assert_eq!(completion.result, Ok(()), "{action:?}");
                let is_mine = |read: &&(usize, usize, std::ops::Range<usize>)| {
                    read.0 == lane && bytes(read.1) == completion.token.0
                };
                if let Some((_, _, range)) = reads.iter().find(is_mine) {
                    let buffer = completion.buffer.expect("a read gives its buffer back");
                    assert!(buffer[..] == model[range.clone()], "{range:?} reads wrong");
                }
            }
        }
        assert_eq!(made.device.size(), bytes(model.len()));
    }
    assert!(contents(&mut *channels[0], &*made.device) == model, "the device ends with other bytes");
}
