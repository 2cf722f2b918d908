//! Claims about tails. Those about files are in `files`.

mod files;
mod model;

use super::lane::{LANE_LAYOUT, SLOT_LAYOUT};
use super::{Shape, Tail, TailContents, TailError, TailFull, TailImage};

const FIRST: [u8; 16] = [1; 16];
const SECOND: [u8; 16] = [2; 16];
/// Ring bytes of a lane of one page.
const RING: usize = 4096 - 64;

fn shape() -> Shape {
    Shape::new(2, 4096).expect("two lanes of a page")
}

fn bound() -> Tail {
    let tail = Tail::in_memory(shape());
    tail.bind(FIRST);
    tail
}

fn after_kill(image: &TailImage) -> TailContents {
    Tail::from_image(image).expect("an image of a tail").read()
}

fn sequences(contents: &TailContents) -> Vec<u64> {
    contents.records.iter().map(|(sequence, _)| *sequence).collect()
}

fn with_noise(image: &TailImage, at: usize, noise: &[u8]) -> TailImage {
    let mut bytes = image.bytes().to_vec();
    bytes[at..at + noise.len()].copy_from_slice(noise);
    bytes.into()
}

#[test]
fn a_tail_is_these_bytes() {
    let tail = bound();
    tail.append(1, 7, b"abc").expect("room");
    tail.retire(5);
    let image = tail.image();
    let bytes = image.bytes();
    assert_eq!(bytes.len(), 3 * 4096);
    assert_eq!(&bytes[..12], b"OFSTTAIL\x01\0\0\0");
    assert_eq!(bytes[16..32], [2, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[64..80], FIRST);
    assert_eq!(bytes[128], 0);
    assert_eq!(bytes[192..200], [5, 0, 0, 0, 0, 0, 0, 0]);
    let lane = &bytes[2 * 4096..];
    assert_eq!(lane[..16], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(lane[64..76], [7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(&lane[80..84], b"abc\0");
    let checksums = [&bytes[12..16], &bytes[80..84], &bytes[200..204], &lane[16..20], &lane[76..80]].concat();
    assert_eq!(checksums, GOLDEN_CHECKSUMS);
    assert_eq!((LANE_LAYOUT.len(), SLOT_LAYOUT.len()), (4, 3));
}
const GOLDEN_CHECKSUMS: [u8; 20] =
    [31, 237, 57, 222, 242, 218, 177, 39, 165, 196, 147, 196, 115, 156, 253, 207, 5, 44, 233, 245];

#[test]
fn records_of_all_lanes_come_back_in_order_of_sequence() {
    let tail = bound();
    for (lane, sequence) in [(0, 1), (1, 2), (1, 3), (0, 4), (1, 7)] {
        tail.append(lane, sequence, &sequence.to_le_bytes()).expect("room");
    }
    let contents = after_kill(&tail.image());
    assert_eq!(contents.incarnation, Some(FIRST));
    assert_eq!((contents.voided, contents.holes), (false, 0));
    let expected: Vec<_> =
        [1, 2, 3, 4, 7].map(|sequence: u64| (sequence, sequence.to_le_bytes().to_vec())).into();
    assert_eq!(contents.records, expected);
    assert_eq!(contents, tail.read());
}

#[test]
fn a_full_lane_refuses_and_stores_nothing() {
    let tail = bound();
    assert_eq!(tail.record_bytes_max(), RING - 32);
    assert_eq!(tail.append(0, 1, &vec![1; RING - 31]), Err(TailFull));
    tail.append(0, 2, &vec![2; RING - 32]).expect("exactly as long as a lane can hold");
    assert!(tail.is_half_full());
    let image = tail.image();
    assert_eq!(tail.append(0, 3, b""), Err(TailFull));
    assert_eq!(tail.image(), image);
    tail.append(1, 3, b"").expect("the other lane has room");
    tail.retire(2);
    assert!(!tail.is_half_full());
    tail.append(0, 4, b"again").expect("its space is free again");
    assert_eq!(sequences(&after_kill(&tail.image())), [3, 4]);
}

#[test]
fn half_full_is_told_at_the_bound() {
    let tail = bound();
    let half = RING / 2;
    tail.append(0, 1, &vec![0; half - 32]).expect("room");
    assert!(!tail.is_half_full());
    tail.append(0, 2, b"").expect("room");
    assert!(tail.is_half_full());
    assert_eq!(tail.bytes_used(), u64::try_from(half).expect("small"));
    tail.bind(SECOND);
    assert!(!tail.is_half_full());
    assert_eq!(tail.bytes_used(), 0);
}

#[test]
fn lanes_wrap_and_old_laps_never_count() {
    let tail = bound();
    for sequence in 1..500u64 {
        let record = vec![
            u8::try_from(sequence % 251).expect("small");
            usize::try_from(sequence * 7 % 900).expect("small")
        ];
        tail.append(0, sequence, &record).expect("room");
        tail.retire(sequence.saturating_sub(3));
        let contents = after_kill(&tail.image());
        let first = sequence.saturating_sub(3) + 1;
        assert_eq!(sequences(&contents), (first..=sequence).collect::<Vec<_>>());
        assert_eq!(contents.records.last().map(|(_, bytes)| bytes), Some(&record));
        assert_eq!(contents.holes, 0);
    }
}

#[test]
fn a_record_cut_in_the_middle_is_a_hole_and_nothing_else() {
    for length in [0, 1, 16, 100, RING - 200] {
        let tail = bound();
        tail.append(0, 1, b"kept").expect("room");
        tail.append(0, 2, &vec![0; length]).expect("room");
        tail.append(1, 3, b"kept too").expect("room");
        let contents = after_kill(&tail.torn_image(0));
        assert_eq!(sequences(&contents), [1, 3], "length {length}");
        assert_eq!(contents.holes, 1);
        tail.retire(2);
        assert_eq!(tail.torn_image(0), tail.image(), "nothing left to tear");
    }
}

#[test]
fn stores_in_any_order_leave_a_whole_record_or_none() {
    let tail = bound();
    tail.append(0, 1, b"kept").expect("room");
    let before = tail.image();
    tail.append(0, 2, &[9; 100]).expect("room");
    let after = tail.image();
    let changed: Vec<usize> =
        (0..after.bytes().len()).filter(|at| before.bytes()[*at] != after.bytes()[*at]).collect();
    for missing in &changed {
        let image = with_noise(&after, *missing, &before.bytes()[*missing..=*missing]);
        assert_eq!(sequences(&after_kill(&image)), [1], "byte {missing}");
        let image = with_noise(&before, *missing, &after.bytes()[*missing..=*missing]);
        assert_eq!(sequences(&after_kill(&image)), [1], "byte {missing}");
    }
}

#[test]
fn a_void_tail_gives_nothing_until_it_is_bound_again() {
    let tail = bound();
    tail.append(0, 1, b"lost").expect("room");
    tail.void();
    let contents = after_kill(&tail.image());
    assert_eq!(contents, TailContents { incarnation: Some(FIRST), voided: true, records: vec![], holes: 0 });
    tail.bind(SECOND);
    assert_eq!(
        after_kill(&tail.image()),
        TailContents { incarnation: Some(SECOND), ..TailContents::default() }
    );
}

#[test]
fn records_of_an_earlier_incarnation_are_gone() {
    let tail = bound();
    for sequence in 1..20 {
        tail.append(0, sequence, &[3; 20]).expect("room");
    }
    tail.retire(4);
    tail.bind(SECOND);
    assert_eq!(sequences(&tail.read()), [0; 0]);
    // A slot of the same length, so that the next stale one lies right behind it.
    tail.append(0, 1, &[3; 20]).expect("room");
    let image = tail.image();
    assert_eq!(sequences(&after_kill(&image)), [1]);
    // Even without the zero behind it, the stale slot fails its checksum.
    let stale = 4096 + 64 + 48;
    let contents = after_kill(&with_noise(&image, stale, &2u64.to_le_bytes()));
    assert_eq!((sequences(&contents), contents.holes), (vec![1], 1));
}

#[test]
fn a_tail_nobody_bound_is_nobodys() {
    assert_eq!(Tail::in_memory(shape()).read(), TailContents::default());
    let tail = bound();
    tail.append(0, 1, b"x").expect("room");
    for at in 64..84 {
        let image = with_noise(&tail.image(), at, &[0xee]);
        assert_eq!(after_kill(&image), TailContents::default(), "binding was cut at byte {at}");
    }
}

#[test]
#[should_panic(expected = "bound before")]
fn nothing_is_appended_before_binding() {
    let tail = Tail::from_image(&bound().image()).expect("an image of a tail");
    assert_eq!(tail.append(0, 1, b"x"), Ok(()));
}

#[test]
#[should_panic(expected = "sequences of a lane grow")]
fn sequences_of_a_lane_never_repeat() {
    let tail = bound();
    tail.append(0, 2, b"x").expect("room");
    assert_eq!(tail.append(0, 2, b"x"), Ok(()));
}

#[test]
fn a_watermark_cut_in_the_middle_is_the_one_before() {
    let tail = bound();
    for sequence in 1..=9 {
        tail.append(0, sequence, b"x").expect("room");
    }
    tail.retire(3);
    let before = tail.image();
    tail.retire(6);
    let mut cut = before.bytes().to_vec();
    cut[256..264].copy_from_slice(&tail.image().bytes()[256..264]);
    assert_eq!(sequences(&after_kill(&cut.into())), [4, 5, 6, 7, 8, 9]);
    assert_eq!(sequences(&after_kill(&tail.image())), [7, 8, 9]);
    // Killed between the watermark and the lane's start.
    let mut cut = before.bytes().to_vec();
    cut[..4096].copy_from_slice(&tail.image().bytes()[..4096]);
    assert_eq!(sequences(&after_kill(&cut.into())), [7, 8, 9]);
}

#[test]
fn bytes_that_are_no_tail_are_refused() {
    let image = bound().image();
    let refused = |image: TailImage| matches!(Tail::from_image(&image), Err(TailError::Damaged(_)));
    for bit in 0..32 * 8 {
        let mut bytes = image.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(bytes.into()), "bit {bit}");
    }
    assert!(refused(image.bytes()[..4095].to_vec().into()));
    assert!(refused(image.bytes()[..8192].to_vec().into()));
    assert!(refused(vec![].into()));
}

#[test]
fn shapes_out_of_bounds_are_refused() {
    for (lanes, lane_bytes) in [(0, 4096), (65, 4096), (1, 0), (1, 4095), (1, 4104), (1, (64 << 20) + 4096)] {
        assert!(
            matches!(Shape::new(lanes, lane_bytes), Err(TailError::Shape { .. })),
            "{lanes}, {lane_bytes}"
        );
    }
    assert_eq!(Shape::default().total_bytes(), (8 << 20) + 4096);
}

#[test]
fn lanes_are_used_by_many_threads_at_once() {
    let shape = Shape::new(4, 16 * 4096).expect("in bounds");
    let tail = Tail::in_memory(shape);
    tail.bind(FIRST);
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let tail = tail.clone();
            scope.spawn(move || {
                for round in 0..400u64 {
                    let sequence = round * 4 + u64::try_from(lane).expect("small") + 1;
                    tail.append(lane, sequence, &sequence.to_le_bytes()).expect("room");
                }
            });
        }
        scope.spawn(|| (0..400).for_each(|upto| tail.retire(upto)));
    });
    assert_eq!(sequences(&tail.read()), (400..=1600).collect::<Vec<_>>());
    // What a lane took in only after the last retirement had passed it goes with the next one.
    tail.retire(399);
    assert_eq!(tail.bytes_used(), 1201 * 32);
}
