//! Whatever is in a guest's memory, chains end and only legal requests come out of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    vhost_blk::rehearsal::rehearse(script);
});
