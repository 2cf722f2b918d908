//! Whatever block 0 holds, it is a label that comes back from its own bytes, or none.
#![no_main]

use arbitrary::Arbitrary;
use cow_tree::units::PoolId;
use libfuzzer_sys::fuzz_target;
use thinpool::{DeviceId, Label};

const BLOCK_BYTES: usize = 4096;
/// Where every version keeps the checksum.
const CHECKSUM_AT: usize = 12;

#[derive(Debug, Arbitrary)]
enum Block<'a> {
    Any(&'a [u8]),
    /// A block that begins with these bytes.
    Beginning(&'a [u8]),
    /// A label, some of its bytes changed, and sealed again.
    Changed(Vec<(u16, u8)>),
}

impl Block<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Block::Any(bytes) => bytes.to_vec(),
            Block::Beginning(bytes) => {
                let mut block = bytes.to_vec();
                block.resize(BLOCK_BYTES, 0);
                block
            }
            Block::Changed(changes) => changed(changes),
        }
    }
}

fn changed(changes: &[(u16, u8)]) -> Vec<u8> {
    let label = Label {
        pool: PoolId([7; 16]),
        device_index: 0,
        device_count: 1,
        device_bytes: 1 << 30,
        created_unix: 1_700_000_000,
        name: "pool".to_owned(),
        device_id: DeviceId::default(),
    };
    let mut block = label.encode().to_vec();
    for (at, byte) in changes {
        block[usize::from(*at) % BLOCK_BYTES] = *byte;
    }
    block[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
    let checksum = crc32c::crc32c(&block);
    block[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    block
}

fuzz_target!(|block: Block| {
    if let Ok(label) = Label::parse(&block.bytes()) {
        assert_eq!(Label::parse(&label.encode()), Ok(label));
    }
});
