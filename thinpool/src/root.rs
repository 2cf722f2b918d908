//! The first device's label and superblock: where every opening begins.

use crate::error::Error;
use crate::geometry::{LABEL_BLOCK, superblock_places};
use crate::keeper::io::KeeperIo;
use crate::label::Label;
use crate::members::MemberError;
use crate::superblock::{self, Choice};
use cow_tree::units::{BLOCK_BYTES_U64, BlockAddress};

/// What is believed before anything else is read.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) label: Label,
    pub(crate) choice: Choice,
}

/// `size` is the first device's, in bytes.
pub(crate) async fn believe(io: &KeeperIo, size: u64) -> Result<Root, Error> {
    if size < BLOCK_BYTES_U64 {
        return Err(Error::Damage("the device is shorter than a label".to_owned()));
    }
    let label = Label::parse(&io.read(BlockAddress(LABEL_BLOCK), 1, "reading the label").await?)?;
    if label.device_index != 0 {
        return Err(MemberError::NotFirst { index: label.device_index.into(), name: label.name }.into());
    }
    let [a, b, c, d] = superblock_places();
    if size <= d.byte_offset() {
        return Err(cut_off(size, label.device_bytes));
    }
    let mut pages = Vec::new();
    for home in [a, b, c, d] {
        pages.push(io.read(home, 1, "reading the superblock").await?);
    }
    let choice =
        superblock::choose(label.pool, [(a, &pages[0]), (b, &pages[1]), (c, &pages[2]), (d, &pages[3])])?;
    Ok(Root { label, choice })
}

pub(crate) fn cut_off(size: u64, uses: u64) -> Error {
    Error::Damage(format!("the device has {size} bytes, but the pool uses {uses}: its end was cut off"))
}
