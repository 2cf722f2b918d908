//! Pools of several devices: who is admitted, how data is spread, how they grow.

mod engine;

use blockstore::{Buffer, Device, Operation, RamDevice, Submission, Token};
use cow_tree::units::PoolId;
use engine::{Engine, MIB, limits, opening, small_tail, volume};
use std::collections::VecDeque;
use std::sync::Arc;
use thinpool::{Command, CreateOptions, DeviceId, Error, MemberError, NewDevice, Opening, create_all};

const POOL: PoolId = PoolId([9; 16]);

fn ram(mebibytes: u64) -> Arc<dyn Device> {
    Arc::new(RamDevice::new(mebibytes * MIB))
}

fn new(device: &Arc<dyn Device>, id: u8) -> NewDevice {
    NewDevice { device: device.clone(), id: DeviceId([id; 16]) }
}

/// A pool on devices of so many MiB.
fn pool_of(id: PoolId, mebibytes: &[u64]) -> Vec<Arc<dyn Device>> {
    let devices: Vec<_> = mebibytes.iter().map(|size| ram(*size)).collect();
    let further: Vec<_> = devices[1..].iter().zip(1..).map(|(device, id)| new(device, id)).collect();
    let options = CreateOptions { pool_id: id, ..CreateOptions::default() };
    create_all(devices[0].clone(), &further, &options).expect("empty devices take a pool");
    devices
}

fn open(devices: &[Arc<dyn Device>], number: u8) -> Result<Engine, Error> {
    Engine::open_all(devices.to_vec(), None, small_tail(), after_another_boot(number))
}

/// An opening that does not ask for the tail of the one before.
fn after_another_boot(number: u8) -> Opening {
    Opening { boot_id: [number; 16], ..opening(number, limits()) }
}

fn refused(devices: &[Arc<dyn Device>]) -> MemberError {
    match open(devices, 100).map(drop) {
        Err(Error::Member(error)) => error,
        other => panic!("a member is refused, not {other:?}"),
    }
}

/// Bytes as long as the whole device.
fn copy(device: &Arc<dyn Device>) -> Arc<dyn Device> {
    let copy: Arc<dyn Device> = Arc::new(RamDevice::new(device.size()));
    let length = usize::try_from(device.size()).expect("a small device");
    let read = run(device, Operation::Read { offset: 0, buffer: Buffer::zeroed(length) });
    let durability = blockstore::Durability::Cached;
    run(&copy, Operation::Write { offset: 0, buffer: read.expect("a buffer"), durability });
    copy
}

fn run(device: &Arc<dyn Device>, operation: Operation) -> Option<Buffer> {
    let mut channel = device.open_channel(1).expect("a channel");
    channel.submit(&mut VecDeque::from([Submission { token: Token(1), operation }]));
    let mut done = Vec::new();
    channel.poll(&mut done);
    let completion = done.pop().expect("memory answers at once");
    completion.result.expect("memory does not fail");
    completion.buffer
}

/// Another byte in each mebibyte.
fn fill(engine: &mut Engine, name: &str, mebibytes: u64) {
    let v = engine.attach(name);
    for number in 0..mebibytes {
        engine.write(&v, number * MIB, &vec![byte_of(number); 1 << 20]).expect("there is space");
    }
    engine.flush(&v);
}

fn assert_filled(engine: &mut Engine, name: &str, mebibytes: u64) {
    let v = engine.look(name);
    for number in 0..mebibytes {
        let bytes = engine.read(&v, number * MIB, 1 << 20);
        assert!(bytes.iter().all(|byte| *byte == byte_of(number)), "mebibyte {number}");
    }
}

fn byte_of(number: u64) -> u8 {
    u8::try_from(number % 251).expect("small") + 1
}

/// Data blocks of each device, in MiB.
fn spread(engine: &Engine) -> Vec<u64> {
    engine.status().devices.iter().map(|device| device.mapped / MIB).collect()
}

#[test]
fn data_goes_to_three_devices_in_proportion_and_comes_back_after_close_and_kill() {
    let devices = pool_of(POOL, &[256, 256, 512]);
    let mut engine = open(&devices, 1).expect("a new pool opens");
    engine.must(volume("v", 512 * MIB));
    fill(&mut engine, "v", 400);
    let mapped = spread(&engine);
    assert_eq!(mapped.iter().sum::<u64>(), 400, "{mapped:?}");
    let status = engine.status();
    // What each had for data: all of it but the journal and what metadata has taken, which is on the first.
    let room: Vec<u64> = status.devices.iter().map(|device| (device.free + device.mapped) / MIB).collect();
    assert!((100..200).contains(&room[0]) && room[1] > 250 && room[2] > 500, "{room:?}");
    assert_eq!(
        status.devices.iter().map(|device| device.metadata > 0).collect::<Vec<_>>(),
        [true, false, false]
    );
    for (device, room_of_device) in mapped.iter().zip(&room) {
        let share = 400 * room_of_device / room.iter().sum::<u64>();
        assert!(device.abs_diff(share) <= 3, "{mapped:?} of {room:?}");
    }
    assert_eq!(status.devices.iter().map(|device| device.size / MIB).collect::<Vec<_>>(), [256, 256, 512]);
    assert!(status.devices.iter().all(|device| device.free > 0 && device.free < device.size));
    assert_eq!(status.devices[2].id, "02".repeat(16));
    let mut engine = engine.close();
    assert_filled(&mut engine, "v", 400);
    engine.assert_clean();
    let mut engine = engine.kill();
    assert_filled(&mut engine, "v", 400);
    engine.assert_clean();
    engine.must(Command::Remove { name: engine::n("v"), recursive: false });
    engine.must(Command::Settle);
    assert_eq!(spread(&engine), [0, 0, 0]);
}

#[test]
fn a_pool_of_one_device_gets_a_second_one_and_uses_it() {
    let devices = pool_of(POOL, &[128]);
    let mut engine = open(&devices, 1).expect("a new pool opens");
    engine.must(volume("v", 256 * MIB));
    fill(&mut engine, "v", 90);
    engine.must(Command::Close);
    let before = engine.status().capacity;
    let second = ram(256);
    let joining = Some(new(&second, 7));
    let mut engine = Engine::open_all(devices.clone(), joining, small_tail(), opening(2, limits()))
        .expect("an empty device joins");
    let status = engine.status();
    assert!(status.capacity > before + 200 * MIB, "{status:#?}");
    assert_eq!((status.devices.len(), status.devices[1].size), (2, 256 * MIB));
    fill(&mut engine, "v", 250);
    let mapped = spread(&engine);
    assert!(mapped[1] > 130 && mapped.iter().sum::<u64>() == 250, "{mapped:?}");
    let mut engine = engine.close();
    assert_filled(&mut engine, "v", 250);
    engine.assert_clean();
    assert!(matches!(refused(&devices), MemberError::Missing { member } if member.index == 1));
}

#[test]
fn the_last_device_grows_and_the_others_do_not() {
    let devices = pool_of(POOL, &[64, 64]);
    let mut engine = open(&devices, 1).expect("a new pool opens");
    let before = engine.status().capacity;
    engine.must(Command::Extend { bytes: 192 * MIB });
    assert_eq!((devices[0].size(), devices[1].size()), (64 * MIB, 192 * MIB));
    let status = engine.status();
    assert!(status.capacity > before + 100 * MIB);
    engine.must(volume("v", 192 * MIB));
    fill(&mut engine, "v", 190);
    let mut engine = engine.kill();
    assert_eq!(engine.status().devices[1].size, 192 * MIB);
    assert_filled(&mut engine, "v", 190);
    engine.assert_clean();
    let shorter = engine.run(Command::Extend { bytes: 100 * MIB }).map(drop);
    assert!(matches!(shorter, Err(Error::Invalid(why)) if why.starts_with("the last device")));
}

#[test]
fn each_wrong_device_is_refused_by_name() {
    let devices = pool_of(POOL, &[64, 64, 64]);
    let others = pool_of(PoolId([8; 16]), &[64, 64, 64]);
    let [first, second, third] = devices.as_slice() else { panic!("three") };
    drop(open(&devices, 1).expect("all are there"));
    let missing = refused(&[first.clone(), second.clone()]);
    assert_eq!(
        missing.to_string(),
        format!("device 2 of the pool (id {}, 67108864 bytes) is missing", "02".repeat(16))
    );
    assert!(
        matches!(refused(std::slice::from_ref(first)), MemberError::Missing { member } if member.index == 1)
    );
    let swapped = refused(&[first.clone(), third.clone(), second.clone()]).to_string();
    assert!(swapped.contains("is not device 1 of the pool") && swapped.ends_with("it is device 2 of it"));
    let twice = refused(&[first.clone(), second.clone(), second.clone()]).to_string();
    assert!(twice.ends_with("it is device 1 of it"), "{twice}");
    let foreign = refused(&[first.clone(), second.clone(), others[2].clone()]).to_string();
    assert!(foreign.contains("it is device 2 of another pool"), "{foreign}");
    let empty = refused(&[first.clone(), ram(64), third.clone()]).to_string();
    assert!(empty.contains("is not device 1 of the pool (id 0101"), "{empty}");
    let many = refused(&[first.clone(), second.clone(), third.clone(), ram(64)]);
    assert!(matches!(many, MemberError::TooMany { count: 3, .. }));
    let not_first = refused(&[second.clone(), first.clone(), third.clone()]);
    assert!(matches!(not_first, MemberError::NotFirst { index: 1, .. }));
    let short = copy(third);
    run(&short, Operation::Resize { length: 32 * MIB });
    let short = refused(&[first.clone(), second.clone(), short]);
    assert!(matches!(short, MemberError::TooShort { has, .. } if has == 32 * MIB));
    drop(open(&devices, 2).expect("none of that changed anything"));
}

#[test]
fn a_copy_from_before_the_last_opening_is_refused_on_either_side() {
    let devices = pool_of(POOL, &[64, 64]);
    let engine = open(&devices, 1).expect("a new pool opens");
    drop(engine.close());
    let old: Vec<_> = devices.iter().map(copy).collect();
    let mut engine = open(&devices, 7).expect("another opening");
    engine.must(Command::Close);
    drop(engine);
    let older = refused(&[devices[0].clone(), old[1].clone()]);
    assert!(matches!(older, MemberError::Older { mark, pool, .. } if mark < pool), "{older}");
    let first = refused(&[old[0].clone(), devices[1].clone()]);
    assert!(matches!(first, MemberError::FirstIsOlder { mark, pool, .. } if mark > pool), "{first}");
    drop(open(&old, 8).expect("copies of one moment belong together"));
}

#[test]
fn a_device_that_is_in_use_does_not_join() {
    let devices = pool_of(POOL, &[64, 64]);
    let other = pool_of(PoolId([8; 16]), &[64, 64]);
    drop(open(&devices, 1).expect("a new pool opens").close());
    let join = |device: &Arc<dyn Device>| {
        let joining = Some(new(device, 3));
        Engine::open_all(devices.clone(), joining, small_tail(), after_another_boot(9)).map(drop)
    };
    for used in [&other[0], &other[1], &devices[1]] {
        assert!(matches!(join(used), Err(Error::NotEmpty(_))));
    }
    let small: Arc<dyn Device> = Arc::new(RamDevice::new(32 << 10));
    assert!(matches!(join(&small), Err(Error::Invalid(why)) if why.contains("too small")));
    let look = Opening { read_only: true, ..after_another_boot(9) };
    let looked = Engine::open_all(devices.clone(), Some(new(&ram(64), 3)), small_tail(), look);
    assert!(matches!(looked.map(drop), Err(Error::ReadOnly)));
    assert_eq!(open(&devices, 10).expect("as it was").status().devices.len(), 2);
}

#[test]
fn a_roster_names_the_devices_and_where_they_were() {
    let devices = pool_of(POOL, &[64, 64, 32]);
    let paths = ["/a/one", "/b/two"].map(std::path::PathBuf::from);
    thinpool::remember_paths(devices[0].as_ref(), POOL, &paths).expect("written");
    let roster = thinpool::roster(&devices[0]).expect("a pool");
    assert_eq!(roster.pool, POOL);
    let found: Vec<_> = roster.further.iter().map(|member| (member.index, member.bytes / MIB)).collect();
    assert_eq!(found, [(1, 64), (2, 32)]);
    assert_eq!(roster.further[1].path.as_ref(), Some(&paths[1]));
    let message = refused(&devices[..2]).to_string();
    assert!(message.ends_with("is missing; it was last seen at /b/two"), "{message}");
}
