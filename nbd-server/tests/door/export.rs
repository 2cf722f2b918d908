//! Reading and writing one export, legal and not.

use crate::served::client::{
    BLOCK_STATUS, DF, Export, FLUSH, FUA, NO_HOLE, OPT_EXPORT_NAME, READ, REQ_ONE, TRIM, WRITE, WRITE_ZEROES,
    raw_option, request,
};
use crate::served::{MIB, ServedPool, name};
use thinpool::Command;

const SIZE: u64 = 64 * MIB;
const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;

fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i / 512 + usize::from(seed)) % 255).expect("small") + 1).collect()
}

#[test]
fn a_simple_client_reads_back_what_it_wrote() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let mut client = served.open_simple("desk");
    for (offset, length) in
        [(0, 512), (4096, 4096), (MIB - 512, 1024), (SIZE - MIB, 1 << 20), (3 * MIB, 32 << 20)]
    {
        let data = pattern(u8::try_from(length % 251).expect("small"), length);
        client.write(0, offset, &data).expect("written");
        assert_eq!(client.read(offset, u32::try_from(length).expect("short")), Ok(data));
    }
    assert_eq!(client.read(2 * MIB, 4096), Ok(vec![0; 4096]), "never written");
    client.flush().expect("flushed");
    client.disconnect();
    served.end();
}

#[test]
fn an_old_client_names_its_export_and_gets_padding() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let mut client = served.connect();
    client.send(&raw_option(OPT_EXPORT_NAME, b"desk"));
    assert_eq!(client.bytes(8), SIZE.to_be_bytes());
    client.bytes(2);
    client.write(FUA, 0, &[7; 512]).expect("written");
    assert_eq!(client.read(0, 512), Ok(vec![7; 512]));
    client.disconnect();
    served.end();
}

#[test]
fn a_structured_client_gets_holes_for_what_was_never_written() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let mut client = served.open("desk");
    let reply = client.read_reply(0, 0, 32 << 20).expect("read");
    assert_eq!((reply.holes, reply.data.len()), (vec![(0, 32 << 20)], 0));
    client.write(0, MIB, &[9; 4096]).expect("written");
    let reply = client.read_reply(0, 0, 2 << 20).expect("read");
    assert_eq!(reply.holes, [(0, 1 << 20), (MIB + 4096, (1 << 20) - 4096)]);
    assert_eq!(reply.data, [(MIB, vec![9; 4096])]);
    let reply = client.read_reply(DF, 0, 2 << 20).expect("read");
    assert_eq!((reply.data.len(), reply.holes.len()), (1, 0), "one chunk");
    client.disconnect();
    served.end();
}

#[test]
fn block_status_follows_writes_trims_and_zeroes() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let mut client = served.open("desk");
    let (data, hole) = (0, 3);
    assert_eq!(client.block_status(0, 0, 8 << 20), Ok(vec![(8 << 20, hole)]));
    client.write(0, MIB, &pattern(1, 65536)).expect("written");
    let expected = vec![(1 << 20, hole), (65536, data), ((1 << 20) - 65536, hole)];
    assert_eq!(client.block_status(0, 0, 2 << 20), Ok(expected));
    assert_eq!(client.block_status(REQ_ONE, 0, 2 << 20), Ok(vec![(1 << 20, hole)]));
    assert_eq!(client.block_status(REQ_ONE, MIB, 1 << 20), Ok(vec![(65536, data)]));
    client.trim(MIB, 65536).expect("trimmed");
    assert_eq!(client.block_status(0, 0, 2 << 20), Ok(vec![(2 << 20, hole)]));
    assert_eq!(client.read(MIB, 65536), Ok(vec![0; 65536]));
    client.write_zeroes(NO_HOLE, MIB, 8192).expect("zeroed");
    let expected = vec![(8192, data), ((1 << 20) - 8192, hole)];
    assert_eq!(client.block_status(0, MIB, 1 << 20), Ok(expected));
    assert_eq!(client.read(MIB, 16384), Ok(vec![0; 16384]));
    client.write_zeroes(FUA, MIB, 8192).expect("zeroed");
    assert_eq!(client.block_status(0, MIB, 1 << 20), Ok(vec![(1 << 20, hole)]));
    client.disconnect();
    served.end();
}

#[test]
fn zeroes_of_single_sectors_leave_their_neighbours_alone() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let mut client = served.open("desk");
    let mut expected = pattern(3, 16384);
    client.write(0, 0, &expected).expect("written");
    client.write_zeroes(0, 512, 8192).expect("zeroed");
    expected[512..512 + 8192].fill(0);
    assert_eq!(client.read(0, 16384), Ok(expected));
    client.disconnect();
    served.end();
}

#[test]
fn a_snapshot_is_read_as_it_was_and_never_changed() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let mut writer = served.open("desk");
    let old = pattern(1, 8192);
    writer.write(0, 0, &old).expect("written");
    served.run(Command::Snapshot { names: vec![name("desk@old")] });
    writer.write(0, 0, &pattern(2, 8192)).expect("written");
    let mut client = served.connect();
    client.negotiate_structured("desk@old");
    // HAS_FLAGS, READ_ONLY, FLUSH, FUA, DF, MULTI_CONN, CACHE.
    assert_eq!(client.go("desk@old"), Ok(Export { size: SIZE, flags: 0x058f }));
    assert_eq!(client.write(0, 0, &[1; 512]), Err(EPERM));
    assert_eq!(client.trim(0, 4096), Err(EPERM));
    assert_eq!(client.write_zeroes(NO_HOLE, 0, 4096), Err(EPERM));
    assert_eq!(client.read(0, 8192), Ok(old));
    client.flush().expect("nothing to flush");
    assert_eq!(writer.read(0, 8192), Ok(pattern(2, 8192)));
    client.disconnect();
    writer.disconnect();
    served.end();
}

#[test]
fn requests_behind_the_end_are_refused_and_the_stream_stays_in_step() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    for mut client in [served.open_simple("desk"), served.open("desk")] {
        assert_eq!(client.write(0, SIZE - 512, &[1; 1024]), Err(ENOSPC));
        assert_eq!(client.write_zeroes(0, SIZE, 512), Err(ENOSPC));
        assert_eq!(client.read(SIZE - 512, 1024).expect_err("refused"), EINVAL);
        assert_eq!(client.trim(u64::MAX - 511, 512), Err(EINVAL));
        assert_eq!(client.read(0, 0).expect_err("refused"), EINVAL);
        assert_eq!(client.read(0, (32 << 20) + 512).expect_err("refused"), EOVERFLOW);
        assert_eq!(client.write(0, 0, &vec![1; (32 << 20) + 512]), Err(EINVAL));
        for length in [u32::MAX, u32::MAX - 511] {
            assert!(client.read(0, length).is_err());
            assert_eq!(client.trim(0, length), Err(EINVAL));
            assert_eq!(client.write_zeroes(0, 0, length).expect_err("refused"), ENOSPC);
            assert_eq!(client.block_status(0, 0, length), Err(EINVAL));
        }
        assert_eq!(client.read(0, 512), Ok(vec![0; 512]), "nothing was changed");
        client.disconnect();
    }
    served.end();
}

/// Bytes of one block, from two connections at once: neither undoes the other's.
#[test]
fn clients_who_share_a_block_keep_their_bytes() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let (mut one, mut other) = (served.open("desk"), served.open("desk"));
    let mut expected = vec![0; 8192];
    for round in 0..200_u64 {
        let (left, right) = (round * 7 % 4000, 4090 + round * 3 % 4000);
        let asked = [
            one.ask(WRITE, 0, left, 11, &[u8::try_from(round % 251 + 1).expect("small"); 11]),
            one.ask(WRITE, 0, left + 11, 5, &[7; 5]),
        ];
        other.write(0, right, &[9; 13]).expect("written");
        for cookie in asked {
            let reply = one.reply(0);
            assert_eq!((asked.contains(&reply.cookie), reply.errno), (true, 0), "{cookie}");
        }
        let mut put = |at: u64, bytes: &[u8]| {
            let at = usize::try_from(at).expect("small");
            expected[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(left, &[u8::try_from(round % 251 + 1).expect("small"); 11]);
        put(left + 11, &[7; 5]);
        put(right, &[9; 13]);
        assert_eq!(one.read(0, 8192), Ok(expected.clone()), "round {round}");
    }
    one.disconnect();
    other.disconnect();
    served.end();
}

#[test]
fn a_volume_that_grows_takes_requests_behind_its_old_end() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let mut client = served.open("desk");
    assert_eq!(client.write(0, SIZE, &[1; 4096]), Err(ENOSPC));
    served.run(Command::Resize { name: name("desk"), size: 2 * SIZE });
    client.write(0, SIZE, &[1; 4096]).expect("written");
    assert_eq!(client.read(SIZE - 4096, 8192), Ok([[0; 4096], [1; 4096]].concat()));
    client.disconnect();
    served.end();
}

#[test]
fn cve_2025_47711_whole_disks_of_4_gib_and_more_are_trimmed_and_described() {
    let size = 16 << 30;
    let served = ServedPool::start(&[("large", size)]);
    let mut client = served.open("large");
    for length in [u32::MAX - 511, u32::MAX - 4095, 1 << 31] {
        assert_eq!(client.block_status(0, 0, length), Ok(vec![(length, 3)]));
        assert_eq!(client.block_status(REQ_ONE, size - u64::from(length), length), Ok(vec![(length, 3)]));
        client.trim(0, length).expect("trimmed");
        client.write_zeroes(0, size - u64::from(length), length).expect("zeroed");
    }
    assert_eq!(client.block_status(0, 0, u32::MAX), Ok(vec![(u32::MAX, 3)]));
    client.disconnect();
    served.end();
}

#[test]
fn a_write_too_long_to_skip_ends_the_connection() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    for length in [(64 << 20) + 1, u32::MAX] {
        let mut client = served.open("desk");
        client.ask(WRITE, 0, 0, length, b"");
        assert_eq!(client.read_to_end(), 0);
    }
    served.end();
}

#[test]
fn requests_without_end_are_answered_in_the_bounds_of_a_connection() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let mut client = served.open_simple("desk");
    let mut reader = client.stream.socket().try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        for cookie in 0..5000_u64 {
            let mut raw = match cookie % 5 {
                0 => request(WRITE, 0, cookie, cookie % 1000 * 4096, 4096),
                1 => request(READ, 0, cookie, cookie % 1000 * 4096, 8192),
                2 => request(FLUSH, 0, cookie, 0, 0),
                3 => request(TRIM, 0, cookie, 32 << 20, 65536),
                _ => request(WRITE_ZEROES, 0, cookie, 33 << 20, 4096),
            };
            raw.resize(raw.len() + if cookie % 5 == 0 { 4096 } else { 0 }, 0x77);
            reader.write_all(&raw).expect("a server that reads on");
        }
    });
    let mut seen = vec![false; 5000];
    for _ in 0..5000 {
        let raw = client.bytes(16);
        assert_eq!(raw[..8], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
        let cookie = u64::from_be_bytes(raw[8..].try_into().expect("eight bytes"));
        client.bytes(if cookie % 5 == 1 { 8192 } else { 0 });
        let cookie = usize::try_from(cookie).expect("small");
        assert!(!seen[cookie], "one reply for each request");
        seen[cookie] = true;
    }
    writer.join().expect("everything was sent");
    client.disconnect();
    served.end();
}

#[test]
fn block_status_without_a_context_and_unknown_commands_are_invalid() {
    let served = ServedPool::start(&[("desk", SIZE)]);
    let mut client = served.open_simple("desk");
    assert_eq!(client.block_status(0, 0, 512), Err(EINVAL));
    for kind in [8, 9, 99] {
        let cookie = client.ask(kind, 0, 0, 512, b"");
        let reply = client.reply(0);
        assert_eq!((reply.cookie, reply.errno), (cookie, EINVAL));
    }
    client.ask(BLOCK_STATUS, 0x8000, 0, 512, b"");
    assert_eq!(client.reply(0).errno, EINVAL);
    client.disconnect();
    served.end();
}
