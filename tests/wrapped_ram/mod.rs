//! A RAM device whose channels a test puts its own around.

use blockstore::{Device, DeviceError, IoChannel, RamDevice};
use std::fmt;

type Wrap = dyn Fn(Box<dyn IoChannel>) -> Box<dyn IoChannel> + Send + Sync;

pub(crate) struct WrappedRam {
    ram: RamDevice,
    works_alone: bool,
    wrap: Box<Wrap>,
}

impl WrappedRam {
    /// Of so many bytes. `works_alone` is what it says of itself.
    pub(crate) fn new<C: IoChannel + 'static>(
        bytes: u64,
        works_alone: bool,
        wrap: impl Fn(Box<dyn IoChannel>) -> C + Send + Sync + 'static,
    ) -> Self {
        let wrap = move |channel| -> Box<dyn IoChannel> { Box::new(wrap(channel)) };
        Self { ram: RamDevice::new(bytes), works_alone, wrap: Box::new(wrap) }
    }
}

impl fmt::Debug for WrappedRam {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("WrappedRam").field(&self.ram).finish()
    }
}

impl Device for WrappedRam {
    fn size(&self) -> u64 {
        self.ram.size()
    }

    fn alignment(&self) -> usize {
        self.ram.alignment()
    }

    fn discard_granularity(&self) -> Option<u64> {
        self.ram.discard_granularity()
    }

    fn description(&self) -> String {
        self.ram.description()
    }

    fn is_read_only(&self) -> bool {
        self.ram.is_read_only()
    }

    fn works_alone(&self) -> bool {
        self.works_alone
    }

    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        self.ram.open_channel(depth).map(&self.wrap)
    }
}
