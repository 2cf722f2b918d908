//! What a write does that finds no space: it waits for what the keeper can bring, then for what somebody else may free.

use super::Channel;
use super::slot::{Flow, Slot};
use super::update::update_of;
use crate::groups::NoRun;
use crate::keeper::reclaim;
use crate::live::Live;
use crate::request::RequestError;
use crate::space_waits::Verdict;
use cow_tree::units::BlockCount;
use std::sync::atomic::Ordering;

impl Channel {
    /// Whether there is no metadata for new blocks. What a checkpoint is about to give back is worth waiting for.
    pub(super) fn metadata_stop(&self) -> Option<NoRun> {
        let groups = self.core.groups.lock();
        let quarantined = groups.counts().metadata.quarantined;
        let short = groups.is_metadata_short();
        drop(groups);
        if short && quarantined > BlockCount(0) {
            self.core.need(|needs| needs.checkpoint = true);
        }
        short.then_some(NoRun::Full { quarantined })
    }

    /// Leaves the epoch while the keeper finds space. When there is none to find, somebody else may make some. Whoever has
    /// waited for that before fails when its time or its patience is over, whatever the keeper may bring.
    pub(super) fn wait_for_space(&mut self, slot: &mut Slot, live: &Live, stop: NoRun) -> Flow {
        self.leave_epoch(slot);
        if self.core.closing.load(Ordering::SeqCst) {
            return self.fail_update(slot, live, RequestError::ShuttingDown);
        }
        let (is_patient, now) = (slot.attachment.is_patient(), *self.core.clock.lock());
        if update_of(slot).space_wait.as_ref().is_some_and(|wait| !is_patient || wait.is_over(now)) {
            return self.fail_update(slot, live, RequestError::OutOfSpace);
        }
        match stop {
            NoRun::NeedsLoad(group) => self.core.need(|needs| needs.load.extend([group])),
            NoRun::NeedsAllocation(group) => self.core.need(|needs| needs.activate.extend([group])),
            NoRun::Full { quarantined } if quarantined > BlockCount(0) => {
                let durable = self.core.durable();
                let newest = self.core.quarantine.lock().back().map(|freed| freed.sequence);
                if newest > Some(durable) {
                    self.core.want_commit();
                }
            }
            NoRun::Full { .. } => {
                let durable = self.core.durable();
                // A layer that was deleted gives its blocks back while it is swept.
                let work = self.core.with_catalog(|catalog| {
                    reclaim::has_work(catalog).then(|| reclaim::is_stuck(catalog, durable))
                });
                match work {
                    Some(true) => drop(self.core.want_commit()),
                    Some(false) => {}
                    None => return self.wait_for_others(slot, live),
                }
            }
        }
        Flow::Aside
    }

    /// Nothing is on its way: waits for somebody else, if that may be, or fails.
    fn wait_for_others(&mut self, slot: &mut Slot, live: &Live) -> Flow {
        let is_patient = slot.attachment.is_patient();
        let now = *self.core.clock.lock();
        let wait = &mut update_of(slot).space_wait;
        let verdict = if is_patient { self.core.space_waits.judge(wait, now) } else { Verdict::Fail };
        match verdict {
            Verdict::LookOnceMore => Flow::Again,
            Verdict::Wait => Flow::Aside,
            Verdict::Fail => self.fail_update(slot, live, RequestError::OutOfSpace),
        }
    }
}
