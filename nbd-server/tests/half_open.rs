//! Connections that say nothing, by the thousand, or ask and do not listen, beside one that works. Alone in their program, and one after
//! the other, because they look at times.

mod served;

use nbd_server::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use served::client::{Client, READ, request};
use served::{MIB, ServedPool, now, wait_for};
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Threads of a served pool's server.
const WORKERS: usize = 2;

/// One test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The slowest of a hundred reads, of the hundred that others on the machine disturbed least.
fn slowest_read(client: &mut Client) -> Duration {
    let slowest = |_| {
        let times = (0..100_u64).map(|number| {
            let begun = now();
            client.read(number * 4096, 4096).expect("read");
            begun.elapsed()
        });
        times.max().unwrap_or_default()
    };
    (0..15).map(slowest).min().unwrap_or_default()
}

#[test]
fn ten_thousand_half_open_connections_keep_nobody_out_and_slow_nobody_down() {
    const HALF_OPEN: usize = 10_000;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum");
    let served = ServedPool::start(&[("desk", 4 * MIB)]);
    let mut before = served.open("desk");
    let alone = slowest_read(&mut before);
    // The server closes the older ones; what it has closed is not kept here either.
    let mut open = VecDeque::new();
    for number in 0..HALF_OPEN {
        let mut stream = UnixStream::connect(served.socket()).expect("the kernel connects");
        // Some say nothing, some half of a word.
        stream.write_all(&b"\0\0\0\x03IHAVEOPT"[..number % 13]).unwrap_or_default();
        open.push_back(stream);
        // More than the server keeps.
        if open.len() > 1000 {
            open.pop_front();
        }
    }
    let bound = 1 + WORKERS * Limits::default().handshakes_max;
    wait_for("the older ones to be cut", || served.server.connections() <= bound);
    let mut after = served.open("desk");
    after.write(0, 0, &[1; 4096]).expect("written");
    let crowded = slowest_read(&mut before);
    drop(open);
    wait_for("the others to end", || served.server.connections() <= 2);
    let alone = alone.max(slowest_read(&mut before));
    println!("{crowded:?} beside half-open connections, {alone:?} alone");
    let noise = Duration::from_millis(1);
    assert!(crowded <= 2 * alone + noise, "{crowded:?} beside half-open connections, {alone:?} alone");
    before.disconnect();
    after.disconnect();
    served.end();
}

/// Bytes of memory this process has, the server with it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("our own");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is told");
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kibibytes << 10
}

/// Each asks for 256 MiB and takes none of it.
#[test]
fn clients_that_never_read_cost_little_memory_and_slow_nobody_down() {
    const CLIENTS: u64 = 64;
    const REQUESTS: u64 = 64;
    const LENGTH: u32 = 4 << 20;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let served = ServedPool::start(&[("desk", 4 * MIB)]);
    let mut working = served.open("desk");
    working.write(0, 0, &vec![1; 4 << 20]).expect("written");
    let alone = slowest_read(&mut working);
    let before = resident();
    let mut deaf: Vec<Client> = (0..CLIENTS).map(|_| served.open_simple("desk")).collect();
    for client in &mut deaf {
        (0..REQUESTS).for_each(|cookie| client.send(&request(READ, 0, cookie, 0, LENGTH)));
    }
    wait_for("their requests", || resident().saturating_sub(before) > CLIENTS * 3 * MIB);
    let crowded = slowest_read(&mut working);
    let grown = resident().saturating_sub(before);
    // A connection has a request under way, and a socket that is full of a reply.
    let bound = CLIENTS * 8 * MIB;
    println!("{crowded:?} beside clients that never read, {alone:?} alone; {} MiB for them", grown / MIB);
    assert!(grown < bound, "{} MiB for {CLIENTS} clients", grown / MIB);
    drop(deaf);
    wait_for("the others to end", || served.server.connections() <= 1);
    let alone = alone.max(slowest_read(&mut working));
    let noise = Duration::from_millis(1);
    assert!(crowded <= 2 * alone + noise, "{crowded:?} beside clients that never read, {alone:?} alone");
    working.disconnect();
    served.end();
}
