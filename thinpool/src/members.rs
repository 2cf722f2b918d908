//! The devices of a pool: which there must be, and whether those that are given are these.
//!
//! The superblock on device 0 names all others by id and length. Each says in its label whose it is and in its marks which
//! opening had it last (M1). Nothing is read from a device as data before all of them have been admitted.

use crate::error::Error;
use crate::geometry::{LABEL_BLOCK, at};
use crate::ids::DeviceId;
use crate::keeper::io::{KeeperIo, block_on};
use crate::label::{Label, LabelError};
use crate::mark::{self, Mark};
use crate::root;
use crate::superblock::{Further, Superblock};
use crate::whereabouts;
use blockstore::{Buffer, Device};
use cow_tree::units::{BLOCK_BYTES_U64, Generation, PoolId};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A device of a pool after its first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its place in the pool, from 1 on.
    pub index: usize,
    pub id: DeviceId,
    /// Bytes of it that the pool uses.
    pub bytes: u64,
    /// Where it was when it was last found.
    pub path: Option<PathBuf>,
}

impl fmt::Display for Member {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "device {} of the pool (id {}, {} bytes)", self.index, self.id, self.bytes)
    }
}

/// What the first device of a pool says of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    pub pool: PoolId,
    /// In order, from device 1 on.
    pub further: Vec<Member>,
}

/// Why the devices given are not those of the pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    #[error("it is device {index} of the pool {name}, and a pool is opened by its device 0")]
    NotFirst { index: usize, name: String },
    #[error("{member} is missing{}", last_seen(.member))]
    Missing { member: Member },
    #[error("{given} is not {member}: {why}")]
    Other { given: String, member: Member, why: String },
    #[error("{given} is {member} with its end cut off: it has {has} bytes")]
    TooShort { given: String, member: Member, has: u64 },
    #[error(
        "{given} is an older copy of {member}: it was last opened with generation {mark}, the pool later with {pool}"
    )]
    Older { given: String, member: Member, mark: Generation, pool: Generation },
    #[error(
        "device 0 is an older copy: {member} was opened with generation {mark}, after device 0 with generation {pool}"
    )]
    FirstIsOlder { member: Member, mark: Generation, pool: Generation },
    #[error("{member}, {given}, has no whole mark: its first blocks are damaged")]
    Unmarked { given: String, member: Member },
    #[error("{given} belongs to nothing here: the pool has {count} devices")]
    TooMany { given: String, count: usize },
}

fn last_seen(member: &Member) -> String {
    member.path.as_ref().map(|path| format!("; it was last seen at {}", path.display())).unwrap_or_default()
}

fn member(index: usize, further: &Further, paths: &whereabouts::Paths) -> Member {
    let path = paths.get(index - 1).cloned().flatten();
    Member { index, id: further.id, bytes: further.blocks.saturating_mul(BLOCK_BYTES_U64), path }
}

fn members(superblock: &Superblock, paths: &whereabouts::Paths) -> Vec<Member> {
    (1..).zip(&superblock.further).map(|(index, further)| member(index, further, paths)).collect()
}

/// Reads which devices a pool has. Changes nothing.
///
/// # Errors
/// When the device is not the first of a pool this build knows.
pub fn roster(first: &Arc<dyn Device>) -> Result<Roster, Error> {
    let io = KeeperIo::new(first.open_channel(4)?)?;
    block_on(&io, async {
        let root = root::believe(&io, first.size()).await?;
        let paths = whereabouts::read(&io, root.label.pool).await?;
        Ok(Roster { pool: root.label.pool, further: members(&root.choice.superblock, &paths) })
    })
}

/// Whether the devices, of which the first is the one with the superblock, are those it names, in order.
pub(crate) async fn admit(
    io: &KeeperIo,
    devices: &[Arc<dyn Device>],
    pool: PoolId,
    superblock: &Superblock,
) -> Result<(), Error> {
    if let Some(extra) = devices.get(superblock.further.len() + 1) {
        let count = superblock.further.len() + 1;
        return Err(MemberError::TooMany { given: extra.description(), count }.into());
    }
    if superblock.further.is_empty() {
        return Ok(());
    }
    let paths = whereabouts::read(io, pool).await?;
    for member in members(superblock, &paths) {
        let Some(device) = devices.get(member.index) else {
            return Err(MemberError::Missing { member }.into());
        };
        let (given, has) = (device.description(), device.size());
        if has < member.bytes {
            return Err(MemberError::TooShort { given, member, has }.into());
        }
        let label = io.read(at(member.index, LABEL_BLOCK), 1, "reading the label").await?;
        recognise(&label, &given, &member, pool)?;
        let marks = marks(io, member.index, pool, member.id).await?;
        judge(&marks, &given, member, superblock)?;
    }
    Ok(())
}

fn recognise(block: &[u8], given: &str, member: &Member, pool: PoolId) -> Result<(), MemberError> {
    let other = |why: String| MemberError::Other { given: given.to_owned(), member: member.clone(), why };
    let label = Label::parse(block).map_err(|error: LabelError| other(error.to_string()))?;
    let index = usize::from(label.device_index);
    if label.pool != pool {
        return Err(other(format!("it is device {index} of another pool, {} ({})", label.name, label.pool)));
    }
    if index != member.index {
        return Err(other(format!("it is device {index} of it")));
    }
    if label.device_id != member.id {
        return Err(other(format!("its id is {}", label.device_id)));
    }
    Ok(())
}

/// What the two slots of a device say, if they are its.
pub(crate) async fn marks(
    io: &KeeperIo,
    index: usize,
    pool: PoolId,
    device: DeviceId,
) -> Result<[Option<Mark>; 2], Error> {
    let [first, second] = mark::homes(index);
    let first = io.read(first, 1, "reading a mark").await?;
    let second = io.read(second, 1, "reading a mark").await?;
    let is_its = |mark: &Mark| mark.pool == pool && mark.device == device;
    Ok([Mark::parse(&first).filter(is_its), Mark::parse(&second).filter(is_its)])
}

fn judge(
    marks: &[Option<Mark>; 2],
    given: &str,
    member: Member,
    superblock: &Superblock,
) -> Result<(), MemberError> {
    if marks.iter().flatten().any(|mark| mark.incarnation == superblock.incarnation) {
        return Ok(());
    }
    let (given, pool) = (given.to_owned(), superblock.generation);
    match marks.iter().flatten().map(|mark| mark.generation).max() {
        None => Err(MemberError::Unmarked { given, member }),
        Some(mark) if mark > pool => Err(MemberError::FirstIsOlder { member, mark, pool }),
        Some(mark) => Err(MemberError::Older { given, member, mark, pool }),
    }
}

/// Marks every further device for an opening, durably, in the slot that does not name the superblock's (M1). `generation`
/// is that of the superblock which names the opening.
pub(crate) async fn mark(
    io: &KeeperIo,
    superblock: &Superblock,
    incarnation: [u8; 16],
    generation: Generation,
) -> Result<(), Error> {
    let mut writes = Vec::new();
    for (index, further) in (1..).zip(&superblock.further) {
        let [first, _] = marks(io, index, superblock.pool, further.id).await?;
        let [home, other] = mark::homes(index);
        let is_taken = first.is_some_and(|mark| mark.incarnation == superblock.incarnation);
        let mark = Mark { pool: superblock.pool, device: further.id, incarnation, generation };
        writes.push((if is_taken { other } else { home }, Buffer::from_slice(&mark.encode())));
    }
    if writes.is_empty() {
        return Ok(());
    }
    io.write_all(writes, "marking the devices").await?;
    io.flush("flushing the marks of the devices").await
}
