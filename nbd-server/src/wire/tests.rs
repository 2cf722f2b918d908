use super::Wire;
use crate::rehearsal::{certificates, client};
use crate::tls::Tls;
use rustls::StreamOwned;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

const WORDS: usize = 200_000;

fn words(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| (at * 7 + at / 256).to_le_bytes()[0]).collect()
}

#[test]
fn a_client_is_heard_from_behind_the_handshake_to_its_last_word_over_changes_of_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    certificates::write(directory.path());
    let tls = Tls::load(directory.path(), Vec::new()).expect("certificates");
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let connection = client::connection(&client::load(directory.path()));
    let talking = thread::spawn(move || {
        let mut stream = StreamOwned::new(connection, theirs);
        // It goes out behind the last word of the handshake, in one piece with it.
        stream.conn.writer().write_all(&words(0, 40_000)).expect("room");
        for at in (40_000..WORDS).step_by(40_000) {
            stream.flush().expect("the server listens");
            stream.conn.refresh_traffic_keys().expect("TLS 1.3");
            stream.write_all(&words(at, 40_000)).expect("the server listens");
        }
        stream.conn.send_close_notify();
        stream.flush().expect("the server listens");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer, and its end");
        answer
    });
    tokio_uring::start(async {
        let wire = Wire::new(ours.into());
        let (_, mut heard) = wire.start_tls(&tls).await.expect("a client of TLS");
        while let Ok(more) = wire.receive(Vec::with_capacity(10_000)).await {
            heard.extend(more);
        }
        assert!(heard == words(0, WORDS), "{} of {WORDS} bytes", heard.len());
        // The keys that the client has asked for come before the next words.
        wire.send(words(0, 100_000)).await.expect("a client that says no more still hears");
        wire.say_goodbye().await;
    });
    assert!(talking.join().expect("a client that ends") == words(0, 100_000));
}

/// Its client takes some bytes at a time, so that most sends end half-way.
#[test]
fn bytes_and_the_run_behind_them_arrive_whole_at_a_slow_client() {
    let (ours, mut theirs) = UnixStream::pair().expect("sockets");
    let lengths = [(0, 3_000_000), (16, 1_500_000), (300_000, 40_000), (5, 0)];
    let total = lengths.iter().map(|(bytes, run)| bytes + run).sum::<usize>();
    let taking = thread::spawn(move || {
        let mut taken = Vec::new();
        let mut piece = vec![0; 70_001];
        loop {
            match theirs.read(&mut piece).expect("readable") {
                0 => return taken,
                count => taken.extend_from_slice(&piece[..count]),
            }
            thread::yield_now();
        }
    });
    tokio_uring::start(async {
        let wire = Wire::new(ours.into());
        let mut at = 0;
        for (bytes, run) in lengths {
            let sent = wire.send_both(words(at, bytes), &words(at + bytes, run)).await;
            assert!(sent.expect("a client that listens") == words(at, bytes), "the bytes come back");
            at += bytes + run;
        }
        wire.cut();
    });
    assert!(taking.join().expect("a client that ends") == words(0, total));
}

#[test]
fn a_cut_ends_a_send_that_waits_for_its_client() {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    tokio_uring::start(async {
        let wire = std::rc::Rc::new(Wire::new(ours.into()));
        let sending = wire.clone();
        let sent =
            tokio_uring::spawn(async move { sending.send_both(Vec::new(), &vec![1; 8 << 20]).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!sent.is_finished(), "nobody takes 8 MiB");
        wire.cut();
        assert!(!sent.await.expect("no panic"), "it has failed");
    });
    drop(theirs);
}
