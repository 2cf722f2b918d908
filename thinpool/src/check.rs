//! Checking a pool: walks every layer and compares what it finds with the bitmaps, the counts and the reach lemma (R1).
//!
//! The moment that is checked is taken inside the publish gate, all of it at once; the walk itself runs while guests go
//! on, over forks of the trees, with nothing that is freed meanwhile being used again. So a check is exact, online or not.

mod blocks;
mod layer;
mod moment;
mod pace;

use crate::core::Core;
use crate::error::Error;
use crate::groups::GroupKind;
use crate::keeper::{Desk, provision};
use crate::meta::RecordNodes;
use crate::ticket::Ticket;
use blocks::Blocks;
use cow_tree::Walk;
use moment::Moment;
use pace::Pace;

/// Contradictions that are spelled out; more are only counted.
const ERRORS_MAX: usize = 100;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong, in sentences; at most 101 of them.
    pub errors: Vec<String>,
    /// Blocks the allocator holds for nobody. They are lost space, not lost data.
    pub leaked_blocks: u64,
    /// Blocks that somebody reaches.
    pub blocks_checked: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.leaked_blocks == 0
    }

    fn error(&mut self, sentence: String) {
        match self.errors.len() {
            ERRORS_MAX => self.errors.push("there are more errors than are listed here".to_owned()),
            count if count < ERRORS_MAX => self.errors.push(sentence),
            _ => {}
        }
    }
}

/// Checks the pool as it is at one moment of this call. Says how far it is, and ends when it is cancelled.
pub(crate) async fn run(desk: &Desk, ticket: &Ticket) -> Result<CheckReport, Error> {
    let core = &desk.core;
    let mut report = CheckReport::default();
    load_bitmaps(desk, &mut report).await?;
    desk.until(|| core.is_poisoned() || !core.meta.lock().amending).await;
    let _hold = core.hold_releases();
    let moment = Moment::take(core);
    let mut blocks = Blocks::new(core.geometry.read().devices());
    let mut pace = Pace::new(desk, ticket, &moment);
    for index in 0..moment.layers.len() {
        layer::check(desk, &moment, index, &mut pace, &mut blocks, &mut report).await?;
    }
    check_own_trees(desk, &moment, &mut blocks, &mut report).await;
    compare(core, &moment, &blocks, &mut report);
    Ok(report)
}

async fn load_bitmaps(desk: &Desk, report: &mut CheckReport) -> Result<(), Error> {
    let core = &desk.core;
    let indices: Vec<_> = core.groups.lock().indices().collect();
    for index in indices {
        match provision::load_group(core, &desk.io, index).await {
            Ok(()) => {}
            Err(Error::Damage(why)) => report.error(why),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The catalog and the group table: their nodes belong to the pool itself.
async fn check_own_trees(desk: &Desk, moment: &Moment, blocks: &mut Blocks, report: &mut CheckReport) {
    for (tree, name) in [(&moment.catalog, "the catalog"), (&moment.table, "the group table")] {
        let mut walk = Walk::new(tree);
        let mut nodes = RecordNodes::default();
        loop {
            match walk.enter(&nodes) {
                Ok(None) => break,
                Ok(Some(visited)) => {
                    visited.faults.iter().for_each(|fault| report.error(format!("{name}: {fault}")));
                    if let Some(address) = moment.address_of(&visited.node) {
                        blocks.reach(address, 1, || name.to_owned(), report);
                    }
                }
                Err(missing) => match RecordNodes::read(&desk.io, desk.core.id, missing).await {
                    Ok(fetched) => nodes.keep(fetched),
                    Err(error) => {
                        report.error(format!("{name}: {error}"));
                        walk.skip();
                    }
                },
            }
        }
    }
}

/// The allocator holds exactly what is reached, data in data groups and nodes in metadata groups.
fn compare(core: &Core, moment: &Moment, blocks: &Blocks, report: &mut CheckReport) {
    let mut allocated = Blocks::new(core.geometry.read().devices());
    for run in &moment.allocated {
        allocated.insert(*run);
    }
    report.blocks_checked = blocks.count();
    report.leaked_blocks = allocated.without(blocks).map(|range| range.end - range.start).sum();
    for range in blocks.without(&allocated) {
        report.error(format!(
            "blocks {} to {} are in use, and the allocator would give them away",
            blocks.name_of(range.start),
            blocks.name_of(range.end - 1)
        ));
    }
    for (kind, counted) in [(GroupKind::Data, moment.data), (GroupKind::Metadata, moment.metadata)] {
        if counted.held != counted.counted {
            let (held, counted) = (counted.held, counted.counted);
            report.error(format!(
                "the bitmaps of {kind:?} groups hold {held} blocks, their counts say {counted}"
            ));
        }
    }
    moment.contradictions.iter().for_each(|sentence| report.error(sentence.clone()));
}
