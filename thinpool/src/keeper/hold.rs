//! The end of waits for space: whoever has waited long enough is told to look again.

use super::Desk;
use std::sync::atomic::Ordering;

pub(crate) async fn run(desk: Desk) {
    let core = &desk.core;
    loop {
        desk.until(|| core.closed.load(Ordering::SeqCst) || core.holds.is_over()).await;
        if core.closed.load(Ordering::SeqCst) {
            return;
        }
        core.announce();
    }
}
