use super::{Ask, Phase, Session, Slot, Step};
use crate::contexts::Context;
use crate::fields::Fields;
use crate::handshake::{Dialect, Terms};
use crate::limits::{Limits, PAYLOAD_BYTES_MAX, PAYLOAD_SKIP_BYTES_MAX, STAGE_BYTES, STATUS_BYTES, bytes};
use crate::proto::{
    CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLAG_DF, CMD_FLAG_FAST_ZERO, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE,
    CMD_FLAG_REQ_ONE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES,
};
use blockstore::{Buffer, Durability};
use thinpool::{Action, ExtentKind, ExtentStatus, Payload, RequestError, ZeroSpace};

const SIZE: u64 = 1 << 30;
/// Bytes; short, so that most data of these tests is lent.
const COPIED_MAX: usize = 100;
const SIMPLE: Terms = Terms { read_only: false, dialect: Dialect::Simple, contexts: Vec::new() };

fn structured() -> Terms {
    Terms { read_only: false, dialect: Dialect::Structured, contexts: vec![Context::Allocation] }
}

fn session(terms: Terms) -> Session {
    Session::new(terms, &Limits::default())
}

fn request(kind: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut raw = 0x2560_9513_u32.to_be_bytes().to_vec();
    raw.extend(flags.to_be_bytes());
    raw.extend(kind.to_be_bytes());
    raw.extend(cookie.to_be_bytes());
    raw.extend(offset.to_be_bytes());
    raw.extend(length.to_be_bytes());
    raw
}

fn write(cookie: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut raw = request(CMD_WRITE, 0, cookie, offset, u32::try_from(data.len()).expect("short"));
    raw.extend_from_slice(data);
    raw
}

/// Sends all of `raw` and expects one action.
fn submit(session: &mut Session, raw: &[u8]) -> (Slot, Action) {
    let mut input = raw;
    match session.next(&mut input, SIZE, Phase::Serving) {
        Step::Submit(slot, Ask::Act(action)) => {
            assert!(input.is_empty(), "the request is used up");
            (slot, action)
        }
        other => panic!("{other:?}"),
    }
}

/// Sends all of `raw` and expects it to be refused; gives back the error number.
fn refused(session: &mut Session, raw: &[u8]) -> u32 {
    let mut input = raw;
    assert!(matches!(session.next(&mut input, SIZE, Phase::Serving), Step::Answered));
    assert!(input.is_empty(), "the request is used up");
    error_of(&staged(session))
}

fn staged(session: &mut Session) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut out = Vec::new();
        let leaving = session.stage(&mut out, COPIED_MAX);
        if out.is_empty() && leaving.is_none() {
            return all;
        }
        all.extend(out);
        if let Some(leaving) = leaving {
            all.extend_from_slice(leaving.run());
            session.has_left(leaving);
        }
    }
}

/// The error number of one reply of either form; zero where there is none.
fn error_of(raw: &[u8]) -> u32 {
    let mut fields = Fields::new(raw);
    if fields.u32() == Some(0x6744_6698) {
        return fields.u32().expect("an error");
    }
    match (fields.u16(), fields.u16()) {
        (Some(1), Some(0x8001)) => {
            fields.take(12).expect("a cookie and a length");
            fields.u32().expect("an error")
        }
        _ => 0,
    }
}

fn simple_reply(errno: u32, cookie: u64) -> Vec<u8> {
    [&0x6744_6698_u32.to_be_bytes()[..], &errno.to_be_bytes(), &cookie.to_be_bytes()].concat()
}

#[test]
fn a_read_fills_a_buffer_and_sends_it() {
    let mut session = session(SIMPLE);
    let (slot, action) = submit(&mut session, &request(CMD_READ, 0, 42, 4096, 1024));
    let Action::Read { offset: 4096, mut buffer } = action else { panic!("{action:?}") };
    assert_eq!(buffer.len(), 1024);
    buffer.fill(9);
    session.complete(slot, Ok(Payload::Buffer(buffer)));
    assert_eq!(staged(&mut session), [simple_reply(0, 42), vec![9; 1024]].concat());
    assert_eq!(session.unanswered(), 0);
}

#[test]
fn structured_reads_send_zeros_as_holes_and_df_sends_one_chunk() {
    for (flags, expected) in [(0, 32 + 28 + 4096), (CMD_FLAG_DF, 28 + 65536 + 4096)] {
        let mut session = session(structured());
        let (slot, action) = submit(&mut session, &request(CMD_READ, flags, 1, 0, 65536 + 4096));
        let Action::Read { mut buffer, .. } = action else { panic!("{action:?}") };
        buffer[65536..].fill(1);
        session.complete(slot, Ok(Payload::Buffer(buffer)));
        assert_eq!(staged(&mut session).len(), expected);
    }
}

#[test]
fn a_write_takes_its_payload_in_any_pieces() {
    let data: Vec<u8> = (0..2048_u32).map(|i| u8::try_from(i % 251).expect("small")).collect();
    let raw = [write(5, 512, &data), request(CMD_FLUSH, 0, 6, 0, 0)].concat();
    for cut in 0..=28 + data.len() {
        let mut session = session(SIMPLE);
        let mut input = &raw[..cut];
        let step = session.next(&mut input, SIZE, Phase::Serving);
        let (mut input, step) = if matches!(step, Step::Hungry) {
            let used = cut - input.len();
            let mut input = &raw[used..];
            let step = session.next(&mut input, SIZE, Phase::Serving);
            (input, step)
        } else {
            (&raw[cut - input.len()..], step)
        };
        match step {
            Step::Submit(
                _,
                Ask::Act(Action::Write { offset: 512, buffer, durability: Durability::Cached }),
            ) => {
                assert_eq!(*buffer, *data, "cut at {cut}");
            }
            other => panic!("{other:?} when cut at {cut}"),
        }
        assert!(matches!(
            session.next(&mut input, SIZE, Phase::Serving),
            Step::Submit(_, Ask::Act(Action::Flush))
        ));
    }
}

#[test]
fn each_command_becomes_its_action() {
    let mut session = session(structured());
    let mut action = |kind, flags| submit(&mut session, &request(kind, flags, 1, 512, 4096)).1;
    assert!(matches!(
        action(CMD_TRIM, 0),
        Action::Trim { offset: 512, length: 4096, durability: Durability::Cached }
    ));
    assert!(matches!(action(CMD_TRIM, CMD_FLAG_FUA), Action::Trim { durability: Durability::Through, .. }));
    assert!(matches!(
        action(CMD_WRITE_ZEROES, 0),
        Action::WriteZeroes {
            offset: 512,
            length: 4096,
            durability: Durability::Cached,
            space: ZeroSpace::Release
        }
    ));
    assert!(matches!(
        action(CMD_WRITE_ZEROES, CMD_FLAG_FUA | CMD_FLAG_NO_HOLE),
        Action::WriteZeroes { durability: Durability::Through, space: ZeroSpace::Allocate, .. }
    ));
    assert!(matches!(action(CMD_BLOCK_STATUS, 0), Action::Extents { offset: 512, length: 4096, .. }));
    let forced = [request(CMD_WRITE, CMD_FLAG_FUA, 1, 0, 512), vec![1; 512]].concat();
    assert!(matches!(submit(&mut session, &forced).1, Action::Write { durability: Durability::Through, .. }));
    assert!(matches!(submit(&mut session, &request(CMD_FLUSH, 0, 1, 0, 0)).1, Action::Flush));
}

#[test]
fn block_status_answers_holes_and_data_and_one_descriptor_when_asked_for_one() {
    for (flags, descriptors) in [(0, 2), (CMD_FLAG_REQ_ONE, 1)] {
        let mut session = session(structured());
        let (slot, _) = submit(&mut session, &request(CMD_BLOCK_STATUS, flags, 3, 0, 65536));
        let extents = vec![
            ExtentStatus { length: 4096, kind: ExtentKind::Hole },
            ExtentStatus { length: 1 << 40, kind: ExtentKind::Own },
        ];
        session.complete(slot, Ok(Payload::Extents(extents)));
        let raw = staged(&mut session);
        let mut fields = Fields::new(&raw);
        assert_eq!((fields.u32(), fields.u16(), fields.u16()), (Some(0x668e_33ef), Some(1), Some(5)));
        assert_eq!((fields.u64(), fields.u32()), (Some(3), Some(4 + 8 * descriptors)));
        assert_eq!((fields.u32(), fields.u32(), fields.u32()), (Some(1), Some(4096), Some(3)));
        if descriptors == 2 {
            assert_eq!((fields.u32(), fields.u32()), (Some(61440), Some(0)));
        }
        assert!(fields.is_empty());
    }
}

#[test]
fn zeroes_that_must_be_fast_are_refused_where_they_are_not() {
    let mut session = session(structured());
    let fast = |flags, length| request(CMD_WRITE_ZEROES, CMD_FLAG_FAST_ZERO | flags, 1, 4096, length);
    assert_eq!(refused(&mut session, &fast(0, 4608)), 95, "part of a block has to be written");
    assert_eq!(refused(&mut session, &fast(CMD_FLAG_NO_HOLE, 65536)), 95, "blocks have to be written");
    let (_, action) = submit(&mut session, &fast(0, 65536));
    assert!(matches!(action, Action::WriteZeroes { space: ZeroSpace::Release, .. }));
}

#[test]
fn caching_looks_the_range_up_and_answers_without_data() {
    let mut session = session(SIMPLE);
    let (slot, action) = submit(&mut session, &request(CMD_CACHE, 0, 6, 0, 1 << 29));
    assert!(matches!(action, Action::Extents { offset: 0, length: 0x2000_0000, .. }));
    assert!(session.complete(slot, Ok(Payload::Extents(Vec::new()))).is_none());
    assert_eq!(staged(&mut session), simple_reply(0, 6));
}

#[test]
fn failures_of_the_engine_have_their_numbers_and_structured_ones_a_sentence() {
    let failures = [
        (RequestError::Io, 5),
        (RequestError::OutOfSpace, 28),
        (RequestError::Poisoned, 5),
        (RequestError::ShuttingDown, 108),
    ];
    for (error, errno) in failures {
        let mut simple = session(SIMPLE);
        let (slot, _) = submit(&mut simple, &request(CMD_READ, 0, 8, 0, 512));
        simple.complete(slot, Err(error));
        assert_eq!(staged(&mut simple), simple_reply(errno, 8), "no data follows an error");
        let mut full = session(structured());
        let (slot, _) = submit(&mut full, &request(CMD_READ, 0, 8, 0, 512));
        full.complete(slot, Err(error));
        let raw = staged(&mut full);
        assert_eq!(error_of(&raw), errno);
        assert!(std::str::from_utf8(&raw[26..]).is_ok_and(|text| text.len() > 10));
    }
}

#[test]
fn illegal_requests_are_answered_and_the_stream_stays_in_step() {
    for terms in [SIMPLE, structured()] {
        let mut session = session(terms);
        assert_eq!(refused(&mut session, &request(CMD_READ, 0, 1, SIZE, 512)), 22);
        assert_eq!(refused(&mut session, &request(CMD_TRIM, 0, 1, SIZE - 512, 1024)), 22);
        assert_eq!(refused(&mut session, &request(CMD_WRITE_ZEROES, 0, 1, SIZE - 512, 1024)), 28);
        assert_eq!(refused(&mut session, &write(1, SIZE - 512, &[1; 1024])), 28);
        assert_eq!(refused(&mut session, &request(99, 0, 1, 0, 512)), 22);
        assert_eq!(refused(&mut session, &request(CMD_READ, 0x8000, 1, 0, 512)), 22);
        assert_eq!(refused(&mut session, &request(CMD_READ, 0, 1, 0, PAYLOAD_BYTES_MAX + 512)), 75);
        assert_eq!(refused(&mut session, &request(CMD_READ, 0, 1, 0, u32::MAX)), 22);
        assert_eq!(refused(&mut session, &request(CMD_TRIM, 0, 1, u64::MAX, u32::MAX)), 22);
        assert!(matches!(submit(&mut session, &request(CMD_FLUSH, 0, 1, 0, 0)).1, Action::Flush));
    }
    let read_only = Terms { read_only: true, ..SIMPLE };
    let mut session = session(read_only);
    assert_eq!(refused(&mut session, &write(1, 0, &[1; 512])), 1);
    assert_eq!(refused(&mut session, &request(CMD_TRIM, 0, 1, 0, 512)), 1);
    assert_eq!(refused(&mut session, &request(CMD_WRITE_ZEROES, 0, 1, 0, 512)), 1);
    assert_eq!(refused(&mut session, &request(CMD_BLOCK_STATUS, 0, 1, 0, 512)), 22);
}

#[test]
fn a_refused_payload_is_skipped_in_any_pieces_and_holds_no_memory() {
    let length = PAYLOAD_BYTES_MAX + 512;
    let mut session = session(SIMPLE);
    let header = request(CMD_WRITE, 0, 4, 0, length);
    assert!(matches!(session.next(&mut header.as_slice(), SIZE, Phase::Serving), Step::Hungry));
    assert_eq!((session.bytes, session.unanswered()), (0, 0));
    let mut left = bytes(length);
    while left > 0 {
        let piece = vec![0; left.min(1 << 20)];
        let step = session.next(&mut piece.as_slice(), SIZE, Phase::Serving);
        left -= piece.len();
        assert!(if left == 0 { matches!(step, Step::Answered) } else { matches!(step, Step::Hungry) });
    }
    assert_eq!(staged(&mut session), simple_reply(22, 4));
}

#[test]
fn a_payload_too_long_to_skip_and_a_wrong_magic_end_the_stream() {
    for length in [PAYLOAD_SKIP_BYTES_MAX + 1, u32::MAX - 511, u32::MAX] {
        let raw = request(CMD_WRITE, 0, 1, 0, length);
        assert!(matches!(session(SIMPLE).next(&mut raw.as_slice(), SIZE, Phase::Serving), Step::Lost));
    }
    for place in 0..4 {
        let mut raw = request(CMD_READ, 0, 1, 0, 512);
        raw[place] ^= 0x10;
        assert!(matches!(session(SIMPLE).next(&mut raw.as_slice(), SIZE, Phase::Serving), Step::Lost));
    }
}

#[test]
fn cve_2016_5403_a_client_that_only_asks_is_not_read_any_more() {
    let limits = Limits { requests_in_flight: 3, ..Limits::default() };
    let mut session = Session::new(SIMPLE, &limits);
    let flush = request(CMD_FLUSH, 0, 1, 0, 0);
    let illegal = request(77, 0, 2, 0, 0);
    let (first, _) = submit(&mut session, &flush);
    for _ in 0..2 {
        assert!(matches!(session.next(&mut illegal.as_slice(), SIZE, Phase::Serving), Step::Answered));
    }
    let mut input = flush.as_slice();
    assert!(matches!(session.next(&mut input, SIZE, Phase::Serving), Step::Full));
    assert_eq!(input.len(), flush.len(), "what does not fit is not used up");
    session.complete(first, Ok(Payload::None));
    assert!(
        matches!(session.next(&mut input, SIZE, Phase::Serving), Step::Full),
        "an answer not sent counts"
    );
    assert_eq!(staged(&mut session).len(), 3 * 16);
    assert!(matches!(session.next(&mut input, SIZE, Phase::Serving), Step::Submit(..)));
}

#[test]
fn bytes_in_flight_are_bounded_and_one_request_always_fits() {
    let limits = Limits { bytes_in_flight: 8192, ..Limits::default() };
    let mut session = Session::new(structured(), &limits);
    let large = request(CMD_READ, 0, 1, 0, PAYLOAD_BYTES_MAX);
    let (slot, action) = submit(&mut session, &large);
    for next in [request(CMD_READ, 0, 2, 0, 512), request(CMD_WRITE, 0, 2, 0, 512)] {
        assert!(matches!(session.next(&mut next.as_slice(), SIZE, Phase::Serving), Step::Full));
    }
    let Action::Read { buffer, .. } = action else { panic!("{action:?}") };
    session.complete(slot, Ok(Payload::Buffer(buffer)));
    assert_eq!(staged(&mut session).len(), 32, "zeros are one hole");
    submit(&mut session, &request(CMD_READ, 0, 2, 0, 4096));
    submit(&mut session, &request(CMD_READ, 0, 3, 0, 4096));
    assert!(matches!(session.next(&mut large.as_slice(), SIZE, Phase::Serving), Step::Full));
    let status = request(CMD_BLOCK_STATUS, 0, 4, 0, 512);
    assert!(matches!(session.next(&mut status.as_slice(), SIZE, Phase::Serving), Step::Full));
    assert!(u64::from(STATUS_BYTES) > limits.bytes_in_flight);
}

#[test]
fn a_large_read_is_staged_piece_by_piece_and_keeps_its_slot_until_the_last() {
    let mut session = session(SIMPLE);
    let (slot, action) = submit(&mut session, &request(CMD_READ, 0, 1, 0, PAYLOAD_BYTES_MAX));
    let Action::Read { mut buffer, .. } = action else { panic!("{action:?}") };
    buffer.fill(3);
    session.complete(slot, Ok(Payload::Buffer(buffer)));
    let mut all = 0;
    while session.unanswered() > 0 {
        let mut out = Vec::new();
        session.stage(&mut out, usize::MAX);
        assert!(!out.is_empty() && out.len() <= STAGE_BYTES + 64);
        all += out.len();
    }
    assert_eq!(all, 16 + bytes(PAYLOAD_BYTES_MAX));
}

#[test]
fn replies_come_in_the_order_of_the_engine() {
    let mut session = session(SIMPLE);
    let (first, _) = submit(&mut session, &request(CMD_FLUSH, 0, 1, 0, 0));
    let (second, _) = submit(&mut session, &request(CMD_FLUSH, 0, 2, 0, 0));
    session.complete(second, Ok(Payload::None));
    session.complete(first, Ok(Payload::None));
    assert_eq!(staged(&mut session), [simple_reply(0, 2), simple_reply(0, 1)].concat());
}

#[test]
fn disconnect_ends_the_intake_and_leaves_the_rest_unread() {
    let raw = [request(CMD_DISC, 0xffff, 1, 7, 7), request(CMD_FLUSH, 0, 1, 0, 0)].concat();
    let mut input = raw.as_slice();
    assert!(matches!(session(SIMPLE).next(&mut input, SIZE, Phase::Serving), Step::Disconnect));
}

#[test]
fn while_the_server_drains_new_requests_are_refused_and_old_ones_answered() {
    let mut session = session(SIMPLE);
    let (slot, _) = submit(&mut session, &request(CMD_FLUSH, 0, 1, 0, 0));
    let raw = write(2, 0, &[1; 512]);
    let mut input = raw.as_slice();
    assert!(matches!(session.next(&mut input, SIZE, Phase::Draining), Step::Answered));
    assert!(input.is_empty());
    let disconnect = request(CMD_DISC, 0, 3, 0, 0);
    assert!(matches!(session.next(&mut disconnect.as_slice(), SIZE, Phase::Draining), Step::Disconnect));
    session.complete(slot, Ok(Payload::None));
    assert_eq!(staged(&mut session), [simple_reply(108, 2), simple_reply(0, 1)].concat());
}

#[test]
fn a_client_that_vanishes_at_any_byte_leaves_nothing_behind() {
    let legal = write(1, 0, &[1; 1024]);
    let illegal = write(1, SIZE, &[1; 1024]);
    for raw in [&legal, &illegal] {
        for cut in 0..raw.len() {
            let mut session = session(SIMPLE);
            assert!(matches!(session.next(&mut &raw[..cut], SIZE, Phase::Serving), Step::Hungry));
            assert_eq!(session.unanswered(), 0, "what came in part will not be answered");
            session.end_intake();
            assert_eq!((session.unanswered(), session.bytes), (0, 0), "cut at {cut}");
        }
    }
}

#[test]
fn the_size_of_the_moment_decides() {
    let mut session = session(SIMPLE);
    let raw = request(CMD_READ, 0, 1, 4096, 4096);
    assert!(matches!(session.next(&mut raw.as_slice(), 4096, Phase::Serving), Step::Answered));
    assert!(matches!(session.next(&mut raw.as_slice(), 8192, Phase::Serving), Step::Submit(..)));
}

#[test]
#[should_panic(expected = "the engine answers in kind")]
fn an_engine_that_answers_a_read_without_data_is_a_bug() {
    let mut session = session(SIMPLE);
    let (slot, _) = submit(&mut session, &request(CMD_READ, 0, 1, 0, 512));
    session.complete(slot, Ok(Payload::None));
}

#[test]
#[should_panic(expected = "a read returns the buffer it was given")]
fn an_engine_that_answers_a_read_with_less_is_a_bug() {
    let mut session = session(SIMPLE);
    let (slot, _) = submit(&mut session, &request(CMD_READ, 0, 1, 0, 1024));
    session.complete(slot, Ok(Payload::Buffer(Buffer::zeroed(512))));
}

mod dialects;
