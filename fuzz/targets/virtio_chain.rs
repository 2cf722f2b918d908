//! Whatever is in a guest's memory, and however it changes meanwhile, chains end and only legal requests come out of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    vhost_blk::rehearsal::rehearse(script);
    vhost_blk::rehearsal::rehearse_while_it_changes(script);
});
