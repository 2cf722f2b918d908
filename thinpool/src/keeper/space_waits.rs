//! Tells writes that wait for space to look again: when one of them has waited long enough, and from time to time, because a file
//! system that was full may have room again.

use super::Desk;
use std::sync::atomic::Ordering;

pub(crate) async fn run(desk: Desk) {
    let core = &desk.core;
    let mut last = desk.now();
    loop {
        let is_time = || core.space_waits.waiting() > 0 && desk.now() >= last + core.limits.commit_interval;
        desk.until(|| {
            core.closed.load(Ordering::SeqCst) || core.space_waits.is_over(desk.now()) || is_time()
        })
        .await;
        if core.closed.load(Ordering::SeqCst) {
            return;
        }
        last = desk.now();
        core.groups.lock().offer_refused();
        core.announce();
    }
}
