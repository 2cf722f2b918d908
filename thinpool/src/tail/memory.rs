//! Tails in the process's own memory, and the bytes of any tail at one moment: what a simulated kill leaves.

use super::header::{HEADER_BYTES, HeaderPage};
use super::region::Region;
use super::{Shape, Tail, TailError};
use std::sync::Arc;

/// The bytes of a tail at one moment. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TailImage {
    bytes: Arc<[u8]>,
}

impl TailImage {
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Vec<u8>> for TailImage {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into() }
    }
}

impl Tail {
    /// A tail that dies with the process: for tests, simulations and pools nobody serves.
    #[must_use]
    pub fn in_memory(shape: Shape) -> Self {
        let zeroed = |bytes| Region::Memory(vec![0; bytes].into_boxed_slice());
        let mut header = zeroed(HEADER_BYTES);
        HeaderPage::format(&mut header, &shape);
        let lanes = (0..shape.lanes()).map(|_| zeroed(shape.lane_bytes())).collect();
        Self::over(shape, header, lanes)
    }

    /// The tail an opener finds after a kill at the moment of the image.
    ///
    /// # Errors
    /// When the bytes are no tail's.
    pub fn from_image(image: &TailImage) -> Result<Self, TailError> {
        let header =
            image.bytes.get(..HEADER_BYTES).ok_or(TailError::Damaged("it is shorter than its header"))?;
        let shape = HeaderPage::shape_of(header)?;
        if cow_tree::units::length_of(image.bytes.len()) != shape.total_bytes() {
            return Err(TailError::Damaged("its length is not what its header says"));
        }
        let copy = |bytes: &[u8]| Region::Memory(bytes.into());
        let lanes = image.bytes[HEADER_BYTES..].chunks_exact(shape.lane_bytes()).map(copy).collect();
        Ok(Self::over(shape, copy(header), lanes))
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn image(&self) -> TailImage {
        self.image_with(None)
    }

    /// The bytes as if the newest record of a lane had been cut in the middle, unless it is retired already.
    ///
    /// # Panics
    /// If there is no such lane.
    #[must_use]
    pub fn torn_image(&self, lane: usize) -> TailImage {
        assert!(lane < self.lanes(), "the lane exists");
        self.image_with(Some(lane))
    }

    fn image_with(&self, torn: Option<usize>) -> TailImage {
        let mut bytes = self.inner.header.lock().bytes().to_vec();
        for (number, lane) in self.inner.lanes.iter().enumerate() {
            let lane = lane.lock();
            if torn == Some(number) {
                bytes.extend_from_slice(&lane.torn_bytes());
            } else {
                bytes.extend_from_slice(lane.bytes());
            }
        }
        bytes.into()
    }
}
