//! The server's end, with clients in every state.

use crate::served::client::{Client, OPT_GO, READ, WRITE, go, raw_option, request};
use crate::served::{MIB, ServedPool, now};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// CVE-2024-7409: a client that holds its socket must not hold up the server.
#[test]
fn cve_2024_7409_a_hundred_half_open_clients_do_not_hold_up_a_shutdown() {
    let served = ServedPool::start(&[("desk", 64 * MIB)]);
    let mut silent = Vec::new();
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..100 {
        match number % 5 {
            0 => silent.push(UnixStream::connect(served.socket()).expect("connected")),
            1 => clients.push(served.connect()),
            2 => {
                let mut client = served.connect();
                client.send(&raw_option(OPT_GO, &go("desk"))[..20]);
                clients.push(client);
            }
            3 => {
                let mut client = served.open("desk");
                client.send(&request(READ, 0, 1, 0, 4096)[..10]);
                clients.push(client);
            }
            _ => {
                let mut client = served.open("desk");
                client.ask(WRITE, 0, 0, 1 << 20, &[1; 1000]);
                clients.push(client);
            }
        }
    }
    let begun = now();
    served.end();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    for mut client in clients {
        client.read_to_end();
    }
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_a_shutdown_beyond_its_deadline() {
    let limits = nbd_server::Limits { drain_deadline: Duration::from_millis(500), ..Default::default() };
    let served = ServedPool::with_limits(&[("desk", 64 * MIB)], limits);
    let mut client = served.open_simple("desk");
    client.write(0, 0, &vec![1; 16 << 20]).expect("written");
    for cookie in 0..4 {
        client.send(&request(READ, 0, cookie, 0, 16 << 20));
    }
    let begun = now();
    served.end();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    drop(client);
}

#[test]
fn what_was_acknowledged_before_a_shutdown_is_there_after_it() {
    let served = ServedPool::start(&[("desk", 4 * MIB)]);
    let mut client = served.open("desk");
    client.write(0, 4096, &[5; 4096]).expect("written");
    let served = served.restart_server();
    assert_eq!(client.read_to_end(), 0);
    let mut client = served.open("desk");
    assert_eq!(client.read(4096, 4096), Ok(vec![5; 4096]));
    client.disconnect();
    served.end();
}
