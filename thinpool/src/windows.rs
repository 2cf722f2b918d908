//! Where the blocks of each mebibyte of a volume are being placed.

use cow_tree::units::{BlockAddress, LogicalBlock};

/// Blocks of one placement window: 1 MiB.
pub(crate) const WINDOW_BLOCKS: u64 = 256;
/// Windows that are remembered, of 16 GiB together: of those that far apart, the last one. Where the others are, the
/// volume's map tells as soon as it has a block there.
const WINDOWS_MAX: u64 = 16_384;

/// The places of a volume's windows, published or not, and each until it is full.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    pages: Vec<Option<Box<Page>>>,
}

/// Memory is taken for what is written, wherever that is.
const PAGE_WINDOWS: usize = 64;
type Page = [Place; PAGE_WINDOWS];

#[derive(Debug, Clone, Copy)]
struct Place {
    window: u64,
    /// Where the window's first block is or would be; none yet when there is no place.
    base: Option<BlockAddress>,
}

impl Windows {
    /// The address at which `at` would stand in its window's place.
    pub(crate) fn get(&self, at: LogicalBlock) -> Option<BlockAddress> {
        let window = at.0 / WINDOW_BLOCKS;
        let (page, index) = index_of(window);
        let place = self.pages.get(page)?.as_ref()?[index];
        if place.window != window {
            return None;
        }
        Some(place.base?.offset_by(at.0 % WINDOW_BLOCKS))
    }

    /// The blocks of the window are placed around `address` from now on.
    pub(crate) fn put(&mut self, at: LogicalBlock, address: BlockAddress) {
        let base = address.in_device().checked_sub(at.0 % WINDOW_BLOCKS);
        let Some(base) = base.and_then(|base| BlockAddress::new(address.device(), base)) else { return };
        let window = at.0 / WINDOW_BLOCKS;
        let (page, index) = index_of(window);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let empty = || Box::new([Place { window: 0, base: None }; PAGE_WINDOWS]);
        let page = self.pages[page].get_or_insert_with(empty);
        page[index] = Place { window, base: Some(base) };
    }
}

/// The page of a window's entry, and its place in it.
fn index_of(window: u64) -> (usize, usize) {
    let index = usize::try_from(window % WINDOWS_MAX).expect("less than the bound");
    (index / PAGE_WINDOWS, index % PAGE_WINDOWS)
}

#[cfg(test)]
mod tests {
    use super::{WINDOW_BLOCKS, WINDOWS_MAX, Windows};
    use cow_tree::units::{BlockAddress, LogicalBlock};

    #[test]
    fn a_window_has_its_place_until_one_far_away_takes_its_entry() {
        let (near, far) = (LogicalBlock(3), LogicalBlock(WINDOWS_MAX * WINDOW_BLOCKS + 3));
        let mut windows = Windows::default();
        assert_eq!(windows.get(near), None);
        windows.put(LogicalBlock(1), BlockAddress(1001));
        assert_eq!(windows.get(near), Some(BlockAddress(1003)));
        assert_eq!(windows.get(LogicalBlock(WINDOW_BLOCKS)), None);
        assert_eq!(windows.get(far), None, "nobody is given another window's place");
        windows.put(far, BlockAddress(5003));
        assert_eq!((windows.get(near), windows.get(far)), (None, Some(BlockAddress(5003))));
    }

    #[test]
    fn a_place_never_reaches_into_the_device_before() {
        let mut windows = Windows::default();
        let first = BlockAddress::new(1, 9).expect("9 fits 40 bits");
        windows.put(LogicalBlock(10), first);
        assert_eq!(windows.get(LogicalBlock(10)), None, "its window would begin on device 0");
        windows.put(LogicalBlock(9), first);
        assert_eq!(windows.get(LogicalBlock(11)), Some(first.offset_by(2)));
    }

    #[test]
    fn a_place_at_the_end_takes_no_memory_for_all_before_it() {
        let mut windows = Windows::default();
        let last = LogicalBlock((WINDOWS_MAX - 1) * WINDOW_BLOCKS);
        windows.put(last, BlockAddress(7));
        assert_eq!(windows.get(last), Some(BlockAddress(7)));
        assert_eq!(windows.pages.iter().flatten().count(), 1);
    }
}
