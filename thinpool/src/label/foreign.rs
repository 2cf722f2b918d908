//! What a device holds that is not a pool, as far as its first block tells: an operator who named the wrong file
//! should read what he named.

use cow_tree::units::BLOCK_BYTES;
use std::fmt;

/// Contents of a first block that are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// Nothing but zeros.
    Empty,
    Qcow,
    Vmdk,
    Vhdx,
    Luks,
    Lvm,
    Xfs,
    /// ext2, ext3 or ext4.
    Ext,
    Swap,
    Gpt,
    BootSector,
    Unknown,
}

struct Signature {
    at: usize,
    bytes: &'static [u8],
    means: Foreign,
}

const fn signature(at: usize, bytes: &'static [u8], means: Foreign) -> Signature {
    assert!(at + bytes.len() <= BLOCK_BYTES);
    Signature { at, bytes, means }
}

/// The first that matches decides; a partitioned disk has a boot sector too.
const SIGNATURES: [Signature; 12] = [
    signature(0, b"QFI\xfb", Foreign::Qcow),
    signature(0, b"KDMV", Foreign::Vmdk),
    signature(0, b"# Disk DescriptorFile", Foreign::Vmdk),
    signature(0, b"vhdxfile", Foreign::Vhdx),
    signature(0, b"LUKS\xba\xbe", Foreign::Luks),
    signature(0, b"XFSB", Foreign::Xfs),
    signature(512, b"LABELONE", Foreign::Lvm),
    signature(512, b"EFI PART", Foreign::Gpt),
    signature(1024 + 56, &[0x53, 0xef], Foreign::Ext),
    signature(4086, b"SWAPSPACE2", Foreign::Swap),
    signature(4086, b"SWAP-SPACE", Foreign::Swap),
    signature(510, &[0x55, 0xaa], Foreign::BootSector),
];

impl Foreign {
    pub(super) fn recognise(page: &[u8; BLOCK_BYTES]) -> Self {
        if page.iter().all(|byte| *byte == 0) {
            return Foreign::Empty;
        }
        let found = SIGNATURES
            .iter()
            .find(|signature| page[signature.at..signature.at + signature.bytes.len()] == *signature.bytes);
        found.map_or(Foreign::Unknown, |signature| signature.means)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Foreign::Empty => "its first block is empty",
            Foreign::Qcow => "it looks like a qcow2 image",
            Foreign::Vmdk => "it looks like a VMDK image",
            Foreign::Vhdx => "it looks like a VHDX image",
            Foreign::Luks => "it looks like a LUKS volume",
            Foreign::Lvm => "it looks like an LVM physical volume",
            Foreign::Xfs => "it looks like an XFS file system",
            Foreign::Ext => "it looks like an ext2, ext3 or ext4 file system",
            Foreign::Swap => "it looks like swap space",
            Foreign::Gpt => "it looks like a disk with a GUID partition table",
            Foreign::BootSector => "it looks like a disk with a boot sector",
            Foreign::Unknown => "its first block has no known signature",
        })
    }
}
