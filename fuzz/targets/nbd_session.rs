//! Whatever a client sends, the door keeps its promises.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    nbd_server::rehearsal::rehearse(script);
});
