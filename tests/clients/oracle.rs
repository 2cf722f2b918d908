//! Every option of the handshake, well formed and malformed in every way, answered by QEMU's server and by ours.

use super::peers::QemuNbd;
use super::{Place, end, path};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const LIST: u32 = 3;
const STARTTLS: u32 = 5;
const INFO: u32 = 6;
const GO: u32 = 7;
const STRUCTURED_REPLY: u32 = 8;
const LIST_CONTEXTS: u32 = 9;
const SET_CONTEXTS: u32 = 10;
const EXTENDED_HEADERS: u32 = 11;

const ACK: u32 = 1;
const ERROR: u32 = 1 << 31;
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server made of an option: the types of its replies, or the end of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Replies(Vec<u32>),
    Closed,
}

struct Probe(UnixStream);

impl Probe {
    fn connect(socket: &Path) -> Self {
        let mut stream = UnixStream::connect(socket).expect("a server that listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).expect("a greeting");
        stream.write_all(&[0, 0, 0, 3]).expect("a server that reads");
        Self(stream)
    }

    fn ask(&mut self, option: u32, data: &[u8]) -> Verdict {
        let length = u32::try_from(data.len()).expect("short");
        let raw = [b"IHAVEOPT", &option.to_be_bytes()[..], &length.to_be_bytes(), data].concat();
        // A server may have closed already; what it said before is read all the same.
        let _closed_is_a_verdict = self.0.write_all(&raw);
        let mut kinds = Vec::new();
        loop {
            let mut header = [0; 20];
            if self.0.read_exact(&mut header).is_err() {
                return if kinds.is_empty() { Verdict::Closed } else { Verdict::Replies(kinds) };
            }
            let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
            assert_eq!(
                (header[..8].to_vec(), number(8)),
                (0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec(), option)
            );
            let mut data = vec![0; usize::try_from(number(16)).expect("short")];
            self.0.read_exact(&mut data).expect("the reply's data");
            kinds.push(number(12));
            if number(12) == ACK || number(12) >= ERROR {
                kinds.dedup();
                return Verdict::Replies(kinds);
            }
        }
    }
}

fn sized(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("short").to_be_bytes()[..], text].concat()
}

fn go(name: &[u8], wishes: &[u16]) -> Vec<u8> {
    let count = u16::try_from(wishes.len()).expect("few");
    let wishes: Vec<u8> = [count].iter().chain(wishes).flat_map(|wish| wish.to_be_bytes()).collect();
    [sized(name), wishes].concat()
}

fn contexts(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let count = u32::try_from(queries.len()).expect("few").to_be_bytes().to_vec();
    let queries = queries.iter().flat_map(|query| sized(query));
    [sized(name), count].concat().into_iter().chain(queries).collect()
}

/// Well-formed data of an option, if it takes any.
fn whole(option: u32) -> Vec<Vec<u8>> {
    match option {
        INFO | GO => vec![go(b"v", &[]), go(b"v", &[3]), go(b"v", &[0, 1, 2, 3, 99])],
        LIST_CONTEXTS | SET_CONTEXTS => vec![
            contexts(b"v", &[]),
            contexts(b"v", &[b"base:allocation"]),
            contexts(b"v", &[b"base:", b"qemu:", b"x-unknown:thing"]),
            contexts(b"v", &[b"base:allocation", b"base:other", b"qemu:allocation-depth"]),
        ],
        _ => vec![Vec::new()],
    }
}

/// The data with something wrong about it: cut, too long, lengths that lie, names that are none.
fn malformed(option: u32) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for whole in whole(option) {
        all.extend((0..whole.len()).map(|end| whole[..end].to_vec()));
        all.push([&whole[..], &[0]].concat());
        for lie in [0_u32, 2, 5, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            if whole.len() >= 4 {
                all.push([&lie.to_be_bytes()[..], &whole[4..]].concat());
            }
        }
    }
    if matches!(option, INFO | GO) {
        all.extend([go(b"nobody", &[]), go(&[b'n'; 4096], &[]), go(&[b'n'; 4097], &[])]);
    }
    if matches!(option, LIST_CONTEXTS | SET_CONTEXTS) {
        all.extend([contexts(b"nobody", &[]), contexts(b"v", &[&[b'q'; 5000]])]);
    }
    all
}

/// Where ours answers otherwise, for a reason.
fn is_allowed(option: u32, data: &[u8], theirs: &Verdict, ours: &Verdict) -> bool {
    let (Verdict::Replies(theirs), Verdict::Replies(ours)) = (theirs, ours) else {
        // QEMU ends the connection over what is only a mistake; ours says what it was and goes on.
        return *theirs == Verdict::Closed
            && matches!(ours, Verdict::Replies(kinds) if kinds.iter().all(|kind| *kind >= ERROR));
    };
    let are_errors = |kinds: &[u32]| kinds.iter().all(|kind| *kind >= ERROR);
    // Which error it is may differ where two things are wrong at once, or one of them is looked at first.
    (are_errors(theirs) && are_errors(ours))
        // What a version of QEMU's does not know yet.
        || (option == EXTENDED_HEADERS && *theirs == [ERROR + 1])
        // QEMU lists contexts also to clients that cannot use them, reads no further than the last query, and takes a query
        // that is none for one it does not know.
        || (matches!(option, LIST_CONTEXTS | SET_CONTEXTS) && are_errors(ours) && !data.is_empty())
}

#[test]
fn options_are_answered_as_qemus_server_answers_them() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "16M"]);
    let daemon = place.serve(&["--default-export", "v"]);
    let image = place.disk("image.raw", 16, 7, &[1]);
    let oracle = QemuNbd::serve(&place.path("oracle"), path(&image), "v");
    let ours = place.path("nbd.sock");
    let (mut asked, mut differed) = (0, 0);
    let every = [
        ABORT,
        LIST,
        STARTTLS,
        INFO,
        GO,
        STRUCTURED_REPLY,
        LIST_CONTEXTS,
        SET_CONTEXTS,
        EXTENDED_HEADERS,
        0,
        4,
        12,
        99,
    ];
    for before in [&[][..], &[STRUCTURED_REPLY]] {
        for option in every {
            for data in whole(option).into_iter().chain(malformed(option)) {
                let verdict = |socket: &Path| {
                    let mut probe = Probe::connect(socket);
                    before
                        .iter()
                        .for_each(|option| assert_eq!(probe.ask(*option, b""), Verdict::Replies(vec![ACK])));
                    probe.ask(option, &data)
                };
                let (theirs, ours) = (verdict(&oracle.socket), verdict(&ours));
                asked += 1;
                if theirs != ours {
                    differed += 1;
                    assert!(
                        is_allowed(option, &data, &theirs, &ours),
                        "option {option} after {before:?} with {data:02x?}: {theirs:x?}, and ours {ours:x?}"
                    );
                }
            }
        }
    }
    println!("{asked} options, {differed} answered otherwise for a known reason");
    assert!(differed * 20 < asked, "{differed} of {asked} are no exceptions");
    for name in [&b"v"[..], b"nobody", &[b'n'; 4097]] {
        let agreed = |socket: &Path| {
            let mut probe = Probe::connect(socket);
            let length = u32::try_from(name.len()).expect("short").to_be_bytes();
            let raw = [b"IHAVEOPT", &EXPORT_NAME.to_be_bytes()[..], &length, name].concat();
            probe.0.write_all(&raw).expect("a server that reads");
            let mut size = [0; 8];
            probe.0.read_exact(&mut size).is_ok().then(|| u64::from_be_bytes(size))
        };
        assert_eq!(agreed(&oracle.socket), agreed(&ours), "{name:02x?}");
    }
    drop(oracle);
    end(&place, daemon);
}
