//! Whatever arrives of TLS, and in whatever pieces, each side hears the beginning of what the other has said.
#![no_main]

use nbd_server::rehearsal::secure::Stage;
use std::sync::OnceLock;

/// The certificates of all inputs.
static STAGE: OnceLock<Stage> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    STAGE.get_or_init(Stage::new).rehearse(script);
});
