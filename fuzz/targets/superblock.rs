//! Whatever four blocks hold, a superblock that can be is chosen among them, or none.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| thinpool::rehearsal::superblock(script));
