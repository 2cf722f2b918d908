//! The shape of a volume's map, for tests and for whoever asks why a volume is slow. No guest request comes here.

use super::Channel;
use crate::attachment::Attachment;
use cow_tree::units::LogicalBlock;

impl Channel {
    /// Nodes that a lookup of the byte at `offset` looks at. `None` while one of them is not in memory: a read of that
    /// byte brings it there.
    #[must_use]
    pub fn lookup_visits(&self, attachment: &Attachment, offset: u64) -> Option<usize> {
        let body = attachment.live().read();
        let at = LogicalBlock::containing(offset);
        body.tree.lookup_counted(&self.nodes, at).ok().map(|(_, visits)| visits)
    }

    /// Extents of the volume: runs of neighbours on the device with one owner. `None` while a node is not in memory.
    #[must_use]
    pub fn extent_count(&self, attachment: &Attachment) -> Option<u64> {
        let body = attachment.live().read();
        let (mut count, mut at) = (0, LogicalBlock(0));
        while let Some(mapping) = body.tree.next(&self.nodes, at).ok()? {
            count += 1;
            at = mapping.end();
        }
        Some(count)
    }
}
