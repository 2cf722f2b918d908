//! Whatever a monitor sends, its session ends in peace.
#![no_main]

use std::sync::OnceLock;
use vhost_blk::rehearsal::{Stage, converse};

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    /// For all inputs; it ends with the process.
    static STAGE: OnceLock<Stage> = OnceLock::new();
    converse(STAGE.get_or_init(Stage::open), script).expect("sockets and files");
});
