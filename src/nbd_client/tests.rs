use super::{Client, NbdError};
use blockstore::Buffer;
use proptest::prelude::{any, proptest};
use std::io::Write;
use std::os::unix::net::UnixStream;

/// What QEMU says until an export of 1 MiB is agreed on.
fn greeting() -> Vec<u8> {
    let reply = |option: u32, kind: u32, data: &[u8]| {
        let length = u32::try_from(data.len()).expect("short");
        let magic = 0x0003_e889_0455_65a9_u64.to_be_bytes();
        [&magic[..], &option.to_be_bytes(), &kind.to_be_bytes(), &length.to_be_bytes(), data].concat()
    };
    let context = [&7_u32.to_be_bytes()[..], b"base:allocation"].concat();
    let size = [&[0, 0][..], &(1_u64 << 20).to_be_bytes(), &[0, 1]].concat();
    let parts = [
        b"NBDMAGICIHAVEOPT\0\x03".to_vec(),
        reply(8, 1, &[]),
        reply(10, 4, &context),
        reply(10, 1, &[]),
        reply(7, 3, &size),
        reply(7, 1, &[]),
    ];
    parts.concat()
}

/// A client whose server has said all it will ever say.
fn client(words: &[u8]) -> Result<Client, NbdError> {
    let (mut server, stream) = UnixStream::pair().expect("a pair");
    server.write_all(words).expect("short enough for the socket");
    server.shutdown(std::net::Shutdown::Write).expect("open");
    // What the client says is read by nobody, and fits the socket.
    let client = Client::open(stream);
    std::mem::forget(server);
    client
}

fn chunk(flags: u16, kind: u16, cookie: u64, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("short");
    let magic = 0x668e_33ef_u32.to_be_bytes();
    let parts = [&magic[..], &flags.to_be_bytes(), &kind.to_be_bytes(), &cookie.to_be_bytes()];
    [&parts.concat()[..], &length.to_be_bytes(), content].concat()
}

fn after_greeting(words: &[Vec<u8>]) -> Client {
    client(&[greeting(), words.concat()].concat()).expect("a good server")
}

#[test]
fn answers_come_in_any_order_and_are_taken_by_ticket() {
    let data = |at: u64, byte: u8| [&at.to_be_bytes()[..], &[byte; 4]].concat();
    let status = [7_u32, 4096, 3, 8192, 0].map(u32::to_be_bytes).concat();
    let words = [chunk(1, 1, 2, &data(512, 2)), chunk(1, 1, 1, &data(0, 1)), chunk(1, 5, 3, &status)];
    let mut client = after_greeting(&words);
    assert_eq!(client.size(), 1 << 20);
    let first = client.read(0, Buffer::zeroed(4)).expect("sent");
    let second = client.read(512, Buffer::zeroed(4)).expect("sent");
    let extents = client.extents(0, 12_288).expect("extents");
    assert_eq!(extents.iter().map(|e| (e.length, e.is_zero)).collect::<Vec<_>>(), [(4096, true), (8192, false)]);
    assert_eq!(client.bytes(&first).expect("read")[..], [1; 4]);
    assert_eq!(client.bytes(&second).expect("read")[..], [2; 4]);
}

#[test]
fn errors_of_the_server_are_errors_of_one_request() {
    let refused = [&5_u32.to_be_bytes()[..], &3_u16.to_be_bytes(), b"bad"].concat();
    let hole = [&0_u64.to_be_bytes()[..], &4_u32.to_be_bytes()].concat();
    let mut client = after_greeting(&[chunk(1, 0x8001, 1, &refused), chunk(0, 2, 2, &hole), chunk(1, 0, 2, &[])]);
    let first = client.read(0, Buffer::zeroed(4)).expect("sent");
    let second = client.read(0, Buffer::from_slice(&[9; 4])).expect("sent");
    let error = client.bytes(&first).expect_err("refused");
    assert_eq!(error.to_string(), "error 5: bad");
    assert_eq!(client.bytes(&second).expect("a hole")[..], [0; 4]);
    assert!(matches!(client.extents(0, 4096), Err(NbdError::Ended)));
}

/// Each of them would otherwise write outside of a buffer, leave bytes of others in it, or wait for ever.
#[test]
fn a_server_that_lies_is_not_believed() {
    let data = |at: u64, length: usize| [&at.to_be_bytes()[..], &vec![1; length]].concat();
    let lies = [
        chunk(1, 1, 1, &data(4, 4)),
        chunk(1, 1, 1, &data(0, 8)),
        chunk(1, 1, 1, &data(0, 3)),
        chunk(1, 1, 1, &data(u64::MAX, 4)),
        chunk(1, 1, 9, &data(0, 4)),
        chunk(1, 1, 1, &[0; 3]),
        chunk(1, 5, 1, &[0; 12]),
        chunk(1, 0, 1, &[]),
        chunk(1, 99, 1, &[]),
        [chunk(0, 1, 1, &data(0, 4)), chunk(1, 1, 1, &data(0, 4))].concat(),
        b"whatever this is".to_vec(),
    ];
    for lie in lies {
        let mut client = after_greeting(std::slice::from_ref(&lie));
        let ticket = client.read(0, Buffer::zeroed(4)).expect("sent");
        let error = client.bytes(&ticket).expect_err("a lie");
        assert!(matches!(error, NbdError::Nonsense(_)), "{lie:02x?}: {error}");
    }
}

#[test]
fn a_chunk_that_claims_gigabytes_is_refused_before_it_is_read() {
    let mut claim = chunk(1, 5, 1, &[]);
    claim[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = after_greeting(&[claim]).extents(0, 4096).expect_err("a lie");
    assert!(matches!(error, NbdError::Nonsense("a chunk that is too long")), "{error}");
}

proptest! {
    /// Whatever bytes come, there is an answer or an error.
    #[test]
    fn any_words_are_answered_or_refused(words: Vec<u8>, cut: bool, at in any::<u16>()) {
        let mut all = greeting();
        if cut {
            all.truncate(usize::from(at) % all.len());
        }
        all.extend(&words);
        if let Ok(mut client) = client(&all) {
            let ticket = client.read(0, Buffer::zeroed(16)).expect("sent");
            let _any_answer_is_fine = client.bytes(&ticket);
            let _any_extents_are_fine = client.extents(0, 4096);
        }
    }
}
