//! What is offered to drivers and monitors.

use vhost::vhost_user::message::VhostUserProtocolFeatures;
use virtio_bindings::bindings::virtio_blk as blk;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// The bit by which a back end says that it knows protocol features.
const PROTOCOL_FEATURES: u32 = 30;

/// Virtio feature bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features(pub(crate) u64);

impl Features {
    /// Everything an export has.
    pub(crate) fn offered(read_only: bool) -> Self {
        let always = [
            blk::VIRTIO_BLK_F_SIZE_MAX,
            blk::VIRTIO_BLK_F_SEG_MAX,
            blk::VIRTIO_BLK_F_BLK_SIZE,
            blk::VIRTIO_BLK_F_TOPOLOGY,
            blk::VIRTIO_BLK_F_MQ,
            blk::VIRTIO_BLK_F_FLUSH,
            blk::VIRTIO_BLK_F_CONFIG_WCE,
            VIRTIO_RING_F_INDIRECT_DESC,
            VIRTIO_RING_F_EVENT_IDX,
            VIRTIO_F_VERSION_1,
            PROTOCOL_FEATURES,
        ];
        let writable = [blk::VIRTIO_BLK_F_DISCARD, blk::VIRTIO_BLK_F_WRITE_ZEROES];
        let more: &[u32] = if read_only { &[blk::VIRTIO_BLK_F_RO] } else { &writable };
        Self(always.iter().chain(more).fold(0, |bits, bit| bits | 1 << bit))
    }

    fn has(self, bit: u32) -> bool {
        self.0 & 1 << bit != 0
    }

    pub(crate) fn knows_protocol(self) -> bool {
        self.has(PROTOCOL_FEATURES)
    }

    pub(crate) fn event_idx(self) -> bool {
        self.has(VIRTIO_RING_F_EVENT_IDX)
    }

    pub(crate) fn can_flush(self) -> bool {
        self.has(blk::VIRTIO_BLK_F_FLUSH)
    }
}

/// What the monitor may use of the vhost-user protocol. REPLY_ACK comes with the library.
pub(crate) fn protocol() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::BACKEND_REQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::RESET_DEVICE
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
        | VhostUserProtocolFeatures::INFLIGHT_SHMFD
        | VhostUserProtocolFeatures::STATUS
}

#[cfg(test)]
mod tests {
    use super::Features;

    /// Virtio 1.2, sections 5.2.3 and 6, and the vhost-user specification.
    #[test]
    fn what_is_offered_has_the_numbers_of_the_specifications() {
        let bits = |numbers: &[u32]| numbers.iter().fold(0, |bits, number| bits | 1_u64 << number);
        // SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, MQ, INDIRECT_DESC, EVENT_IDX, PROTOCOL_FEATURES, VERSION_1.
        let always = bits(&[1, 2, 6, 9, 10, 11, 12, 28, 29, 30, 32]);
        assert_eq!(Features::offered(false).0, always | bits(&[13, 14]), "DISCARD, WRITE_ZEROES");
        assert_eq!(Features::offered(true).0, always | bits(&[5]), "RO");
    }
}
