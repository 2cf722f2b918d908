//! Extended headers over every kind of connection: lengths of 64 bits, and one form for every reply.

use crate::served::client::{ACK, BLOCK_STATUS, Client, OPT_SET_META_CONTEXT, READ, TRIM, WRITE, sized};
use crate::served::secure::SecureServer;
use crate::served::{MIB, ServedPool};

const OPT_EXTENDED_HEADERS: u32 = 11;
const PAYLOAD_LEN: u16 = 1 << 5;
const SIZE: u64 = 1 << 40;

fn ask(client: &mut Client, kind: u16, flags: u16, offset: u64, length: u64, payload: &[u8]) {
    let numbers = [7, offset, length].map(u64::to_be_bytes).concat();
    let header =
        [&0x21e4_1c71_u32.to_be_bytes()[..], &flags.to_be_bytes(), &kind.to_be_bytes(), &numbers].concat();
    client.send(&[&header[..], payload].concat());
}

/// One chunk: whether it is the last, its type and its payload.
fn chunk(client: &mut Client, offset: u64) -> (bool, u16, Vec<u8>) {
    let header = client.bytes(32);
    let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!((&header[..4], number(8), number(16)), (&[0x6e, 0x8a, 0x27, 0x8c][..], 7, offset));
    let length = usize::try_from(number(24)).expect("small");
    (header[5] == 1, u16::from_be_bytes([header[6], header[7]]), client.bytes(length))
}

#[test]
fn whole_disks_of_a_tebibyte_are_trimmed_and_described_at_once() {
    let served = ServedPool::start(&[("large", SIZE)]);
    use_whole_disk(served.connect());
    served.end();
}

#[test]
fn so_are_they_over_tcp() {
    let served = ServedPool::start(&[("large", SIZE)]);
    use_whole_disk(Client::connect_tcp(served.tcp()));
    served.end();
}

#[test]
fn so_are_they_over_tls() {
    let served = ServedPool::start(&[("large", SIZE)]);
    let server = SecureServer::start(&served.pool);
    use_whole_disk(server.connect());
    server.end();
    served.end();
}

fn use_whole_disk(mut client: Client) {
    assert_eq!(client.option(OPT_EXTENDED_HEADERS, b"")[0].0, ACK);
    let contexts = [&sized("large")[..], &[0, 0, 0, 1], &sized("base:allocation")].concat();
    assert_eq!(client.option(OPT_SET_META_CONTEXT, &contexts).len(), 2);
    assert_eq!(client.go("large").map(|export| export.size), Ok(SIZE));

    ask(&mut client, WRITE, PAYLOAD_LEN, 5 * MIB, 4096, &[3; 4096]);
    assert_eq!(chunk(&mut client, 5 * MIB), (true, 0, Vec::new()));
    ask(&mut client, READ, 0, 5 * MIB, 512, b"");
    assert_eq!(chunk(&mut client, 5 * MIB), (true, 1, [&(5 * MIB).to_be_bytes()[..], &[3; 512]].concat()));

    let described = |runs: &[(u64, u64)]| {
        let runs =
            runs.iter().flat_map(|(length, flags)| [length.to_be_bytes(), flags.to_be_bytes()].concat());
        let count = u32::try_from(runs.clone().count() / 16).expect("few");
        (true, 6, [1, count].map(u32::to_be_bytes).concat().into_iter().chain(runs).collect::<Vec<u8>>())
    };
    ask(&mut client, BLOCK_STATUS, 0, 0, SIZE, b"");
    let expected = described(&[(5 * MIB, 3), (4096, 0), (SIZE - 5 * MIB - 4096, 3)]);
    assert_eq!(chunk(&mut client, 0), expected);
    ask(&mut client, TRIM, 0, 0, SIZE, b"");
    assert_eq!(chunk(&mut client, 0), (true, 0, Vec::new()));
    ask(&mut client, BLOCK_STATUS, 0, 4096, SIZE - 4096, b"");
    assert_eq!(chunk(&mut client, 4096), described(&[(SIZE - 4096, 3)]));

    ask(&mut client, READ, 0, 0, SIZE, b"");
    let (is_last, kind, payload) = chunk(&mut client, 0);
    assert_eq!((is_last, kind, &payload[..4]), (true, 0x8001, &[0, 0, 0, 75][..]), "no read is that long");
    ask(&mut client, TRIM, PAYLOAD_LEN, 0, 100, &[0; 100]);
    assert_eq!(chunk(&mut client, 0).1, 0x8001, "a payload that does not belong there");
    ask(&mut client, READ, 0, 5 * MIB, 512, b"");
    assert_eq!(chunk(&mut client, 5 * MIB).1, 2, "the stream is in step, and what was trimmed is a hole");
}
