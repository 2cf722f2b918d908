//! Making a pool: label, superblock, and room for both and the journal; labels and marks of further devices before.
//!
//! The first device's label goes last. A crash before it leaves devices that are no pool; there is no half-made one.

use crate::error::Error;
use crate::geometry::{Geometry, GeometryOptions, LABEL_BLOCK, superblock_places};
use crate::ids::DeviceId;
use crate::join::{self, Joined, NewDevice};
use crate::keeper::io::{KeeperIo, block_on};
use crate::label::{Foreign, Label, LabelError, POOL_NAME_BYTES_MAX};
use crate::superblock::{FIRST_GENERATION, Superblock};
use blockstore::{Buffer, Device, IoError, Operation, Span};
use cow_tree::units::{BLOCK_BYTES, BLOCK_BYTES_U64, BlockAddress, PoolId};
use std::sync::Arc;

/// Operations in flight while a pool is made.
const DEPTH: usize = 16;

/// What a new pool is called and how it is laid out.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// At most 255 bytes.
    pub name: String,
    /// Random; what every structure of the pool carries.
    pub pool_id: PoolId,
    /// Seconds since 1970.
    pub created_unix: u64,
    pub geometry: GeometryOptions,
    /// Make a pool although the device holds something else. Never over another pool.
    pub overwrite: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            name: "pool".to_owned(),
            pool_id: PoolId([0; 16]),
            created_unix: 0,
            geometry: GeometryOptions::default(),
            overwrite: false,
        }
    }
}

/// Makes a pool on an empty device.
///
/// # Errors
/// When the device is too small, holds something already, or fails. Then it holds no pool of ours.
pub fn create(device: Arc<dyn Device>, options: &CreateOptions) -> Result<(), Error> {
    create_all(device, &[], options)
}

/// Makes a pool on several empty devices. The first one decides: it holds journal and superblock.
///
/// # Errors
/// When a device is too small, holds something already, or fails. Then none holds a pool of ours.
pub fn create_all(
    first: Arc<dyn Device>,
    further: &[NewDevice],
    options: &CreateOptions,
) -> Result<(), Error> {
    if options.name.is_empty() || options.name.len() > POOL_NAME_BYTES_MAX {
        return Err(Error::Invalid(format!("a pool's name has 1 to {POOL_NAME_BYTES_MAX} bytes")));
    }
    let lengths: Vec<u64> = further.iter().map(|new| new.device.size()).collect();
    let geometry = Geometry::plan_all(first.size(), &lengths, options.geometry)
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let device = together(first.clone(), further.iter().map(|new| new.device.clone()));
    let io = KeeperIo::new(device.open_channel(DEPTH)?)?;
    block_on(&io, write(&io, &first, further, options, &geometry))
}

/// The device that I/O of the pool goes to: a single one is taken as it is.
pub(crate) fn together(
    first: Arc<dyn Device>,
    further: impl IntoIterator<Item = Arc<dyn Device>>,
) -> Arc<dyn Device> {
    let mut further = further.into_iter().peekable();
    if further.peek().is_none() {
        return first;
    }
    Arc::new(Span::new(std::iter::once(first).chain(further).collect()))
}

async fn write(
    io: &KeeperIo,
    first: &Arc<dyn Device>,
    further: &[NewDevice],
    options: &CreateOptions,
    geometry: &Geometry,
) -> Result<(), Error> {
    let label_at = BlockAddress(LABEL_BLOCK);
    refuse_what_is_there(&io.read(label_at, 1, "reading the first block").await?, options.overwrite)?;
    let label = Label {
        pool: options.pool_id,
        device_index: 0,
        device_count: u8::try_from(further.len() + 1).expect("a geometry bounds the devices"),
        device_bytes: first.size(),
        created_unix: options.created_unix,
        name: options.name.clone(),
        device_id: DeviceId::default(),
    };
    prepare_further(io, further, &label, options.overwrite).await?;
    let reserved = (geometry.journal_start() + geometry.journal_blocks()) * BLOCK_BYTES_U64;
    match io.run(Operation::Allocate { offset: 0, length: reserved }).await {
        Ok(_) | Err(IoError::Unsupported) => {}
        Err(error) => return Err(Error::io("making room for the journal")(error)),
    }
    // Nothing that looks like a superblock or a batch of this pool may be there: the id is new, so nothing does. But
    // on a device that was used before, old blocks are wiped all the same, so that nobody is misled by them.
    let zero = |address| (address, Buffer::zeroed(BLOCK_BYTES));
    io.write_all(superblock_places().into_iter().map(zero).collect(), "wiping the superblocks").await?;
    let mut superblock = Superblock::of_new_pool(options.pool_id, geometry);
    further.iter().for_each(|new| superblock.join(new.entry()));
    let copies = superblock.copies().into_iter().map(|(home, page)| (home, Buffer::from_slice(&page)));
    io.write_all(copies.collect(), "writing the superblock").await?;
    io.flush("flushing the superblock").await?;
    io.write_all(vec![(label_at, Buffer::from_slice(&label.encode()))], "writing the label").await?;
    io.flush("flushing the label").await
}

/// All are looked at before one is written.
async fn prepare_further(
    io: &KeeperIo,
    further: &[NewDevice],
    label: &Label,
    overwrite: bool,
) -> Result<(), Error> {
    let joined = |index| Joined {
        label,
        index,
        count: further.len() + 1,
        created_unix: label.created_unix,
        incarnation: [0; 16],
        generation: FIRST_GENERATION,
        overwrite,
    };
    for index in 1..=further.len() {
        join::refuse_others(io, &joined(index)).await?;
    }
    for (index, new) in (1..).zip(further) {
        join::prepare(io, new, &joined(index)).await?;
    }
    Ok(())
}

pub(crate) fn refuse_what_is_there(block: &[u8], overwrite: bool) -> Result<(), Error> {
    match Label::parse(block) {
        Ok(label) => Err(Error::NotEmpty(format!("it holds the pool {}", label.name))),
        Err(LabelError::NotAPool(Foreign::Empty)) => Ok(()),
        Err(LabelError::NotAPool(_)) if overwrite => Ok(()),
        Err(LabelError::NotAPool(what)) => Err(Error::NotEmpty(what.to_string())),
        Err(error) => Err(Error::NotEmpty(error.to_string())),
    }
}
