//! Whatever the values of a catalog are, they make one that agrees with itself, or none.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| thinpool::rehearsal::catalog(script));
