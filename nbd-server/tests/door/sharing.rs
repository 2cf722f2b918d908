//! Several connections to one volume (W6, W7).

use crate::served::client::Client;
use crate::served::{MIB, ServedPool, name, wait_for};
use std::thread;
use thinpool::Access;

#[test]
fn two_connections_of_one_volume_see_each_others_writes() {
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    let mut one = served.open("desk");
    let mut other = served.open_simple("desk");
    for round in 1..=20_u8 {
        let offset = u64::from(round) * 4096;
        one.write(0, offset, &[round; 4096]).expect("written");
        assert_eq!(other.read(offset, 4096), Ok(vec![round; 4096]));
        other.write(0, offset, &[round + 100; 512]).expect("written");
        assert_eq!(one.read(offset, 512), Ok(vec![round + 100; 512]));
    }
    one.disconnect();
    other.disconnect();
    served.end();
}

#[test]
fn unix_and_tcp_clients_share_a_volume() {
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    let mut unix = served.open("desk");
    let mut tcp = Client::connect_tcp(served.tcp());
    tcp.negotiate_structured("desk");
    tcp.go("desk").expect("an export that opens");
    tcp.write(0, 0, &vec![6; 8 << 20]).expect("written");
    assert_eq!(unix.read(0, 8 << 20), Ok(vec![6; 8 << 20]));
    unix.trim(0, 8 << 20).expect("trimmed");
    assert_eq!(tcp.read(0, 8 << 20), Ok(vec![0; 8 << 20]));
    tcp.disconnect();
    unix.disconnect();
    served.end();
}

#[test]
fn a_volume_is_kept_until_its_last_connection_ends() {
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    let (one, mut other) = (served.open("desk"), served.open("desk"));
    let is_free = || served.pool.attach(&name("desk"), Access::ReadWrite).is_ok();
    assert!(!is_free());
    one.disconnect();
    wait_for("the first connection's end", || served.server.connections() == 1);
    assert!(!is_free());
    other.write(0, 0, &[1; 512]).expect("written");
    other.disconnect();
    served.wait_until_alone();
    assert!(is_free());
    served.end();
}

#[test]
fn many_connections_write_their_parts_at_the_same_time() {
    let served = ServedPool::start(&[("desk", 64 * MIB)]);
    let clients: Vec<_> = (0..8).map(|_| served.open("desk")).collect();
    thread::scope(|scope| {
        for (number, mut client) in (1..).zip(clients) {
            scope.spawn(move || {
                for step in 0..64_u64 {
                    let offset = (step * 8 + u64::from(number)) * 4096;
                    client.write(0, offset, &[number; 4096]).expect("written");
                    assert_eq!(client.read(offset, 4096), Ok(vec![number; 4096]));
                    if step % 16 == 0 {
                        client.flush().expect("flushed");
                    }
                }
                client.disconnect();
            });
        }
    });
    let mut reader = served.open("desk");
    for number in 1..=8_u8 {
        for step in 0..64_u64 {
            let offset = (step * 8 + u64::from(number)) * 4096;
            assert_eq!(reader.read(offset, 4096), Ok(vec![number; 4096]));
        }
    }
    reader.disconnect();
    served.end();
}
