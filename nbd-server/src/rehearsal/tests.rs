use super::rehearse;
use proptest::prelude::{BoxedStrategy, Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

/// An option of the handshake with any data, mostly of a form that is understood.
fn option() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("disk".to_owned()),
        Just(String::new()),
        Just("disk@yesterday".to_owned()),
        ".{0,20}"
    ];
    let data = prop_oneof![
        Just(Vec::new()),
        name.prop_map(|name| {
            let mut data = u32::try_from(name.len()).expect("short").to_be_bytes().to_vec();
            data.extend(name.as_bytes());
            data
        }),
        prop::collection::vec(any::<u8>(), 0..60),
    ];
    let tail = prop_oneof![
        Just(vec![0, 0]),
        Just([&[0, 0, 0, 1, 0, 0, 0, 15][..], b"base:allocation"].concat()),
        Just(Vec::new()),
    ];
    (0u32..13, data, tail).prop_map(|(kind, mut data, tail)| {
        data.extend(tail);
        let mut raw = b"IHAVEOPT".to_vec();
        raw.extend(kind.to_be_bytes());
        raw.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
        raw.extend(data);
        raw
    })
}

/// A request, mostly inside the export, with its payload or with less.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        8 => (0u32..300).prop_map(|sectors| sectors * 512),
        1 => any::<u32>(),
        1 => 1u32..600_000,
    ];
    let shape = (any::<bool>(), any::<bool>());
    (0u16..9, 0u16..64, 0u64..2100, length, shape).prop_map(
        |(kind, flags, sector, length, (cut, extended))| {
            let magic: u32 = if extended { 0x21e4_1c71 } else { 0x2560_9513 };
            let mut raw = magic.to_be_bytes().to_vec();
            raw.extend(flags.to_be_bytes());
            raw.extend(kind.to_be_bytes());
            raw.extend([7; 8]);
            raw.extend((sector * 512).to_be_bytes());
            raw.extend(if extended { &[0; 4][..] } else { &[] });
            raw.extend(length.to_be_bytes());
            if (kind == 1 || extended && flags & 32 != 0) && length < 1 << 20 {
                let payload = usize::try_from(length).expect("small");
                raw.resize(raw.len() + if cut { payload.saturating_sub(1) } else { payload }, 0xc3);
            }
            raw
        },
    )
}

fn conversation() -> BoxedStrategy<Vec<u8>> {
    let options = prop::collection::vec(option(), 0..6);
    let agreed = 0_u8..3;
    let requests = (agreed, prop::collection::vec(request(), 0..12));
    let agreed = requests.prop_map(|(dialect, requests)| {
        let mut raw = Vec::new();
        if dialect > 0 {
            raw.extend(if dialect == 1 {
                b"IHAVEOPT\0\0\0\x08\0\0\0\0"
            } else {
                b"IHAVEOPT\0\0\0\x0b\0\0\0\0"
            });
            raw.extend(b"IHAVEOPT\0\0\0\x0a\0\0\0\x3b\0\0\0\x04disk\0\0\0\x02\0\0\0\x0fbase:allocation");
            raw.extend(b"\0\0\0\x18qemu:dirty-bitmap:monday");
        }
        raw.extend(b"IHAVEOPT\0\0\0\x07\0\0\0\x0a\0\0\0\x04disk\0\0");
        // Most of them in the dialect that was agreed; one in the other ends the stream.
        let front: u8 = if dialect == 2 { 0x21 } else { 0x25 };
        let (right, wrong): (Vec<_>, Vec<_>) = requests.into_iter().partition(|request| request[0] == front);
        raw.extend(right.concat());
        raw.extend(wrong.concat());
        raw
    });
    (any::<u8>(), options, agreed)
        .prop_map(|(piece, options, agreed)| [vec![piece, 0, 0, 0, 3], options.concat(), agreed].concat())
        .boxed()
}

#[test]
fn a_conversation_comes_to_its_requests() {
    let mut script =
        b"\x1f\0\0\0\x03IHAVEOPT\0\0\0\x08\0\0\0\0IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0".to_vec();
    for kind in [0, 1, 3, 4, 9] {
        script.extend(b"\x25\x60\x95\x13\0\0\0");
        script.push(kind);
        script.extend([kind; 8]);
        script.extend([0; 8]);
        script.extend(if kind == 3 { [0; 4] } else { [0, 0, 4, 0] });
        script.resize(script.len() + if kind == 1 { 1024 } else { 0 }, 0xff);
    }
    assert_eq!(rehearse(&script), 5);
}

#[test]
fn a_request_without_payload_may_stand_beside_a_large_one() {
    let mut script = b"\x1f\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0".to_vec();
    for (kind, length) in [(3, [0; 4]), (0, [0, 0x10, 0, 0])] {
        script.extend(b"\x25\x60\x95\x13\0\0\0");
        script.push(kind);
        script.extend([0; 16]);
        script.extend(length);
    }
    assert_eq!(rehearse(&script), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_borne(script in prop::collection::vec(any::<u8>(), 0..600)) {
        rehearse(&script);
    }

    #[test]
    fn any_conversation_keeps_the_doors_promises(script in conversation()) {
        rehearse(&script);
    }

    #[test]
    fn a_conversation_with_damaged_bytes_is_borne(
        mut script in conversation(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for (place, byte) in damage {
            let place = place.index(script.len());
            script[place] = byte;
        }
        rehearse(&script);
    }

    #[test]
    fn a_client_may_vanish_at_every_byte(script in conversation(), end in any::<prop::sample::Index>()) {
        rehearse(&script[..end.index(script.len())]);
    }
}
