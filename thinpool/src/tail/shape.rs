//! How large a tail is.

use super::TailError;
use super::header::HEADER_BYTES;
use super::lane;
use cow_tree::units::{index_of, length_of};

/// Most lanes, that is, channels and the keeper.
pub const LANES_MAX: u32 = 64;
/// A lane is a whole number of pages, at least one.
pub const LANE_BYTES_MIN: u64 = 4096;
pub const LANE_BYTES_MAX: u64 = 64 << 20;

/// Number and size of a tail's lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    lanes: u32,
    lane_bytes: u32,
}

impl Default for Shape {
    /// 8 MiB in 32 lanes: what a restart replays in a fraction of a second, and a commit empties many times a second.
    fn default() -> Self {
        Self { lanes: 32, lane_bytes: 256 << 10 }
    }
}

impl Shape {
    /// # Errors
    /// When a number is out of bounds or the lanes are not made of whole pages.
    pub fn new(lanes: u32, lane_bytes: u64) -> Result<Self, TailError> {
        let refused = TailError::Shape { lanes, lane_bytes };
        let in_bounds = (1..=LANES_MAX).contains(&lanes)
            && (LANE_BYTES_MIN..=LANE_BYTES_MAX).contains(&lane_bytes)
            && lane_bytes.is_multiple_of(LANE_BYTES_MIN);
        match u32::try_from(lane_bytes) {
            Ok(lane_bytes) if in_bounds => Ok(Self { lanes, lane_bytes }),
            _ => Err(refused),
        }
    }

    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.lanes
    }

    #[must_use]
    pub fn lane_bytes(&self) -> usize {
        index_of(self.lane_bytes)
    }

    /// Bytes of the whole tail, its header included.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        length_of(HEADER_BYTES) + u64::from(self.lanes) * u64::from(self.lane_bytes)
    }

    pub(super) fn record_bytes_max(&self) -> usize {
        lane::record_bytes_max(self.lane_bytes())
    }

    /// First byte of a lane.
    pub(super) fn lane_start(&self, lane: u32) -> u64 {
        length_of(HEADER_BYTES) + u64::from(lane) * u64::from(self.lane_bytes)
    }
}
