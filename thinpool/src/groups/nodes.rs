//! The blocks of a checkpoint's tree nodes: from one metadata group where possible, because every group touched is one
//! more bitmap to write and one more entry of the group table to change.

use super::search::Wanted;
use super::shelves::Shelf;
use super::{GroupKind, Groups, NoRun, Run, index_at};
use cow_tree::units;

/// The nodes of one checkpoint are spread over at most this many groups while another group can be had.
const NODE_GROUPS_MAX: usize = 4;

impl Groups {
    /// Reserves exactly `count` blocks for nodes.
    pub(crate) fn reserve_nodes(&mut self, count: usize) -> Result<Vec<Run>, NoRun> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let groups = self.groups_for_nodes(count)?;
        let mut runs = Vec::new();
        let mut missing = count;
        for number in groups {
            let free = units::index_of(self.groups[number].free());
            let mut left = missing.min(free);
            missing -= left;
            while left > 0 {
                let run = self.reserve_anywhere(number, Wanted(left));
                left -= usize::try_from(run.length.0).expect("no longer than was wanted");
                runs.push(run);
            }
        }
        assert!(missing == 0, "the groups were chosen for their free blocks");
        Ok(runs)
    }

    /// Loaded metadata groups with `count` free blocks together: the current one, else few, else any.
    fn groups_for_nodes(&self, count: usize) -> Result<Vec<usize>, NoRun> {
        const KIND: GroupKind = GroupKind::Metadata;
        let free = |number: usize| units::index_of(self.groups[number].free());
        let current = self.cursor(KIND);
        if self.shelves.is_on(Shelf::Room(KIND), current) && free(current) >= count {
            return Ok(vec![current]);
        }
        let mut loaded: Vec<usize> = self.shelves.all(Shelf::Room(KIND)).collect();
        loaded.sort_by_key(|number| std::cmp::Reverse(free(*number)));
        let few = shortest_prefix(&loaded, count, free);
        if few.is_some_and(|few| few.len() == 1) {
            return Ok(few.expect("just seen").to_vec());
        }
        let asleep = self.shelves.all(Shelf::Asleep(KIND)).max_by_key(|number| free(*number));
        if let Some(number) = asleep.filter(|number| free(*number) >= count) {
            return Err(NoRun::NeedsLoad(index_at(number)));
        }
        match few {
            Some(few) if few.len() <= NODE_GROUPS_MAX => Ok(few.to_vec()),
            _ if asleep.is_some() => Err(NoRun::NeedsLoad(index_at(asleep.expect("just seen")))),
            Some(few) => match self.new_group(KIND) {
                Some(number) => Err(NoRun::NeedsAllocation(index_at(number))),
                None => Ok(few.to_vec()),
            },
            None => Err(self.next_step(KIND)),
        }
    }
}

/// The fewest groups from the front whose free blocks suffice; `None` if all of them do not.
fn shortest_prefix(groups: &[usize], count: usize, free: impl Fn(usize) -> usize) -> Option<&[usize]> {
    let mut found = 0;
    let enough = groups.iter().position(|number| {
        found += free(*number);
        found >= count
    });
    enough.map(|last| &groups[..=last])
}
