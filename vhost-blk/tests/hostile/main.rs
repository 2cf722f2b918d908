//! A guest that lies in every way it can (F20 of the fault list): the door neither panics nor spins, answers with an error
//! or leaves the ring broken, and other disks go on.

mod promises;
mod rings;
#[path = "../door/served.rs"]
mod served;
mod shares;
mod sleep;
mod storms;
#[path = "../../../tests/vhost_client/mod.rs"]
mod vhost_client;
#[path = "../../../tests/vhost_monitor/mod.rs"]
mod vhost_monitor;
#[path = "../../../tests/wrapped_ram/mod.rs"]
mod wrapped_ram;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::time::{ClockId, clock_gettime};
use served::{MIB, Served};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thinpool::Access;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo};
use vhost_client::{Ask, Driver};
use vhost_monitor::{
    AVAILABLE, DESCRIPTORS, EndsAtDrop, FREE, INDIRECT, MEMORY_BYTES, Monitor, NEXT, QUEUE_SIZE, USED, WRITE,
};
use vm_memory::{Bytes, MmapRegion, VolatileMemory};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EFD_SEMAPHORE, EventFd};

const IN: u32 = 0;
const OUT: u32 = 1;
const HEADER: u64 = FREE;
const STATUS: u64 = FREE + 0x100;
const DATA: u64 = FREE + 0x1000;
/// What a status byte is before the device has written one.
const UNTOUCHED: u8 = 0xEE;
/// The most of one core that all of this process may use while nothing is asked of it, for so long. Who spins uses all of one.
const IDLE_SHARE_MAX: f64 = 0.4;
const QUIET: Duration = Duration::from_millis(100);

/// What the device says of a chain that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Status(u8),
    Broken,
}

/// Attacks a disk of its own, and looks after each attack whether another disk still works.
struct Field {
    served: Served,
    neighbour: Driver,
    rounds: u64,
    _turn: MutexGuard<'static, ()>,
}

/// One test at a time: what is measured of the CPU is of the whole process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Field {
    fn new() -> Self {
        let turn = turn();
        let served = Served::start(&[("victim", 8 * MIB), ("other", 8 * MIB)]);
        let neighbour = served.export_and_connect("other", Access::ReadWrite);
        served.server.export(&served.order("victim", Access::ReadWrite, 2)).expect("exported");
        Self { served, neighbour, rounds: 0, _turn: turn }
    }

    fn monitor(&self) -> Monitor {
        Monitor::start(&self.served.socket("victim"))
    }

    fn check_neighbour(&mut self) {
        self.rounds += 1;
        let byte = u8::try_from(self.rounds % 250).expect("a byte");
        self.neighbour.fill(0, &[byte; 4096]);
        let offset = self.rounds % 2048 * 4096;
        assert_eq!(self.neighbour.run(Ask::Write { offset, length: 4096 }).expect("an answer"), 0);
        self.neighbour.fill(0, &[0; 4096]);
        assert_eq!(self.neighbour.run(Ask::Read { offset, length: 4096 }).expect("an answer"), 0);
        assert_eq!(self.neighbour.bytes(0, 4096), [byte; 4096]);
    }

    /// The monitor's ring serves as any other.
    fn end_served(self, mut monitor: Monitor) {
        describe_read(&monitor, 512);
        assert_eq!(verdict(&mut monitor), Verdict::Status(0));
        drop(monitor);
        self.end();
    }

    fn end(mut self) {
        self.check_neighbour();
        drop(self.neighbour);
        self.served.end();
    }
}

/// Offers head 0 and waits for what becomes of it.
fn verdict(monitor: &mut Monitor) -> Verdict {
    monitor.put(usize::try_from(STATUS).expect("small"), &[UNTOUCHED]);
    monitor.offer(0);
    if monitor.is_called(10_000) {
        assert_eq!(monitor.used(), 1, "used once");
        return Verdict::Status(monitor.byte(STATUS));
    }
    assert!(monitor.is_broken(), "neither an answer nor a broken ring");
    assert_eq!(monitor.byte(STATUS), UNTOUCHED);
    Verdict::Broken
}

/// A read of `length` bytes into `DATA`, in three descriptors.
fn describe_read(monitor: &Monitor, length: u32) {
    monitor.header(HEADER, IN, 0);
    monitor.describe(0, HEADER, 16, NEXT, 1);
    monitor.describe(1, DATA, length, NEXT | WRITE, 2);
    monitor.describe(2, STATUS, 1, WRITE, 0);
}

type Lie = (&'static str, fn(&Monitor), Verdict);

const LIES: [Lie; 23] = [
    ("nothing wrong", |_| {}, Verdict::Status(0)),
    ("a loop", |m| m.describe(1, DATA, 512, NEXT | WRITE, 1), Verdict::Broken),
    ("a loop to the head", |m| m.describe(1, DATA, 512, NEXT, 0), Verdict::Broken),
    ("next behind the table", |m| m.describe(1, DATA, 512, NEXT | WRITE, QUEUE_SIZE), Verdict::Broken),
    ("next far behind the table", |m| m.describe(1, DATA, 512, NEXT | WRITE, u16::MAX), Verdict::Broken),
    ("indirect in indirect", nest, Verdict::Broken),
    ("an indirect table of 17 bytes", |m| m.describe(0, FREE, 17, INDIRECT, 0), Verdict::Broken),
    ("an empty indirect table", |m| m.describe(0, FREE, 0, INDIRECT, 0), Verdict::Broken),
    ("an indirect table of 4 GiB", |m| m.describe(0, FREE, !15, INDIRECT, 0), Verdict::Broken),
    ("an indirect table outside", |m| m.describe(0, 1 << 40, 64, INDIRECT, 0), Verdict::Broken),
    ("data outside", |m| m.describe(1, 1 << 40, 512, NEXT | WRITE, 2), Verdict::Status(1)),
    ("data across the end", |m| m.describe(1, end() - 256, 512, NEXT | WRITE, 2), Verdict::Status(1)),
    ("an address that wraps", |m| m.describe(1, u64::MAX - 255, 512, NEXT | WRITE, 2), Verdict::Status(1)),
    ("no data", |m| m.describe(1, DATA, 0, NEXT | WRITE, 2), Verdict::Status(1)),
    ("4 GiB of data", |m| m.describe(1, DATA, u32::MAX, NEXT | WRITE, 2), Verdict::Status(1)),
    ("half a sector", |m| m.describe(1, DATA, 511, NEXT | WRITE, 2), Verdict::Status(1)),
    ("data the wrong way", |m| m.describe(1, DATA, 512, NEXT, 2), Verdict::Status(1)),
    ("a write of what is to be read", |m| m.header(HEADER, OUT, 0), Verdict::Status(1)),
    ("a head and nothing else", |m| m.describe(0, HEADER, 16, 0, 0), Verdict::Broken),
    ("a header outside", |m| m.describe(0, 1 << 40, 16, NEXT, 1), Verdict::Broken),
    ("a short header", |m| m.describe(0, HEADER, 8, NEXT, 1), Verdict::Broken),
    ("a status to be read", |m| m.describe(2, STATUS, 1, 0, 0), Verdict::Broken),
    ("something to read after something to write", reorder, Verdict::Broken),
];

fn end() -> u64 {
    u64::try_from(MEMORY_BYTES).expect("small")
}

fn nest(monitor: &Monitor) {
    monitor.describe(0, u64::try_from(DESCRIPTORS).expect("small") + 32, 16, INDIRECT, 0);
    monitor.describe(2, FREE, 32, INDIRECT, 0);
}

fn reorder(monitor: &Monitor) {
    monitor.describe(0, HEADER, 16, NEXT | WRITE, 1);
    monitor.describe(1, DATA, 512, NEXT, 2);
}

#[test]
fn each_lie_in_a_descriptor_is_an_error_or_a_broken_ring_and_neighbours_go_on() {
    let mut field = Field::new();
    for (what, lie, expected) in LIES {
        // Each ring is the next worker's: one of two shares it with the neighbour.
        for _ in 0..2 {
            let mut monitor = field.monitor();
            describe_read(&monitor, 512);
            lie(&monitor);
            assert_eq!(verdict(&mut monitor), expected, "{what}");
            assert_quiet(what, QUIET, || monitor.kick());
            assert!(!monitor.is_called(0), "{what}");
            field.check_neighbour();
        }
    }
    field.end();
}

#[test]
fn kinds_that_are_not_known_are_unsupported() {
    let field = Field::new();
    for kind in [2, 3, 5, 9, 10, 12, 14, 16, 18, 24, 0x8000_0000, u32::MAX] {
        let mut monitor = field.monitor();
        describe_read(&monitor, 512);
        monitor.header(HEADER, kind, 0);
        assert_eq!(verdict(&mut monitor), Verdict::Status(2), "{kind}");
    }
    for (kind, sector) in [(IN, u64::MAX), (IN, 16384), (OUT, 0)] {
        let mut monitor = field.monitor();
        describe_read(&monitor, 512);
        monitor.header(HEADER, kind, sector);
        assert_eq!(verdict(&mut monitor), Verdict::Status(1), "{kind} {sector}");
    }
    field.end();
}

#[test]
fn an_index_that_jumps_breaks_the_ring_and_costs_nothing() {
    let mut field = Field::new();
    for index in [QUEUE_SIZE + 1, 0x8000, u16::MAX] {
        let monitor = field.monitor();
        describe_read(&monitor, 512);
        monitor.offer_index(index);
        assert!(monitor.is_broken(), "{index}");
        assert_eq!(monitor.used(), 0);
        // A broken ring is not listened to: kicks change nothing.
        assert_quiet("an index that jumps", 5 * QUIET, || (0..10).for_each(|_| monitor.kick()));
        assert!(!monitor.is_called(0));
        field.check_neighbour();
    }
    let mut monitor = field.monitor();
    monitor.offer(QUEUE_SIZE);
    assert!(monitor.is_broken(), "a head behind the table");
    drop(monitor);
    field.end();
}

/// Of the whole process; the other tests of this program wait for their turn.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("positive"),
        u32::try_from(time.tv_nsec).expect("a fraction"),
    )
}

#[expect(clippy::disallowed_methods, reason = "what happens by itself takes real time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Hardly any of the CPU is used for so long after that.
fn assert_quiet(what: &str, time: Duration, after: impl FnOnce()) {
    let (before, start) = (cpu_time(), now());
    after();
    pause(time);
    let share = (cpu_time() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    assert!(share < IDLE_SHARE_MAX, "{what}: {share} of a core");
}

#[test]
fn memory_that_cannot_be_is_refused() {
    let field = Field::new();
    let impossible: [fn(&Monitor) -> Vec<VhostUserMemoryRegionInfo>; 3] = [
        |monitor| vec![monitor.region(0, MEMORY_BYTES * 2)],
        |monitor| vec![monitor.region(u64::MAX - 4095, MEMORY_BYTES)],
        |monitor| vec![monitor.region(0, MEMORY_BYTES), monitor.region(4096, MEMORY_BYTES)],
    ];
    for regions in impossible {
        let monitor = Monitor::connect(&field.served.socket("victim"));
        assert!(monitor.frontend.set_mem_table(&regions(&monitor)).is_err());
    }
    let monitor = field.monitor();
    field.end_served(monitor);
}

/// A map costs addresses, of which a process has 128 TiB, and none of the memory that is not filled.
#[test]
fn memory_without_measure_is_refused() {
    const TIB: u64 = 1 << 40;
    let field = Field::new();
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).expect("a file"));
    file.set_len(60 * TIB).expect("a file that is nearly all hole");
    let table = |sizes: &[u64]| -> Vec<VhostUserMemoryRegionInfo> {
        let region = |(number, size): (u64, &u64)| VhostUserMemoryRegionInfo {
            guest_phys_addr: number * 64 * TIB,
            memory_size: *size,
            userspace_addr: number * 64 * TIB,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        (0..).zip(sizes).map(region).collect()
    };
    for sizes in [&[60 * TIB][..], &[9 * TIB, 9 * TIB], &[16 * TIB, 4096]] {
        let monitor = Monitor::connect(&field.served.socket("victim"));
        assert!(monitor.frontend.set_mem_table(&table(sizes)).is_err(), "{sizes:?}");
    }
    let mut monitor = Monitor::connect(&field.served.socket("victim"));
    for _ in 0..10 {
        monitor.frontend.set_mem_table(&table(&[8 * TIB, 8 * TIB])).expect("a large guest");
    }
    monitor.set_up(QUEUE_SIZE);
    field.end_served(monitor);
}

#[test]
fn descriptors_and_memory_that_change_under_way_harm_nobody_else() {
    let mut field = Field::new();
    for round in 0..20_u64 {
        let mut monitor = field.monitor();
        let memory = monitor.memory.clone();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| flip(&memory, &ended, round));
            let _whatever_happens = EndsAtDrop(&ended);
            for number in 0..50 {
                describe_read(&monitor, 512);
                monitor.offer(0);
                // Half of the memory, or the same once more, while the ring may have something in flight.
                match number % 10 {
                    4 => {
                        let half = monitor.region(0, MEMORY_BYTES / 2);
                        monitor.frontend.set_mem_table(&[half]).expect("a smaller guest");
                    }
                    9 => monitor.share_memory(),
                    _ => drop(monitor.is_called(5)),
                }
            }
        });
        field.check_neighbour();
    }
    field.end();
}

/// Changes bytes of descriptors and of the header, as fast as it can.
fn flip(memory: &MmapRegion, ended: &AtomicBool, seed: u64) {
    let mut number = seed;
    while !ended.load(Ordering::Relaxed) {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [value, choice, at, ..] = number.to_be_bytes().map(usize::from);
        let at = if choice % 4 == 0 {
            usize::try_from(HEADER).expect("small") + at % 16
        } else {
            DESCRIPTORS + at % 48
        };
        let value = u8::try_from(value).expect("a byte");
        memory.as_volatile_slice().store(value, at, Ordering::Relaxed).expect("inside the memory");
    }
}

#[test]
fn a_semaphore_is_no_kick() {
    let field = Field::new();
    let mut monitor = Monitor::connect(&field.served.socket("victim"));
    monitor.share_memory();
    monitor.kick = EventFd::new(EFD_NONBLOCK | EFD_SEMAPHORE).expect("an event");
    monitor.kick.write(1 << 60).expect("readable for ever");
    assert!(monitor.set_ring(QUEUE_SIZE, DESCRIPTORS, AVAILABLE, USED).is_err());
}

/// Heads are offered as fast as they are used, each of a large read; the ring can be stopped all the same.
#[test]
fn a_ring_that_always_has_work_can_be_stopped() {
    const SEGMENTS: u16 = 100;
    const SIZE: u16 = 1024;
    let field = Field::new();
    let mut monitor = Monitor::connect(&field.served.socket("victim"));
    monitor.share_memory();
    monitor.header(HEADER, IN, 0);
    monitor.describe(0, HEADER, 16, NEXT, 1);
    (1..=SEGMENTS).for_each(|index| monitor.describe(index, DATA, 4096, NEXT | WRITE, index + 1));
    monitor.describe(SEGMENTS + 1, STATUS, 1, WRITE, 0);
    monitor.set_ring(SIZE, DESCRIPTORS, AVAILABLE_BEHIND, USED_BEHIND).expect("a ring");
    let memory = monitor.memory.clone();
    let kick = monitor.kick.try_clone().expect("cloned");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| flood(&memory, &kick, &ended));
        // The flood has begun.
        while used_behind(&memory) < 2000 && !ended.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        assert!(!ended.load(Ordering::Relaxed), "2,000 requests in ten seconds");
        let start = now();
        let base = monitor.frontend.get_vring_base(0).expect("it stops");
        let took = start.elapsed();
        ended.store(true, Ordering::Relaxed);
        assert_eq!(base, u32::from(used_behind(&memory)), "heads that nobody has answered come again");
        assert!(took < Duration::from_secs(5), "{took:?}; the flood ends after ten seconds by itself");
    });
}

#[expect(clippy::disallowed_methods, reason = "how long a monitor waits is a matter of real time")]
fn now() -> Instant {
    Instant::now()
}

/// Behind a table of 1,024 descriptors.
const AVAILABLE_BEHIND: usize = 0x2_0000;
const USED_BEHIND: usize = 0x2_2000;

fn used_behind(memory: &MmapRegion) -> u16 {
    let memory = memory.as_volatile_slice();
    u16::from_le(memory.load(USED_BEHIND + 2, Ordering::SeqCst).expect("inside the memory"))
}

/// Offers as much as the ring holds, until it is told to end, or for ten seconds.
fn flood(memory: &MmapRegion, kick: &EventFd, ended: &AtomicBool) {
    let (start, mut offered) = (now(), 0);
    while !ended.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(10) {
        let next = used_behind(memory).wrapping_add(1000);
        if next == offered {
            continue;
        }
        offered = next;
        let memory = memory.as_volatile_slice();
        memory.store(next.to_le(), AVAILABLE_BEHIND + 2, Ordering::SeqCst).expect("inside the memory");
        kick.write(1).expect("an event");
    }
    ended.store(true, Ordering::Relaxed);
}

/// The back end before used five heads and died before it called; the driver wants a call after the first of them.
#[test]
fn a_call_that_was_missed_is_given_by_the_next_life_of_the_ring() {
    let field = Field::new();
    let mut monitor = Monitor::connect_without(&field.served.socket("victim"), 0);
    monitor.share_memory();
    monitor.track(QUEUE_SIZE);
    monitor.put(AVAILABLE + 2, &5_u16.to_le_bytes());
    monitor.put(USED + 2, &5_u16.to_le_bytes());
    monitor.set_ring(QUEUE_SIZE, DESCRIPTORS, AVAILABLE, USED).expect("a ring");
    assert!(monitor.is_called(10_000));
}

#[test]
fn a_read_in_parts_says_how_much_all_of_them_were() {
    const SIZE: u16 = 64;
    const SEGMENTS: u16 = 40;
    let _turn = turn();
    let served = Served::start(&[("large", 64 * MIB)]);
    served.server.export(&served.order("large", Access::ReadWrite, 1)).expect("exported");
    let mut monitor = Monitor::connect(&served.socket("large"));
    monitor.set_up(SIZE);
    monitor.header(HEADER, IN, 0);
    monitor.describe(0, HEADER, 16, NEXT, 1);
    // The same half of a mebibyte again and again.
    (1..=SEGMENTS).for_each(|index| monitor.describe(index, 0x8_0000, 0x8_0000, NEXT | WRITE, index + 1));
    monitor.describe(SEGMENTS + 1, STATUS, 1, WRITE, 0);
    monitor.put(usize::try_from(STATUS).expect("small"), &[UNTOUCHED]);
    monitor.put(0x8_0000, &[UNTOUCHED; 0x8_0000]);
    monitor.offer_in(0, SIZE);
    assert!(monitor.is_called(10_000), "an answer");
    assert_eq!((monitor.used(), monitor.byte(STATUS)), (1, 0));
    assert_eq!(monitor.first_used_length(), u32::from(SEGMENTS) * 0x8_0000 + 1);
    assert!((0x8_0000..0x10_0000).all(|at| monitor.byte(at) == 0), "nothing was ever written there");
    drop(monitor);
    served.end();
}

#[test]
fn disks_with_long_names_that_begin_alike_say_which_they_are() {
    const GET_ID: u32 = 8;
    let names = ["class-7b-berlin-mitte-desk-1", "class-7b-berlin-mitte-desk-2"];
    let _turn = turn();
    let served = Served::start(&names.map(|name| (name, MIB)));
    let identifiers = names.map(|name| {
        served.server.export(&served.order(name, Access::ReadWrite, 1)).expect("exported");
        let mut monitor = Monitor::start(&served.socket(name));
        describe_read(&monitor, 20);
        monitor.header(HEADER, GET_ID, 0);
        assert_eq!(verdict(&mut monitor), Verdict::Status(0));
        (DATA..DATA + 20).map(|at| char::from(monitor.byte(at))).collect::<String>()
    });
    assert_ne!(identifiers[0], identifiers[1]);
    assert!(identifiers.iter().all(|one| one.starts_with("class-7b-be-")), "{identifiers:?}");
    served.end();
}

#[test]
fn a_read_says_how_much_of_its_buffer_was_written() {
    let field = Field::new();
    for (sector, status, written) in [(0, 0, 4097), (8 * MIB / 512, 1, 0)] {
        let mut monitor = field.monitor();
        describe_read(&monitor, 4096);
        monitor.header(HEADER, IN, sector);
        assert_eq!(verdict(&mut monitor), Verdict::Status(status));
        assert_eq!(monitor.first_used_length(), written, "sector {sector}");
    }
    field.end();
}
