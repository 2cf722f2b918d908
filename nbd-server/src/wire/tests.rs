use super::Wire;
use crate::rehearsal::{certificates, client};
use crate::tls::Tls;
use rustls::StreamOwned;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

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
