//! What a client, or somebody in between, sends before, behind and instead of what TLS expects.

use crate::served::client::{ACK, Client, OPT_ABORT, OPT_LIST, OPT_STARTTLS, raw_option};
use crate::served::secure::SecureServer;
use crate::served::{MIB, ServedPool};
use rustls::Stream;
use std::io::{Read, Write};

fn read(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut raw = vec![0; count];
    stream.read_exact(&mut raw).expect("the server answers");
    raw
}

/// The list of exports and its end, and no word about another option.
fn assert_lists_desk(secure: &mut impl Read) {
    let listed = read(secure, 20);
    assert_eq!((listed[11], &listed[12..16]), (3, &[0, 0, 0, 2][..]), "the list");
    let length = usize::from(listed[19]);
    assert!(read(secure, length).windows(4).any(|word| word == b"desk"));
    let end = read(secure, 20);
    assert_eq!((end[11], &end[12..16]), (3, &ACK.to_be_bytes()[..]), "the end of the list");
}

#[test]
fn words_put_in_front_of_tls_are_thrown_away() {
    let served = ServedPool::start(&[("desk", MIB)]);
    let server = SecureServer::start(&served.pool);
    let mut client = Client::connect(&server.socket());
    let put_in_front = raw_option(OPT_ABORT, b"");
    client.send(&[raw_option(OPT_STARTTLS, b""), put_in_front].concat());
    let reply = client.bytes(20);
    assert_eq!((&reply[11..12], &reply[12..16]), (&[5][..], &ACK.to_be_bytes()[..]));

    let mut tls = server.tls();
    let mut secure = Stream::new(&mut tls, &mut client.stream);
    secure.write_all(&raw_option(OPT_LIST, b"")).expect("sent");
    assert_lists_desk(&mut secure);
    drop(client);
    server.end();
    served.end();
}

/// A client need not wait for the end of the handshake to speak, and may say more than one option has room for.
#[test]
fn words_right_behind_the_handshake_are_heard() {
    const LISTS: usize = 2_500;
    let served = ServedPool::start(&[("desk", MIB)]);
    let server = SecureServer::start(&served.pool);
    let mut client = Client::connect(&server.socket());
    assert_eq!(client.option(OPT_STARTTLS, b"").len(), 1);
    let mut tls = server.tls();
    tls.writer().write_all(&raw_option(OPT_LIST, b"").repeat(LISTS)).expect("room");
    let mut secure = Stream::new(&mut tls, &mut client.stream);
    for _ in 0..LISTS {
        assert_lists_desk(&mut secure);
    }
    drop(client);
    server.end();
    served.end();
}
