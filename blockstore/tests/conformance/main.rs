//! The contract of `Device` and `IoChannel` (invariants B1 to B9 of the crate), held against every device.
//!
//! A *claim* is a function that takes a [`Factory`] and panics when a device of that factory breaks the contract.
//! To add a device: write a factory in `factory.rs` and one `conformance!` line here. To add a claim: write it in the
//! file of its invariant and add its name to `claims!`; it then runs on every device.
//!
//! Claims adapt to what a device says of itself (alignment, discards), to whether it can be resized, and to nothing else.
//! They wait through `wait`, at most [`drive::WAITS_MAX`] times for one completion, so a device whose time is simulated
//! needs no clock.

mod bounds;
mod drive;
mod factory;
mod legality;
mod lent;
#[path = "../loop_device/mod.rs"]
mod loop_device;
mod member;
mod model;
mod order;
mod zeros;

use blockstore::Engine;
use blockstore::simulated::{CompletionOrder, Profile};
use factory::{FileFactory, LoopFactory, Place, RamFactory, SimulatedFactory};
use lent::Lent;

macro_rules! claims {
    ($factory:expr; $($module:ident: $($claim:ident)+;)+) => {
        $($(
            #[test]
            fn $claim() {
                let factory = $factory;
                if crate::factory::Factory::can_make(&factory) {
                    crate::$module::$claim(&factory);
                }
            }
        )+)+
    };
}

macro_rules! conformance {
    ($device:ident, $factory:expr) => {
        mod $device {
            claims! { $factory;
                bounds:
                    a_channel_takes_no_more_than_its_depth
                    completions_that_were_not_polled_take_room
                    a_depth_out_of_bounds_is_cut_to_the_bounds
                    each_submission_gets_one_answer_with_its_token_and_buffer
                    an_idle_channel_waits_no_longer_than_told
                    the_descriptor_tells_of_every_completion
                    dropping_a_channel_waits_for_what_is_in_flight
                    a_dropped_channel_leaves_its_buffers_alone;
                order:
                    a_read_sees_what_had_completed
                    channels_of_two_threads_do_not_disturb_each_other
                    overlapping_writes_leave_one_of_them_in_each_sector
                    a_channel_may_change_its_thread
                    flushes_and_durable_writes_succeed_together_with_writes;
                legality:
                    empty_and_misaligned_ranges_are_refused
                    ranges_behind_the_end_are_refused
                    misaligned_memory_is_refused
                    what_is_refused_has_no_effect
                    sizes_no_device_can_have_are_refused;
                zeros:
                    a_new_device_reads_as_zeros
                    discarded_and_zeroed_ranges_read_as_zeros_and_neighbours_stay
                    an_allocated_range_keeps_its_contents
                    what_a_device_grows_by_reads_as_zeros
                    what_was_cut_off_does_not_come_back
                    a_range_can_be_written_again_after_a_discard;
                model:
                    random_operations_agree_with_a_row_of_bytes;
            }
        }
    };
}

/// Completions in any order and late, discards later still, and blocks of 4096 bytes.
fn out_of_order() -> Profile {
    Profile {
        alignment: 4096,
        order: CompletionOrder::Any,
        latency_polls_max: 3,
        discard_delay_polls: 8,
        ..Profile::default()
    }
}

conformance!(ram, crate::RamFactory);
conformance!(simulated, crate::SimulatedFactory { profile: crate::Profile::default });
conformance!(simulated_out_of_order, crate::SimulatedFactory { profile: crate::out_of_order });
conformance!(inline_on_disk, crate::FileFactory { place: crate::Place::Disk, engine: crate::Engine::Inline });
conformance!(
    inline_in_memory,
    crate::FileFactory { place: crate::Place::Memory, engine: crate::Engine::Inline }
);
conformance!(uring_on_disk, crate::FileFactory { place: crate::Place::Disk, engine: crate::Engine::Uring });
conformance!(
    uring_in_memory,
    crate::FileFactory { place: crate::Place::Memory, engine: crate::Engine::Uring }
);
conformance!(inline_on_block_device, crate::LoopFactory { engine: crate::Engine::Inline });
conformance!(uring_on_block_device, crate::LoopFactory { engine: crate::Engine::Uring });
conformance!(mapped, crate::FileFactory { place: crate::Place::Memory, engine: crate::Engine::Mapped });

// The same with memory that is lent.
conformance!(lent_to_ram, crate::Lent(crate::RamFactory));
conformance!(lent_to_simulated, crate::Lent(crate::SimulatedFactory { profile: crate::out_of_order }));
conformance!(
    lent_to_inline,
    crate::Lent(crate::FileFactory { place: crate::Place::Disk, engine: crate::Engine::Inline })
);
conformance!(
    lent_to_uring,
    crate::Lent(crate::FileFactory { place: crate::Place::Disk, engine: crate::Engine::Uring })
);
conformance!(
    lent_to_mapped,
    crate::Lent(crate::FileFactory { place: crate::Place::Memory, engine: crate::Engine::Mapped })
);

// The same as a member of a span.
conformance!(member_in_ram, crate::member::BehindItsLike(crate::RamFactory));
conformance!(
    member_simulated,
    crate::member::BehindRam(crate::SimulatedFactory { profile: crate::out_of_order })
);
conformance!(
    member_simulated_behind_its_like,
    crate::member::BehindItsLike(crate::SimulatedFactory { profile: crate::out_of_order })
);
conformance!(
    member_with_inline,
    crate::member::BehindRam(crate::FileFactory { place: crate::Place::Disk, engine: crate::Engine::Inline })
);
conformance!(
    member_with_uring,
    crate::member::BehindRam(crate::FileFactory { place: crate::Place::Disk, engine: crate::Engine::Uring })
);
conformance!(
    member_with_uring_behind_its_like,
    crate::member::BehindItsLike(crate::FileFactory {
        place: crate::Place::Disk,
        engine: crate::Engine::Uring
    })
);
conformance!(
    member_mapped,
    crate::member::BehindItsLike(crate::FileFactory {
        place: crate::Place::Memory,
        engine: crate::Engine::Mapped
    })
);
