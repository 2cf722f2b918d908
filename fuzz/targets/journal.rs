//! Whatever a ring holds, its batches are read as they were written, or it is refused; and so are their records.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| thinpool::rehearsal::journal(script));
