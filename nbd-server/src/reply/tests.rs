use super::{Answer, Body, Head, ReadBody, Staged};
use crate::fields::Fields;
use crate::handshake::Dialect;
use crate::limits::HOLE_BYTES_MIN;
use crate::request::Layout;
use blockstore::Buffer;
use proptest::prelude::{prop, proptest};

/// Stages to the end with `room` bytes a time, copying runs of up to `copied_max` bytes, and gives back all of it.
fn stage(mut answer: Answer, room: usize, copied_max: usize) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut out = Vec::new();
        let mut staged = answer.stage(&mut out, room, copied_max);
        assert!(out.len() <= room + 64, "staged {} with room for {room}", out.len());
        all.extend(out);
        if staged == Staged::Lent {
            assert!(answer.run().len() > copied_max);
            all.extend_from_slice(answer.run());
            staged = answer.skip_run();
        }
        if staged == Staged::Whole {
            return all;
        }
    }
}

fn read(layout: Layout, data: &[u8], room: usize) -> Vec<u8> {
    let dialect = if layout == Layout::Simple { Dialect::Simple } else { Dialect::Structured };
    let head = Head { dialect, cookie: 9, offset: 1 << 20 };
    let answer = || Answer { head, body: Body::Read(ReadBody::new(layout, Buffer::from_slice(data))) };
    let copied = stage(answer(), room, usize::MAX);
    for copied_max in [0, 1000, 10_000] {
        assert!(
            stage(answer(), room, copied_max) == copied,
            "what is lent above {copied_max} bytes is the same"
        );
    }
    copied
}

/// What a client makes of a structured reply: its data and the number of its chunks.
fn reassemble(raw: &[u8], length: usize) -> (Vec<u8>, usize) {
    let mut fields = Fields::new(raw);
    let mut data = vec![0xee; length];
    for chunks in 1.. {
        assert_eq!(fields.u32(), Some(0x668e_33ef));
        let (flags, kind) = (fields.u16().expect("flags"), fields.u16().expect("kind"));
        assert_eq!(fields.u64(), Some(9));
        let payload = usize::try_from(fields.u32().expect("length")).expect("small");
        let mut payload = Fields::new(fields.take(payload).expect("the whole chunk"));
        let start = usize::try_from(payload.u64().expect("offset") - (1 << 20)).expect("inside");
        if kind == 2 {
            let length = usize::try_from(payload.u32().expect("hole size")).expect("small");
            assert!(length > 0);
            data[start..start + length].fill(0);
        } else {
            assert_eq!(kind, 1);
            let mut length = 0;
            while let Some(byte) = payload.take(1) {
                data[start + length] = byte[0];
                length += 1;
            }
            assert!(length > 0);
        }
        assert!(payload.is_empty());
        if flags == 1 {
            assert!(fields.is_empty(), "the last chunk is marked");
            return (data, chunks);
        }
    }
    unreachable!("a reply ends")
}

#[test]
fn zeros_inside_a_read_are_holes_and_short_zeros_are_data() {
    let mut data = vec![1; 4096];
    data.resize(4096 + HOLE_BYTES_MIN, 0);
    data.resize(data.len() + 4096, 2);
    data.resize(data.len() + 4096, 0);
    let raw = read(Layout::Chunks, &data, 1 << 20);
    assert!(raw.len() < 4 * 4096);
    assert_eq!(reassemble(&raw, data.len()), (data, 3));
}

#[test]
fn a_read_of_zeros_is_one_hole_of_any_length() {
    for length in [512, 4096, 8192 + 512, 32 << 20] {
        let raw = read(Layout::Chunks, &vec![0; length], 4096);
        assert_eq!(raw.len(), 20 + 12);
        let raw = read(Layout::OneChunk, &vec![0; length], 4096);
        assert_eq!(raw.len(), 20 + 12);
    }
}

#[test]
fn a_read_that_must_not_be_split_is_one_chunk() {
    let mut data = vec![0; 1 << 20];
    data[1 << 19] = 1;
    let raw = read(Layout::OneChunk, &data, 4096);
    assert_eq!(reassemble(&raw, data.len()), (data, 1));
}

#[test]
fn a_simple_read_is_its_header_and_its_data() {
    let data = vec![7; 10_000];
    let raw = read(Layout::Simple, &data, 4096);
    assert_eq!(raw[..16], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(raw[16..], data);
}

proptest! {
    #[test]
    fn a_client_gets_back_what_was_read(
        runs in prop::collection::vec((0u8..2, 1usize..40), 1..12), room in 1usize..100_000,
    ) {
        let mut data = Vec::new();
        for (value, sectors) in runs {
            data.resize(data.len() + sectors * 512 * 8, value);
        }
        assert_eq!(reassemble(&read(Layout::Chunks, &data, room), data.len()).0, data);
        assert_eq!(reassemble(&read(Layout::OneChunk, &data, room), data.len()), (data.clone(), 1));
        assert_eq!(read(Layout::Simple, &data, room)[16..], data);
    }
}
