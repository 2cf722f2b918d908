//! What a volume's map tells clients: where data is, whose it is, and what changed since a snapshot.

mod engine;

use blockstore::Durability;
use engine::{BLOCK, Engine, MIB, clone, limits, remove, snapshot, tiny_limits, volume};
use proptest::prelude::{any, prop, proptest};
use thinpool::{
    Action, Attachment, ChangeStatus, Command, Depths, ExtentKind, ExtentStatus, GeometryOptions, Limits,
    Payload, Request, ZeroSpace,
};

const BLOCKS: u8 = 64;

fn depths(engine: &mut Engine, v: &Attachment) -> Vec<(u64, u32)> {
    let action = Action::Extents { offset: 0, length: v.size(), limit: 1 << 20, depths: Depths::Told };
    let Ok(Payload::Extents(extents)) = engine.ask(v, action) else { panic!("extents are told") };
    let depth = |extent: &ExtentStatus| match extent.kind {
        ExtentKind::Hole => 0,
        ExtentKind::Own => 1,
        ExtentKind::Shared { depth } => depth,
    };
    extents.iter().map(|extent| (extent.length / BLOCK, depth(extent))).collect()
}

fn changes(engine: &mut Engine, v: &Attachment, since: &Attachment, limit: usize) -> Vec<(u64, bool)> {
    let action = Action::Changes { since: since.clone(), offset: 0, length: v.size(), limit };
    let Ok(Payload::Changes(changes)) = engine.ask(v, action) else { panic!("changes are told") };
    changes.iter().map(|ChangeStatus { length, changed }| (length / BLOCK, *changed)).collect()
}

/// A volume of eight blocks, half of them written, and its snapshot `v@1`.
fn with_a_snapshot() -> (Engine, Attachment) {
    let mut engine = Engine::new(1024 * MIB);
    engine.must(volume("v", 8 * BLOCK));
    let v = engine.attach("v");
    engine.write(&v, 0, &[1; 4 * 4096]).expect("space is there");
    engine.must(snapshot("v@1"));
    (engine, v)
}

#[test]
fn every_block_is_as_deep_as_its_owner_is_up_the_lineage() {
    let (mut engine, v) = with_a_snapshot();
    engine.write(&v, BLOCK, &[2; 4096]).expect("space is there");
    engine.must(snapshot("v@2"));
    engine.write(&v, 2 * BLOCK, &[3; 4096]).expect("space is there");
    assert_eq!(depths(&mut engine, &v), [(1, 3), (1, 2), (1, 1), (1, 3), (4, 0)]);
    engine.must(clone("v@2", "c"));
    let c = engine.attach("c");
    engine.write(&c, 6 * BLOCK, &[4; 4096]).expect("space is there");
    assert_eq!(depths(&mut engine, &c), [(1, 3), (1, 2), (2, 3), (2, 0), (1, 1), (1, 0)]);
    let action = Action::Extents { offset: 0, length: c.size(), limit: 1, depths: Depths::Alike };
    match engine.ask(&c, action) {
        Ok(Payload::Extents(extents)) => {
            assert_eq!(extents, [ExtentStatus { length: 4 * BLOCK, kind: ExtentKind::Shared { depth: 2 } }]);
        }
        other => panic!("extents, not {other:?}"),
    }
}

#[test]
fn what_changed_since_a_snapshot_is_what_was_written_or_trimmed_since() {
    let (mut engine, v) = with_a_snapshot();
    let then = engine.look("v@1");
    assert_eq!(changes(&mut engine, &v, &then, 9), [(8, false)]);
    engine.write(&v, BLOCK, &[2; 4096]).expect("space is there");
    engine.trim(&v, 3 * BLOCK, BLOCK).expect("a trim");
    engine.write(&v, 6 * BLOCK, &[3; 4096]).expect("space is there");
    let all = [(1, false), (1, true), (1, false), (1, true), (2, false), (1, true), (1, false)];
    assert_eq!(changes(&mut engine, &v, &then, 9), all);
    assert_eq!(changes(&mut engine, &v, &then, 3), all[..3]);
    assert_eq!(changes(&mut engine, &then, &then, 9), [(8, false)]);
    // A snapshot in between that goes away changes nothing of it.
    engine.must(snapshot("v@2"));
    engine.write(&v, BLOCK, &[5; 4096]).expect("space is there");
    engine.must(remove("v@2"));
    engine.must(Command::Settle);
    engine.write(&v, BLOCK, &[6; 4096]).expect("space is there");
    assert_eq!(changes(&mut engine, &v, &then, 9), all);
}

/// A request that changes half a volume at once and one that looks at another block: the second does not wait.
#[test]
fn a_long_trim_lets_others_go_first() {
    let mut engine = Engine::new(1024 * MIB);
    let (stride, blocks) = (4 * MIB, 1_000);
    engine.must(volume("v", blocks * stride));
    let v = engine.attach("v");
    for block in 0..blocks {
        engine.write(&v, block * stride, &[1; 4096]).expect("space is there");
    }
    let length = blocks * stride - 4096;
    let trim = Action::Trim { offset: 4096, length, durability: Durability::Cached };
    let look = Action::Extents { offset: 0, length: BLOCK, limit: 1, depths: Depths::Alike };
    for (tag, action) in [(1, trim), (2, look)] {
        engine.channel.submit(Request { tag, attachment: v.clone(), action }).expect("there is room");
    }
    let mut replies = Vec::new();
    assert!(!engine.channel.listen(), "there is more to do than to sleep");
    engine.channel.poll(&mut replies);
    assert_eq!(replies.iter().map(|reply| reply.tag).collect::<Vec<_>>(), [2]);
    while replies.len() < 2 {
        engine.channel.poll(&mut replies);
        engine.tick();
    }
    assert!(replies[1].result.is_ok());
    assert_eq!(depths(&mut engine, &v), [(1, 1), (blocks * stride / BLOCK - 1, 0)]);
    engine.assert_clean();
}

/// A map with nodes in the middle that must be read from the device first. Behind them the map is told in turns as before, so
/// that others on the channel go on, and nothing of it is missing.
#[test]
fn a_long_map_lets_others_go_first_also_behind_nodes_that_had_to_be_read() {
    // As in the engine: mappings and holes that are looked at in a turn.
    const TURN_LOOKS: u64 = 1024;
    let mappings = 3_000;
    let nodes = Limits { tree: cow_tree::Limits::new(61, 16), ..limits() };
    let mut engine = Engine::with(1024 * MIB, nodes, GeometryOptions::default());
    engine.must(volume("v", 2 * mappings * BLOCK));
    let v = engine.attach("v");
    for mapping in 0..mappings {
        engine.write(&v, 2 * mapping * BLOCK, &[1; 4096]).expect("space is there");
    }
    drop(v);
    let mut engine = engine.close();
    let v = engine.attach("v");
    let (front, back) = (2 * 100 * BLOCK, 2 * 300 * BLOCK);
    engine.extents(&v, 0, front);
    engine.extents(&v, back, v.size() - back);

    let tell = |length, limit| Action::Extents { offset: 0, length, limit, depths: Depths::Alike };
    let ask = |engine: &mut Engine, tag, action| {
        engine.channel.submit(Request { tag, attachment: v.clone(), action }).expect("there is room");
    };
    ask(&mut engine, 1, tell(v.size(), 1 << 20));
    assert!(engine.channel.is_device_busy(), "a node must be read");
    let (mut replies, mut turns) = (Vec::new(), 0);
    let whole = loop {
        ask(&mut engine, 2, tell(BLOCK, 1));
        engine.channel.poll(&mut replies);
        assert!(replies.iter().any(|reply| reply.tag == 2), "the other does not wait");
        if let Some(place) = replies.iter().position(|reply| reply.tag == 1) {
            break replies.swap_remove(place).result;
        }
        replies.clear();
        turns += u64::from(!engine.channel.is_device_busy());
    };
    // The first one ends where the last node came.
    assert!(turns + 1 >= 2 * (mappings - 300) / TURN_LOOKS, "{turns} turns behind the last node");
    let Ok(Payload::Extents(extents)) = whole else { panic!("extents are told") };
    let expected = [ExtentKind::Own, ExtentKind::Hole].map(|kind| ExtentStatus { length: BLOCK, kind });
    assert_eq!(extents.len(), usize::try_from(2 * mappings).expect("small"));
    assert!(extents.chunks(2).all(|pair| pair == expected), "each mapping and each hole, in order");
    engine.assert_clean();
}

/// Trims and zeroes do not look at every block of a hole: here they would look for minutes.
#[test]
fn a_hole_of_a_pebibyte_is_trimmed_at_once() {
    let mut engine = Engine::new(1024 * MIB);
    let size = 1 << 50;
    engine.must(volume("v", size));
    let v = engine.attach("v");
    for place in [0, size / 2 + 4096, size - 8192] {
        engine.write(&v, place, &[1; 8192]).expect("space is there");
    }
    engine.zeroes(&v, 2048, size - 4096, ZeroSpace::Release).expect("zeroed");
    let left = [(1, 1), (size / BLOCK - 2, 0), (1, 1)];
    assert_eq!(depths(&mut engine, &v), left);
    engine.trim(&v, 0, size).expect("trimmed");
    assert_eq!(depths(&mut engine, &v), [(size / BLOCK, 0)]);
    engine.assert_clean();
}

proptest! {
    /// With nodes so small, and so few of them in memory, that every look meets nodes that must be read first.
    #[test]
    fn a_block_that_reads_otherwise_than_then_has_changed_and_one_nobody_touched_has_not(
        before in prop::collection::vec((0..BLOCKS, 1_u8..4), 1..80),
        after in prop::collection::vec((0..BLOCKS, 0_u8..4, any::<bool>()), 0..40),
    ) {
        let mut engine = Engine::with(1024 * MIB, tiny_limits(), GeometryOptions::default());
        engine.must(volume("v", u64::from(BLOCKS) * BLOCK));
        let v = engine.attach("v");
        let block = |content: u8| [content; 4096];
        for (at, content) in before {
            engine.write(&v, u64::from(at) * BLOCK, &block(content)).expect("space is there");
        }
        engine.must(snapshot("v@then"));
        let then = engine.look("v@then");
        let mut touched = vec![false; usize::from(BLOCKS)];
        for (at, content, snapshots) in after {
            if snapshots {
                engine.must(Command::Checkpoint);
            }
            touched[usize::from(at)] = true;
            if content == 0 {
                engine.trim(&v, u64::from(at) * BLOCK, BLOCK).expect("a trim");
            } else {
                engine.write(&v, u64::from(at) * BLOCK, &block(content)).expect("space is there");
            }
        }
        let told = changes(&mut engine, &v, &then, 1 << 20);
        assert_eq!(told.iter().map(|(length, _)| length).sum::<u64>(), u64::from(BLOCKS));
        let changed: Vec<bool> =
            told.iter().flat_map(|(length, changed)| (0..*length).map(|_| *changed)).collect();
        for at in 0..BLOCKS {
            let offset = u64::from(at) * BLOCK;
            let differs = engine.read(&v, offset, 4096) != engine.read(&then, offset, 4096);
            assert!(!differs || changed[usize::from(at)], "block {at} differs and was not told");
            assert!(touched[usize::from(at)] || !changed[usize::from(at)], "block {at} was not touched");
        }
        engine.assert_clean();
    }
}
