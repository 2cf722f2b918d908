//! What a ring has of a worker that others have too: nobody's requests wait for all that another asks for.

use super::{HEADER, IN, STATUS, now, turn};
use crate::served::{MIB, Served};
use crate::vhost_client::Ask;
use crate::vhost_monitor::{DESCRIPTORS, FREE, INDIRECT, MEMORY_BYTES, Monitor, NEXT, WRITE};
use std::time::Duration;
use thinpool::Access;
use vm_memory::ByteValued;

const SIZE: u16 = 64;
/// Segments of one request, each of half a mebibyte.
const SEGMENTS: u16 = 500;
const TABLE: u64 = FREE + 0x1000;
const HALF: u32 = 0x8_0000;

/// Asks for 250 MiB so many times at once, without a wait.
fn ask_for_much(monitor: &mut Monitor, requests: u16) {
    let descriptor = |address: u64, length, flags, next| {
        virtio_queue::desc::split::Descriptor::new(address, length, flags, next).as_slice().to_vec()
    };
    let mut table = descriptor(HEADER, 16, NEXT, 1);
    let data = u64::try_from(MEMORY_BYTES).expect("small") - u64::from(HALF);
    (1..=SEGMENTS).for_each(|index| table.extend(descriptor(data, HALF, NEXT | WRITE, index + 1)));
    table.extend(descriptor(STATUS, 1, WRITE, 0));
    monitor.header(HEADER, IN, 0);
    monitor.put(usize::try_from(TABLE).expect("small"), &table);
    for head in 0..requests {
        monitor.describe(head, TABLE, u32::from(SEGMENTS + 2) * 16, INDIRECT, 0);
    }
    (0..requests).for_each(|head| monitor.offer_in(head, SIZE));
}

/// The memory a worker may hold is always full: of four long transfers that go on and on.
#[test]
fn a_neighbour_of_long_transfers_is_answered_meanwhile() {
    const REQUESTS: u16 = 6;
    assert!(DESCRIPTORS + usize::from(SIZE) * 16 <= usize::try_from(FREE).expect("small"));
    let _turn = turn();
    let served = Served::start(&[("long", 1024 * MIB), ("longer", 1024 * MIB), ("other", 8 * MIB)]);
    // One on each of the two workers.
    let mut long = ["long", "longer"].map(|name| {
        served.server.export(&served.order(name, Access::ReadWrite, 1)).expect("exported");
        let mut monitor = Monitor::connect(&served.socket(name));
        monitor.set_up(SIZE);
        monitor
    });
    let mut neighbour = served.export_and_connect("other", Access::ReadWrite);
    let start = now();
    long.iter_mut().for_each(|monitor| ask_for_much(monitor, REQUESTS));
    let mut longest = Duration::ZERO;
    while long.iter().any(|monitor| monitor.used() == 0) {
        let asked = now();
        assert_eq!(neighbour.run(Ask::Read { offset: 0, length: 4096 }).expect("an answer"), 0);
        longest = longest.max(asked.elapsed());
    }
    let all = start.elapsed();
    println!("{longest:?} of {all:?}");
    assert!(longest < all / 2, "{longest:?} of {all:?}");
    drop((long, neighbour));
    served.end();
}
