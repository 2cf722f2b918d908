//! The ownership rules over real trees: volumes, snapshots, clones, absorbing, freeing and thinning in any order, with
//! checkpoints in between and nodes that must be read again. After every step nothing is reached that was freed,
//! nothing is owned that nobody reaches; with everything deleted no block is left.

mod disk;
mod world;

use cow_tree::Limits;
use proptest::prelude::{Strategy, any, prop, proptest};
use proptest::test_runner::Config;
use std::collections::BTreeSet;
use world::{KEYS, Op, World, map_of};

fn op() -> impl Strategy<Value = Op> {
    let pick = any::<u8>;
    proptest::prop_oneof![
        12 => (pick(), 0..KEYS, 1u32..4).prop_map(|(pick, start, length)| Op::Write { pick, start, length }),
        2 => (pick(), 0..KEYS, 1u32..30).prop_map(|(pick, start, length)| Op::Write { pick, start, length }),
        4 => (pick(), 0..KEYS, 1u64..20).prop_map(|(pick, start, length)| Op::Trim { pick, start, length }),
        4 => pick().prop_map(|pick| Op::Snapshot { pick }),
        4 => pick().prop_map(|pick| Op::Clone { pick }),
        4 => pick().prop_map(|pick| Op::Delete { pick }),
        16 => pick().prop_map(|pick| Op::Reclaim { pick }),
        4 => proptest::prelude::Just(Op::Freeze),
        4 => proptest::prelude::Just(Op::Encode),
        3 => proptest::prelude::Just(Op::Evict),
        3 => pick().prop_map(|pick| Op::Thin { pick }),
        2 => (pick(), pick()).prop_map(|(pick, other)| Op::Diff { pick, other }),
    ]
}

fn run(limits: Limits, ops: &[Op]) {
    let mut world = World::new(limits);
    (0..KEYS).step_by(2).for_each(|start| world.apply(&Op::Write { pick: 0, start, length: 1 }));
    for op in ops {
        world.apply(op);
        world.check();
    }
    world.delete_everything();
}

/// A base of many extents under clones that each keep a part of it, thinned when its name is gone.
fn thin(limits: Limits, clones: &[Vec<(u64, u64)>], evict: bool, freeze: bool) {
    let mut world = World::new(limits);
    (0..KEYS).step_by(2).for_each(|start| world.apply(&Op::Write { pick: 0, start, length: 2 }));
    if freeze {
        world.homes();
        world.write_frozen();
    }
    world.follow(1);
    for changes in clones {
        world.follow(1);
        let id = world.next_layer - 1;
        for (start, length) in changes {
            world.change(id, *start..start + length, None);
            let expected = &mut world.layers.get_mut(&id).expect("just made").expected;
            expected.retain(|key, _| !(*start..start + length).contains(key));
        }
    }
    // The follower of the base keeps nothing, so that the clones decide.
    world.change(2, 0..KEYS + 2, None);
    world.layers.get_mut(&2).expect("made first").expected.clear();
    world.layers.get_mut(&1).expect("the base").named = false;
    if evict {
        world.disk.evict_all();
    }
    world.check();
    world.apply(&Op::Thin { pick: 0 });
    world.check();
    let base = map_of(&world.disk, &world.layers[&1].tree);
    let kept: BTreeSet<u64> =
        world.layers.values().skip(1).flat_map(|layer| layer.expected.keys().copied()).collect();
    assert!(base.keys().copied().collect::<BTreeSet<_>>().is_superset(&kept));
    world.homes();
    world.write_frozen();
    world.check();
    world.delete_everything();
}

proptest! {
    #![proptest_config(Config { cases: 160, ..Config::default() })]

    #[test]
    fn nothing_is_freed_twice_or_leaked_in_tiny_trees(
        fan_out in 2usize..6,
        ops in prop::collection::vec(op(), 20..200),
    ) {
        run(Limits::small(fan_out), &ops);
    }

    #[test]
    fn nothing_is_freed_twice_or_leaked_with_leaves_and_inner_nodes_of_different_size(
        leaf in 2usize..9,
        inner in 2usize..9,
        ops in prop::collection::vec(op(), 20..200),
    ) {
        run(Limits::new(leaf, inner), &ops);
    }

    #[test]
    fn a_thinned_layer_keeps_what_its_dependents_reach(
        fan_out in 2usize..9,
        clones in prop::collection::vec(prop::collection::vec((0..KEYS, 1u64..24), 0..6), 1..4),
        evict in any::<bool>(),
        freeze in any::<bool>(),
    ) {
        thin(Limits::small(fan_out), &clones, evict, freeze);
    }
}
