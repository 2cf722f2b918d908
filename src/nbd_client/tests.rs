use super::{Client, NbdError};
use blockstore::Buffer;
use proptest::prelude::{any, proptest};
use std::io::Write;
use std::os::unix::net::UnixStream;

fn option_reply(kind: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("short");
    let magic = 0x0003_e889_0455_65a9_u64.to_be_bytes();
    [&magic[..], &7_u32.to_be_bytes(), &kind.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// What QEMU says until an export of 1 MiB is agreed on.
fn greeting() -> Vec<u8> {
    let size = [&[0, 0][..], &(1_u64 << 20).to_be_bytes(), &[0, 1]].concat();
    [b"NBDMAGICIHAVEOPT\0\x03".to_vec(), option_reply(3, &size), option_reply(1, &[])].concat()
}

/// A client whose server has said all it will ever say.
fn client(words: &[u8]) -> Result<Client, NbdError> {
    let (mut server, stream) = UnixStream::pair().expect("a pair");
    server.write_all(words).expect("short enough for the socket");
    server.shutdown(std::net::Shutdown::Write).expect("open");
    let client = Client::open(stream);
    // What the client says is read by nobody, and fits the socket.
    std::mem::forget(server);
    client
}

fn reply(error: u32, cookie: u64, data: &[u8]) -> Vec<u8> {
    let magic = 0x6744_6698_u32.to_be_bytes();
    [&magic[..], &error.to_be_bytes(), &cookie.to_be_bytes(), data].concat()
}

fn after_greeting(words: &[Vec<u8>]) -> Client {
    client(&[greeting(), words.concat()].concat()).expect("a good server")
}

#[test]
fn answers_come_in_any_order_and_are_taken_by_ticket() {
    let mut client = after_greeting(&[reply(0, 2, &[2; 4]), reply(5, 3, &[]), reply(0, 1, &[1; 4])]);
    assert_eq!(client.size(), 1 << 20);
    let [first, second, third] = [0, 512, 1024].map(|at| client.read(at, Buffer::zeroed(4)).expect("sent"));
    assert_eq!(client.bytes(&first).expect("read")[..], [1; 4]);
    assert_eq!(client.bytes(&second).expect("read")[..], [2; 4]);
    assert!(matches!(client.bytes(&third), Err(NbdError::Refused(5))));
    let fourth = client.read(0, Buffer::zeroed(4)).expect("sent");
    assert!(matches!(client.bytes(&fourth), Err(NbdError::Ended)));
}

#[test]
fn a_server_that_lies_is_not_believed() {
    let lies = [reply(0, 9, &[0; 4]), b"whatever this may be".to_vec()];
    for lie in lies {
        let mut client = after_greeting(&[lie]);
        let ticket = client.read(0, Buffer::zeroed(4)).expect("sent");
        assert!(matches!(client.bytes(&ticket), Err(NbdError::Nonsense(_))));
    }
    let mut twice = after_greeting(&[reply(0, 1, &[1; 4]), reply(0, 1, &[2; 4])]);
    let [first, second] = [0, 4].map(|at| twice.read(at, Buffer::zeroed(4)).expect("sent"));
    assert_eq!(twice.bytes(&first).expect("read")[..], [1; 4]);
    assert!(matches!(twice.bytes(&second), Err(NbdError::Nonsense(_))));
}

#[test]
fn a_greeting_that_is_none_ends_it() {
    let start = || greeting()[..18].to_vec();
    let mut long = option_reply(3, &[]);
    long[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    let without_size = option_reply(1, &[]);
    let endless = option_reply(3, &[0, 9]).repeat(100);
    for words in [long, without_size, endless, option_reply(3, &[0]), b"x".repeat(64)] {
        let error = client(&[start(), words].concat()).expect_err("no server");
        assert!(matches!(error, NbdError::Nonsense(_)), "{error}");
    }
    let refused = client(&[start(), option_reply(0x8000_0006, b"no such export")].concat());
    assert!(matches!(refused, Err(NbdError::Refused(0x8000_0006))));
    assert!(matches!(client(b"NBDMAGICIHAVEOPT\0\0"), Err(NbdError::Nonsense(_))));
    assert!(matches!(client(b""), Err(NbdError::Ended)));
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
        }
    }
}
