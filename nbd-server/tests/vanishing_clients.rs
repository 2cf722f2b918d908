//! Ten thousand clients that vanish at any byte; a program of its own, because it counts the process's descriptors.

mod served;

use served::client::{
    Client, FLUSH, OPT_GO, OPT_LIST, OPT_STRUCTURED_REPLY, READ, TRIM, WRITE, go, raw_option, request,
};
use served::{MIB, ServedPool};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const CLIENTS: usize = 10_000;
const SEED: u64 = 0x0ff5_4007;

/// xorshift64.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(most).expect("a size")).expect("below a size")
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a list of descriptors").count()
}

/// All a client may say, from its flags to its last request.
fn conversation() -> Vec<u8> {
    let mut raw = vec![0, 0, 0, 3];
    raw.extend(raw_option(OPT_LIST, b""));
    raw.extend(raw_option(99, &[7; 100]));
    raw.extend(raw_option(OPT_STRUCTURED_REPLY, b""));
    raw.extend(raw_option(OPT_GO, &go("desk")));
    for cookie in 0..4 {
        raw.extend(request(WRITE, 0, cookie, cookie * 4096, 4096));
        raw.resize(raw.len() + 4096, 0x11);
        raw.extend(request(READ, 0, cookie, 0, 65536));
        raw.extend(request(TRIM, 0, cookie, cookie * 4096, 4096));
        raw.extend(request(FLUSH, 0, cookie, 0, 0));
    }
    raw
}

#[test]
fn ten_thousand_clients_that_vanish_anywhere_leave_nothing_behind() {
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    served.open("desk").disconnect();
    served.wait_until_alone();
    let (base, conversation, mut chance) = (descriptors(), conversation(), Chance(SEED));
    for number in 0..CLIENTS {
        // The beginning of the conversation is short and has the most states.
        let most = if number % 2 == 0 { 400 } else { conversation.len() };
        let mut stream = UnixStream::connect(served.socket()).expect("a server that listens");
        if number % 10 > 0 {
            // Greeted, so it is one of those that are served.
            stream.read_exact(&mut [0; 18]).expect("a greeting");
        }
        // A server that has closed already is as good as one that has read it all.
        let _closed_is_fine = stream.write_all(&conversation[..chance.below(most)]);
        drop(stream);
        if number % 500 == 0 {
            // There may be as many as the server takes.
            served.wait_until_alone();
            let mut client: Client = served.open("desk");
            client.write(0, MIB, &[1; 512]).expect("the others are served all the same");
            client.disconnect();
        }
    }
    served.wait_until_alone();
    served::wait_for("the descriptors", || descriptors() == base);
    served.end();
}
