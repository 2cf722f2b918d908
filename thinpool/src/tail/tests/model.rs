//! Any run of appends, retirements, kills and bindings, against a list of what was appended.

use crate::tail::{Shape, Tail, TailImage};
use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Action {
    Append {
        lane: usize,
        length: usize,
        byte: u8,
    },
    Retire {
        back: u64,
    },
    /// The process is killed while it appends to this lane; the next one opens what is left.
    Kill {
        lane: usize,
    },
    Bind,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        12 => (0..3usize, 0..1500usize, any::<u8>())
            .prop_map(|(lane, length, byte)| Action::Append { lane, length, byte }),
        4 => (0..6u64).prop_map(|back| Action::Retire { back }),
        1 => (0..3usize).prop_map(|lane| Action::Kill { lane }),
        1 => proptest::prelude::Just(Action::Bind),
    ];
    proptest::collection::vec(action, 1..120)
}

fn new_tail() -> Tail {
    Tail::in_memory(Shape::new(3, 4096).expect("in bounds"))
}

proptest! {
    #[test]
    fn a_tail_gives_exactly_what_was_appended_and_not_retired(actions in actions()) {
        let mut tail = new_tail();
        let (mut live, mut sequence, mut incarnation) = (BTreeMap::new(), 0, [0; 16]);
        let mut newest: [Option<u64>; 3] = [None; 3];
        tail.bind(incarnation);
        for action in actions {
            match action {
                Action::Append { lane, length, byte } => {
                    sequence += 1;
                    if tail.append(lane, sequence, &vec![byte; length]).is_ok() {
                        live.insert(sequence, vec![byte; length]);
                        newest[lane] = Some(sequence);
                    }
                }
                Action::Retire { back } => {
                    let upto = sequence.saturating_sub(back);
                    tail.retire(upto);
                    live.retain(|sequence, _| *sequence > upto);
                }
                Action::Kill { lane } => {
                    let killed = Tail::from_image(&tail.torn_image(lane)).expect("an image");
                    let torn = newest[lane].filter(|sequence| live.remove(sequence).is_some());
                    let contents = killed.read();
                    prop_assert_eq!(contents.holes, usize::from(torn.is_some()));
                    prop_assert_eq!(contents.records, live.clone().into_iter().collect::<Vec<_>>());
                    (tail, incarnation[0]) = (killed, incarnation[0].wrapping_add(1));
                    tail.bind(incarnation);
                    live.clear();
                }
                Action::Bind => {
                    incarnation[1] = incarnation[1].wrapping_add(1);
                    tail.bind(incarnation);
                    live.clear();
                }
            }
            let contents = Tail::from_image(&tail.image()).expect("an image").read();
            prop_assert_eq!(contents.incarnation, Some(incarnation));
            prop_assert_eq!(contents.holes, 0);
            prop_assert_eq!(contents.records, live.clone().into_iter().collect::<Vec<_>>());
            let bytes: usize = live.values().map(|record| 16 + record.len().next_multiple_of(16)).sum();
            prop_assert_eq!(tail.bytes_used(), u64::try_from(bytes).expect("small"));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(noise in proptest::collection::vec((0..4 * 4096usize, any::<u8>()), 0..200)) {
        let tail = new_tail();
        tail.bind([1; 16]);
        (1..40).for_each(|sequence| tail.append(0, sequence, &[1; 20]).expect("room"));
        let mut bytes = tail.image().bytes().to_vec();
        for (at, byte) in noise {
            bytes[at] = byte;
        }
        if let Ok(tail) = Tail::from_image(&TailImage::from(bytes)) {
            let contents = tail.read();
            assert!(contents.records.iter().all(|(sequence, record)| *sequence < 40 && *record == [1; 20]));
            tail.bind([2; 16]);
            assert_eq!(tail.read().records, []);
        }
    }
}
