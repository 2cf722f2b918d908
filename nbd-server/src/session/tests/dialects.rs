//! Replies of more than one chunk, and extended headers.

use super::{SIMPLE, request, session, staged, structured, submit};
use crate::contexts::Context;
use crate::fields::Fields;
use crate::handshake::{Dialect, Terms};
use crate::proto::{CMD_BLOCK_STATUS, CMD_FLAG_PAYLOAD_LEN, CMD_READ, CMD_TRIM, CMD_WRITE};
use crate::session::{Ask, Phase, Step};
use thinpool::{Action, ChangeStatus, Depths, ExtentKind, ExtentStatus, Payload};

fn extended() -> Terms {
    Terms { dialect: Dialect::Extended, ..structured() }
}

fn extended_request(kind: u16, flags: u16, cookie: u64, offset: u64, length: u64) -> Vec<u8> {
    let mut raw = 0x21e4_1c71_u32.to_be_bytes().to_vec();
    raw.extend(flags.to_be_bytes());
    raw.extend(kind.to_be_bytes());
    raw.extend([cookie, offset, length].map(u64::to_be_bytes).concat());
    raw
}

#[test]
fn every_selected_context_has_a_chunk_and_each_snapshot_is_asked_for() {
    let since = |point: &str| Context::Since(point.to_owned());
    let contexts = vec![Context::Allocation, Context::Depth, since("sunday"), since("monday")];
    for dialect in [Dialect::Structured, Dialect::Extended] {
        let mut session = session(Terms { dialect, contexts: contexts.clone(), ..SIMPLE });
        let raw = if dialect == Dialect::Extended {
            extended_request(CMD_BLOCK_STATUS, 0, 3, 4096, 8192)
        } else {
            request(CMD_BLOCK_STATUS, 0, 3, 4096, 8192)
        };
        let (slot, action) = submit(&mut session, &raw);
        assert!(matches!(action, Action::Extents { depths: Depths::Told, .. }));
        let extents = vec![ExtentStatus { length: 8192, kind: ExtentKind::Shared { depth: 5 } }];
        let mut more = session.complete(slot, Ok(Payload::Extents(extents)));
        for (expected, changed) in [(0, true), (1, false)] {
            assert!(staged(&mut session).is_empty(), "nothing is answered before everything is known");
            let Some(Ask::Changes { since, range }) = more else { panic!("{more:?}") };
            assert_eq!((since, range.offset, range.length), (expected, 4096, 8192));
            let changes = vec![ChangeStatus { length: 8192, changed }];
            more = session.complete(slot, Ok(Payload::Changes(changes)));
        }
        assert!(more.is_none());
        let raw = staged(&mut session);
        let mut fields = Fields::new(&raw);
        for (context, flags) in [(1, 0), (2, 5), (3, 1), (4, 0)] {
            let last = u16::from(context == 4);
            if dialect == Dialect::Extended {
                assert_eq!(
                    (fields.u32(), fields.u16(), fields.u16()),
                    (Some(0x6e8a_278c), Some(last), Some(6))
                );
                assert_eq!((fields.u64(), fields.u64(), fields.u64()), (Some(3), Some(4096), Some(24)));
                assert_eq!((fields.u32(), fields.u32()), (Some(context), Some(1)));
                assert_eq!((fields.u64(), fields.u64()), (Some(8192), Some(flags)));
            } else {
                assert_eq!(
                    (fields.u32(), fields.u16(), fields.u16()),
                    (Some(0x668e_33ef), Some(last), Some(5))
                );
                assert_eq!((fields.u64(), fields.u32(), fields.u32()), (Some(3), Some(12), Some(context)));
                assert_eq!(
                    (fields.u32().map(u64::from), fields.u32().map(u64::from)),
                    (Some(8192), Some(flags))
                );
            }
        }
        assert!(fields.is_empty());
        assert_eq!((session.unanswered(), session.bytes), (0, 0));
    }
}

#[test]
fn with_extended_headers_every_reply_has_one_and_effects_may_be_longer_than_four_gib() {
    let mut session = session(extended());
    let size = 1 << 50;
    let trim = extended_request(CMD_TRIM, 0, 9, 512, size - 512);
    let step = session.next(&mut trim.as_slice(), size, Phase::Serving);
    let Step::Submit(slot, Ask::Act(Action::Trim { length, .. })) = step else { panic!("{step:?}") };
    assert_eq!(length, size - 512);
    session.complete(slot, Ok(Payload::None));
    let head = |kind: u16, offset: u64, length: u64| {
        let numbers = [9, offset, length].map(u64::to_be_bytes).concat();
        [&0x6e8a_278c_u32.to_be_bytes()[..], &[0, 1], &kind.to_be_bytes(), &numbers].concat()
    };
    assert_eq!(staged(&mut session), head(0, 512, 0));
    let mut write = extended_request(CMD_WRITE, CMD_FLAG_PAYLOAD_LEN, 9, 0, 512);
    write.extend([7; 512]);
    let (slot, action) = submit(&mut session, &write);
    assert!(matches!(action, Action::Write { offset: 0, .. }));
    session.complete(slot, Ok(Payload::None));
    assert_eq!(staged(&mut session), head(0, 0, 0));
    let (slot, action) = submit(&mut session, &extended_request(CMD_READ, 0, 9, 1024, 512));
    let Action::Read { mut buffer, .. } = action else { panic!("{action:?}") };
    buffer.fill(1);
    session.complete(slot, Ok(Payload::Buffer(buffer)));
    assert_eq!(
        staged(&mut session),
        [head(1, 1024, 520), 1024_u64.to_be_bytes().to_vec(), vec![1; 512]].concat()
    );
    let mut payload = extended_request(CMD_TRIM, CMD_FLAG_PAYLOAD_LEN, 9, 0, 512);
    payload.extend([7; 512]);
    let mut input = payload.as_slice();
    assert!(matches!(session.next(&mut input, size, Phase::Serving), Step::Answered));
    assert!(input.is_empty(), "a payload that does not belong there is skipped");
    let refused = staged(&mut session);
    assert_eq!(refused[..8], [0x6e, 0x8a, 0x27, 0x8c, 0, 1, 0x80, 1]);
    assert_eq!(refused[32..36], [0, 0, 0, 22]);
}
