//! The handshake over a socket.

use crate::served::client::{
    ACK, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, go, raw_option, sized,
};
use crate::served::{MIB, ServedPool, name};
use thinpool::{Access, Command};

const UNSUP: u32 = (1 << 31) + 1;
const POLICY: u32 = (1 << 31) + 2;
const INVALID: u32 = (1 << 31) + 3;
const UNKNOWN: u32 = (1 << 31) + 6;

#[test]
fn a_list_has_volumes_snapshots_and_versions_and_what_they_are() {
    let served = ServedPool::start(&[("desk", 4 * MIB), ("golden", 8 * MIB)]);
    served.run(Command::Snapshot { names: vec![name("desk@old")] });
    served.run(Command::Publish { volume: name("golden"), version: name("win11@v1") });
    let mut client = served.connect();
    let mut listed = client.option(OPT_LIST, b"");
    assert_eq!(listed.pop(), Some((ACK, Vec::new())));
    listed.sort();
    let texts = [("desk", "volume"), ("desk@old", "snapshot, made from desk"), ("win11@v1", "image version")];
    let expected = texts.map(|(name, text)| (2, [sized(name), text.as_bytes().to_vec()].concat()));
    assert_eq!(listed, expected);
    for (export, size) in [("desk", 4), ("desk@old", 4), ("win11@v1", 8), ("", 4)] {
        let mut client = served.connect();
        assert_eq!(client.go(export).map(|export| export.size), Ok(size * MIB), "{export:?}");
        client.disconnect();
    }
    assert_eq!(client.hang_up(), 0);
    served.end();
}

#[test]
fn cve_2019_14850_nothing_is_opened_before_an_export_is_chosen() {
    let served = ServedPool::start(&[("desk", 4 * MIB)]);
    let mut client = served.connect();
    assert_eq!(client.option(OPT_LIST, b"").len(), 2);
    assert_eq!(client.option(OPT_INFO, &go("desk")).last(), Some(&(ACK, Vec::new())));
    client.negotiate_structured("desk");
    let attachment = served.pool.attach(&name("desk"), Access::ReadWrite).expect("nobody has it");
    let refused = client.option(OPT_GO, &go("desk"));
    assert_eq!(refused[0].0, POLICY, "{refused:?}");
    drop(attachment);
    client.go("desk").expect("now it is free");
    client.disconnect();
    served.end();
}

#[test]
fn what_cannot_be_had_is_refused_and_the_client_may_go_on() {
    let served = ServedPool::start(&[("desk", 4 * MIB)]);
    let mut client = served.connect();
    for export in ["nobody", "desk@nothing", "../desk", "desk@", "\n", &"n".repeat(4096)] {
        assert_eq!(client.go(export), Err(UNKNOWN), "{export:?}");
    }
    assert_eq!(client.go(&"n".repeat(4097)), Err(INVALID));
    assert_eq!(client.option(OPT_GO, &[0xff; 300])[0].0, INVALID);
    assert_eq!(client.option(4242, &[1; 1000])[0].0, UNSUP);
    assert_eq!(client.option(4242, &vec![1; 1 << 20])[0].0, UNSUP);
    assert_eq!(client.option(5, b"")[0].0, POLICY, "there is no TLS");
    client.go("desk").expect("still in step");
    client.disconnect();
    served.end();
}

#[test]
fn an_unknown_export_by_its_old_name_and_an_abort_end_the_connection() {
    let served = ServedPool::start(&[("desk", 4 * MIB)]);
    let mut client = served.connect();
    client.send(&raw_option(OPT_EXPORT_NAME, b"nobody"));
    assert_eq!(client.read_to_end(), 0);
    let mut client = served.connect();
    assert_eq!(client.option(OPT_ABORT, b""), [(ACK, Vec::new())]);
    assert_eq!(client.read_to_end(), 0);
    served.end();
}

#[test]
fn a_handshake_sent_byte_by_byte_is_understood() {
    let served = ServedPool::start(&[("desk", 4 * MIB)]);
    let mut client = served.connect();
    for byte in raw_option(OPT_GO, &go("desk")) {
        client.send(&[byte]);
    }
    // Four pieces of information and the acknowledgement.
    let length = 5 * 20 + 12 + (2 + 4) + (2 + 6) + 14;
    assert_eq!(client.bytes(length).len(), length);
    client.write(0, 0, &[1; 512]).expect("written");
    client.disconnect();
    served.end();
}
