//! Who may open a pool after what, and what each finds.

mod engine;

use blockstore::{Device, RamDevice};
use cow_tree::units::PoolId;
use engine::{BLOCK, Engine, MIB, limits, n, opening, small_tail, volume};
use std::sync::Arc;
use thinpool::{Access, Command, CreateOptions, Error, Opening, Tail, create, open};

fn block(byte: u8) -> Vec<u8> {
    vec![byte; 4096]
}

/// A pool whose first block was flushed and whose second was only acknowledged, and then the process died.
fn killed() -> (Arc<dyn Device>, Tail) {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("v", MIB));
    let v = engine.attach("v");
    engine.write(&v, 0, &block(1)).expect("there is space");
    engine.flush(&v);
    engine.write(&v, BLOCK, &block(2)).expect("there is space");
    (engine.device.clone(), Tail::from_image(&engine.tail.image()).expect("an image of a tail is a tail"))
}

/// The first two blocks, and what the opener was told.
type Found = (Vec<u8>, Vec<u8>, Vec<String>);

fn first_two(device: Arc<dyn Device>, tail: Tail, how: Opening) -> Result<Found, Error> {
    let (pool, keeper) = open(device.clone(), tail.clone(), how)?;
    let notes = pool.notes().to_vec();
    drop((pool, keeper));
    let look = Opening { read_only: true, accept_lost_writes: true, ..opening(99, limits()) };
    let (pool, _keeper) = open(device, tail, look)?;
    let v = pool.attach(&n("v"), Access::ReadOnly)?;
    let mut bytes = read(&pool, &v);
    let second = bytes.split_off(4096);
    Ok((bytes, second, notes))
}

fn read(pool: &thinpool::Pool, v: &thinpool::Attachment) -> Vec<u8> {
    let mut channel = pool.channel().expect("a channel is free");
    let action = thinpool::Action::Read { offset: 0, buffer: blockstore::Buffer::zeroed(8192) };
    let request = thinpool::Request { tag: 1, attachment: v.clone(), action };
    channel.submit(request).expect("the channel has room");
    let mut replies = Vec::new();
    while replies.is_empty() {
        channel.poll(&mut replies);
    }
    match replies.pop().expect("one reply").result {
        Ok(thinpool::Payload::Buffer(buffer)) => buffer.to_vec(),
        other => panic!("a read returns its buffer, not {other:?}"),
    }
}

#[test]
fn with_its_tail_a_killed_pool_has_every_acknowledged_write() {
    let (device, tail) = killed();
    let (first, second, notes) = first_two(device, tail, opening(2, limits())).expect("it opens");
    assert_eq!((first, second, notes.len()), (block(1), block(2), 0));
}

#[test]
fn without_its_tail_in_the_same_boot_it_is_refused_until_the_loss_is_accepted() {
    let (device, _gone) = killed();
    let refused = first_two(device.clone(), small_tail(), opening(2, limits()));
    assert!(matches!(refused, Err(Error::TailGone)), "{refused:?}");
    let accepting = Opening { accept_lost_writes: true, ..opening(3, limits()) };
    let (first, second, notes) = first_two(device, small_tail(), accepting).expect("the loss was accepted");
    assert_eq!((first, second), (block(1), block(0)));
    assert!(notes[0].contains("are lost"), "{notes:?}");
}

#[test]
fn after_another_boot_it_opens_with_what_was_flushed_and_says_who_had_it_open() {
    let (device, _gone) = killed();
    let rebooted = Opening { boot_id: [2; 16], ..opening(2, limits()) };
    let (first, second, notes) =
        first_two(device, small_tail(), rebooted).expect("power loss is no reason to refuse");
    assert_eq!((first, second), (block(1), block(0)));
    assert!(notes[0].contains("process 7 on host \"test\""), "{notes:?}");
}

#[test]
fn a_pool_that_was_elsewhere_meanwhile_does_not_believe_the_tail_it_left_behind() {
    let (device, left_behind) = killed();
    let elsewhere = Opening { boot_id: [2; 16], host: "other".to_owned(), ..opening(2, limits()) };
    let (pool, mut keeper) = open(device.clone(), small_tail(), elsewhere).expect("it opens elsewhere");
    let closing = pool.submit(Command::Close);
    let mut now = std::time::Duration::ZERO;
    while !keeper.is_closed() {
        now += std::time::Duration::from_millis(1);
        keeper.poll(now);
    }
    closing.take().expect("it was carried out").expect("it closed");
    drop((pool, keeper));
    let (_, second, _) = first_two(device, left_behind, opening(3, limits())).expect("it opens back home");
    assert_eq!(second, block(0), "the tail is of an opening before the last");
}

#[test]
fn a_tail_made_void_by_a_failed_flush_gives_nothing_back() {
    let (device, tail) = killed();
    tail.void();
    let (first, second, notes) = first_two(device, tail, opening(2, limits())).expect("it opens");
    assert_eq!((first, second), (block(1), block(0)));
    assert!(notes[0].contains("a flush failed"), "{notes:?}");
}

#[test]
fn looking_changes_nothing_on_the_device_or_in_the_tail() {
    let (device, tail) = killed();
    let (before, image) = (bytes_of(&device), tail.image());
    let look = Opening { read_only: true, ..opening(2, limits()) };
    let (first, second, _) = first_two(device.clone(), tail.clone(), look).expect("it can be looked at");
    assert_eq!((first, second), (block(1), block(2)), "what the tail holds is shown");
    assert!(bytes_of(&device) == before && tail.image() == image);
}

fn bytes_of(device: &Arc<dyn Device>) -> Vec<u8> {
    let mut channel = device.open_channel(1).expect("a channel");
    let length = usize::try_from(device.size()).expect("it fits memory");
    let operation = blockstore::Operation::Read { offset: 0, buffer: blockstore::Buffer::zeroed(length) };
    let mut queue = [blockstore::Submission { token: blockstore::Token(1), operation }].into_iter().collect();
    channel.submit(&mut queue);
    let mut done = Vec::new();
    while channel.poll(&mut done) == 0 {}
    done.pop().expect("one").buffer.expect("a read gives its buffer back").to_vec()
}

#[test]
fn what_is_no_pool_or_holds_one_already_is_left_alone() {
    let device: Arc<dyn Device> = Arc::new(RamDevice::new(64 * MIB));
    let nothing = open(device.clone(), small_tail(), opening(1, limits()));
    assert!(matches!(nothing, Err(Error::Label(_))), "{nothing:?}");
    let options = CreateOptions { pool_id: PoolId([9; 16]), ..CreateOptions::default() };
    create(device.clone(), &options).expect("an empty device takes a pool");
    let before = bytes_of(&device);
    let again = create(device.clone(), &CreateOptions { overwrite: true, ..options });
    assert!(matches!(again, Err(Error::NotEmpty(_))), "{again:?}");
    assert!(bytes_of(&device) == before);
    let small: Arc<dyn Device> = Arc::new(RamDevice::new(64 << 10));
    assert!(matches!(create(small, &CreateOptions::default()), Err(Error::Invalid(_))));
}
