//! A device becomes one of a pool's: its label and its first mark are durable before a superblock names it. A crash before
//! that superblock leaves a labelled device that no pool names; whoever tries again may have it.

use crate::core::Core;
use crate::create::refuse_what_is_there;
use crate::error::Error;
use crate::geometry::{FURTHER_START, Geometry, LABEL_BLOCK, at};
use crate::ids::DeviceId;
use crate::keeper::io::KeeperIo;
use crate::label::Label;
use crate::mark::{self, Mark};
use crate::members::{self, Member, MemberError};
use crate::opening::Opening;
use crate::recovery::metadata_required;
use crate::superblock::{Further, Superblock};
use blockstore::{Buffer, Device, IoError, Operation};
use cow_tree::units::{BLOCK_BYTES, BLOCK_BYTES_U64, Generation};
use std::sync::Arc;

/// A device that is to be a further one of a pool.
#[derive(Debug, Clone)]
pub struct NewDevice {
    pub device: Arc<dyn Device>,
    /// Random.
    pub id: DeviceId,
}

impl NewDevice {
    /// What the superblock will say of it.
    pub(crate) fn entry(&self) -> Further {
        Further { id: self.id, blocks: self.device.size() / BLOCK_BYTES_U64 }
    }
}

/// The pool that gets a device, and the opening that is to have it.
#[derive(Debug, Clone)]
pub(crate) struct Joined<'a> {
    /// Of device 0.
    pub(crate) label: &'a Label,
    /// Place of the new device.
    pub(crate) index: usize,
    /// Devices of the pool with this one.
    pub(crate) count: usize,
    pub(crate) created_unix: u64,
    pub(crate) incarnation: [u8; 16],
    pub(crate) generation: Generation,
    /// Take the device although it holds something else. Never another pool's.
    pub(crate) overwrite: bool,
}

/// Refuses a device that somebody else has a use for.
pub(crate) async fn refuse_others(io: &KeeperIo, joined: &Joined<'_>) -> Result<(), Error> {
    let block = io.read(at(joined.index, LABEL_BLOCK), 1, "reading the first block").await?;
    let is_ours =
        |label: &Label| label.pool == joined.label.pool && usize::from(label.device_index) == joined.index;
    match Label::parse(&block).ok().filter(is_ours) {
        Some(label) => refuse_younger(io, joined, &label).await,
        None => refuse_what_is_there(&block, joined.overwrite),
    }
}

/// A device that no pool has named yet was marked for no opening after the next one. Another has data, and it is the first
/// device that is an older copy.
async fn refuse_younger(io: &KeeperIo, joined: &Joined<'_>, label: &Label) -> Result<(), Error> {
    let marks = members::marks(io, joined.index, label.pool, label.device_id).await?;
    match marks.iter().flatten().map(|mark| mark.generation).max() {
        Some(mark) if mark > joined.generation.next() => {
            let (index, id, bytes) = (joined.index, label.device_id, label.device_bytes);
            let member = Member { index, id, bytes, path: None };
            Err(MemberError::FirstIsOlder { member, mark, pool: joined.generation }.into())
        }
        _ => Ok(()),
    }
}

/// Writes label and mark. The caller flushes.
pub(crate) async fn prepare(io: &KeeperIo, new: &NewDevice, joined: &Joined<'_>) -> Result<(), Error> {
    let device = |number| u8::try_from(number).expect("a pool has few devices");
    let start = at(joined.index, 0);
    let reserved =
        Operation::Allocate { offset: start.byte_offset(), length: FURTHER_START * BLOCK_BYTES_U64 };
    match io.run(reserved).await {
        Ok(_) | Err(IoError::Unsupported) => {}
        Err(error) => return Err(Error::io("making room for the label")(error)),
    }
    let label = Label {
        device_index: device(joined.index),
        device_count: device(joined.count),
        device_bytes: new.device.size(),
        created_unix: joined.created_unix,
        device_id: new.id,
        ..joined.label.clone()
    };
    let mark = Mark {
        pool: label.pool,
        device: new.id,
        incarnation: joined.incarnation,
        generation: joined.generation,
    };
    let [first, second] = mark::homes(joined.index);
    let pages = vec![
        (start, Buffer::from_slice(&label.encode())),
        (first, Buffer::from_slice(&mark.encode())),
        (second, Buffer::zeroed(BLOCK_BYTES)),
    ];
    io.write_all(pages, "writing the label").await
}

/// A device on its way into a pool that is being opened, and the pool as it will be.
#[derive(Debug)]
pub(crate) struct Joining {
    new: NewDevice,
    label: Label,
    opened_unix: u64,
    incarnation: [u8; 16],
    geometry: Geometry,
}

impl Joining {
    /// Finds out whether the device can join. Changes nothing.
    pub(crate) async fn plan(
        core: &Core,
        io: &KeeperIo,
        new: NewDevice,
        label: Label,
        opening: &Opening,
    ) -> Result<Self, Error> {
        if core.read_only {
            return Err(Error::ReadOnly);
        }
        let geometry = core.geometry.read().joined(new.device.size());
        let geometry = geometry.map_err(|error| Error::Invalid(error.to_string()))?;
        let (opened_unix, incarnation) = (opening.now_unix, opening.incarnation);
        let joining = Self { new, label, opened_unix, incarnation, geometry };
        let generation = core.superblock.lock().generation;
        refuse_others(io, &joining.joined(generation)).await?;
        Ok(joining)
    }

    fn joined(&self, generation: Generation) -> Joined<'_> {
        let count = self.geometry.devices().len();
        Joined {
            label: &self.label,
            index: count - 1,
            count,
            created_unix: self.opened_unix,
            incarnation: self.incarnation,
            generation,
            overwrite: false,
        }
    }

    /// Makes the device ready, and then the superblock name it, which the caller writes.
    pub(crate) async fn prepare(&self, io: &KeeperIo, superblock: &mut Superblock) -> Result<(), Error> {
        prepare(io, &self.new, &self.joined(superblock.generation.next())).await?;
        io.flush("flushing the label").await?;
        superblock.join(self.new.entry());
        Ok(())
    }

    /// The superblock that names the device is durable: now its groups may be used.
    pub(crate) fn take_in(self, core: &Core) {
        let mut groups = core.groups.lock();
        groups.grow(&self.geometry);
        groups.set_metadata_required(metadata_required(&self.geometry, &core.limits));
        drop(groups);
        *core.geometry.write() = self.geometry;
    }
}
