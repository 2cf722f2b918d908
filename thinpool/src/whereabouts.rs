//! Where the further devices of a pool were when they were last found: paths, on the first device. A hint and no more: a
//! device is known by its label, and when the hint is gone somebody has to say where the devices are.

use crate::error::Error;
use crate::geometry::at;
use crate::keeper::io::{KeeperIo, block_on};
use crate::superblock::fields::{Field, Row, fills};
use blockstore::{Buffer, Device};
use cow_tree::units::{BLOCK_BYTES, BlockAddress, PoolId};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"OFSTPATH";
const FORMAT: u32 = 1;
/// The two slots, blocks of the first device, written alternately.
const SLOTS: [u64; 2] = [5, 6];
const PATHS_BYTES: usize = 4048;

const MAGIC_AT: Field<8> = Field::at(0);
const FORMAT_AT: Field<4> = Field::at(8);
const CHECKSUM: Field<4> = Field::at(12);
const POOL: Field<16> = Field::at(16);
const TURN: Field<8> = Field::at(32);
const COUNT: Field<4> = Field::at(40);
const ZERO: Field<4> = Field::at(44);
const PATHS: Field<PATHS_BYTES> = Field::at(48);

pub(crate) const LAYOUT: &[Row] = &[
    MAGIC_AT.row("magic"),
    FORMAT_AT.row("format"),
    CHECKSUM.row("checksum"),
    POOL.row("pool id"),
    TURN.row("turn"),
    COUNT.row("paths"),
    ZERO.row("zero"),
    PATHS.row("the paths"),
];
const _: () = assert!(fills(LAYOUT, BLOCK_BYTES));

/// Paths by device, from device 1 on; `None` where it is not known.
pub(crate) type Paths = Vec<Option<PathBuf>>;

#[derive(Debug, PartialEq, Eq)]
struct Slot {
    turn: u64,
    paths: Paths,
}

impl Slot {
    fn encode(&self, pool: PoolId) -> [u8; BLOCK_BYTES] {
        let mut page = [0; BLOCK_BYTES];
        MAGIC_AT.put(&mut page, MAGIC);
        FORMAT_AT.put_u32(&mut page, FORMAT);
        POOL.put(&mut page, pool.0);
        TURN.put_u64(&mut page, self.turn);
        COUNT.put_u32(&mut page, u32::try_from(self.paths.len()).expect("a pool has few devices"));
        let mut paths = [0; PATHS_BYTES];
        let mut next = 0;
        for path in &self.paths {
            let text = path.as_deref().map_or(&[][..], |path| path.as_os_str().as_bytes());
            let rest = PATHS_BYTES - next;
            // What does not fit is not remembered. Room for the lengths of all others is kept.
            let text = if text.len() + 2 * self.paths.len() <= rest { text } else { &[] };
            let length = u16::try_from(text.len()).expect("less than a block");
            paths[next..next + 2].copy_from_slice(&length.to_le_bytes());
            paths[next + 2..next + 2 + text.len()].copy_from_slice(text);
            next += 2 + text.len();
        }
        PATHS.put(&mut page, paths);
        let checksum = CHECKSUM.checksum(&page);
        CHECKSUM.put_u32(&mut page, checksum);
        page
    }

    fn parse(block: &[u8], pool: PoolId) -> Option<Self> {
        let page: &[u8; BLOCK_BYTES] = block.try_into().ok()?;
        let is_whole = MAGIC_AT.get(page) == MAGIC
            && CHECKSUM.u32(page) == CHECKSUM.checksum(page)
            && FORMAT_AT.u32(page) == FORMAT
            && POOL.get(page) == pool.0;
        if !is_whole {
            return None;
        }
        let bytes = PATHS.get(page);
        let mut rest = bytes.as_slice();
        let mut paths = Vec::new();
        for _ in 0..COUNT.u32(page) {
            let (length, behind) = rest.split_first_chunk::<2>()?;
            let (text, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            paths.push((!text.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(text))));
            rest = behind;
        }
        Some(Self { turn: TURN.u64(page), paths })
    }
}

fn homes() -> [BlockAddress; 2] {
    SLOTS.map(|block| at(0, block))
}

async fn slots(io: &KeeperIo, pool: PoolId) -> Result<[Option<Slot>; 2], Error> {
    let [first, second] = homes();
    let doing = "reading where the devices were";
    let first = io.read(first, 1, doing).await?;
    let second = io.read(second, 1, doing).await?;
    Ok([Slot::parse(&first, pool), Slot::parse(&second, pool)])
}

/// Nothing where nothing whole is written.
pub(crate) async fn read(io: &KeeperIo, pool: PoolId) -> Result<Paths, Error> {
    let newest = slots(io, pool).await?.into_iter().flatten().max_by_key(|slot| slot.turn);
    Ok(newest.map(|slot| slot.paths).unwrap_or_default())
}

/// Remembers on the first device of a pool where its further devices are: absolute paths, from device 1 on. Writes
/// nothing when that is known already. What does not fit a block is not remembered.
///
/// # Errors
/// When the device fails. Then it may be unknown where some of them are.
pub fn remember_paths(first: &dyn Device, pool: PoolId, paths: &[PathBuf]) -> Result<(), Error> {
    let io = KeeperIo::new(first.open_channel(2)?)?;
    block_on(&io, remember(&io, pool, paths))
}

async fn remember(io: &KeeperIo, pool: PoolId, paths: &[PathBuf]) -> Result<(), Error> {
    let [first, second] = slots(io, pool).await?;
    let turn = |slot: &Option<Slot>| slot.as_ref().map(|slot| slot.turn);
    let (newest, target) = if turn(&first) > turn(&second) { (first, 1) } else { (second, 0) };
    let paths = paths.iter().map(|path| Some(path.clone()).filter(|path| is_short(path))).collect();
    if newest.as_ref().is_some_and(|slot| slot.paths == paths) {
        return Ok(());
    }
    let turn = newest.map_or(0, |slot| slot.turn).wrapping_add(1);
    let page = Slot { turn, paths }.encode(pool);
    io.write_all(vec![(homes()[target], Buffer::from_slice(&page))], "writing where the devices are").await?;
    io.flush("flushing where the devices are").await
}

fn is_short(path: &Path) -> bool {
    path.as_os_str().len() < PATHS_BYTES / 2
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, Slot, read, remember_paths};
    use crate::keeper::io::{KeeperIo, block_on};
    use blockstore::{Device, RamDevice};
    use cow_tree::units::PoolId;
    use std::path::PathBuf;

    const POOL: PoolId = PoolId([8; 16]);

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_was_remembered_last_is_read_and_the_one_before_survives_a_torn_write() {
        let device = RamDevice::new(64 << 10);
        let io = KeeperIo::new(device.open_channel(2).expect("a channel")).expect("an io");
        let remembered = || block_on(&io, read(&io, POOL)).expect("readable");
        assert_eq!(remembered(), Vec::new());
        let (one, two) = (paths(&["/a/b", "/c"]), paths(&["/a/b", "/dev/d"]));
        for now in [&one, &two] {
            remember_paths(&device, POOL, now).expect("remembered");
            assert_eq!(remembered(), now.iter().cloned().map(Some).collect::<Vec<_>>());
        }
        let torn = blockstore::Buffer::zeroed(BLOCK_BYTES);
        block_on(&io, io.write_all(vec![(super::homes()[1], torn)], "tearing")).expect("written");
        assert_eq!(remembered(), one.into_iter().map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn a_path_that_does_not_fit_is_forgotten_and_the_others_are_not() {
        let long = "x".repeat(2000);
        let all = ["/short", &long, &long, &long, "/last"];
        let slot = Slot { turn: 1, paths: paths(&all).into_iter().map(Some).collect() };
        let read = Slot::parse(&slot.encode(POOL), POOL).expect("whole");
        assert_eq!(read.paths.len(), 5);
        assert_eq!(read.paths[0], Some(PathBuf::from("/short")));
        assert_eq!(read.paths[1], Some(PathBuf::from(&long)));
        assert_eq!((&read.paths[2].is_some(), &read.paths[3]), (&true, &None));
        assert_eq!(read.paths[4], Some(PathBuf::from("/last")));
    }

    #[test]
    fn any_lengths_are_read_without_panic() {
        let slot = Slot { turn: 1, paths: paths(&["/a"]).into_iter().map(Some).collect() };
        let mut page = slot.encode(POOL);
        page[40] = 200;
        page[48..52].fill(0xff);
        page[12..16].fill(0);
        let checksum = crc32c::crc32c(&page);
        page[12..16].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Slot::parse(&page, POOL), None);
    }
}
