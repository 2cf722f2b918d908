//! Superblocks to pages and back. Bytes are parsed once, here.

use super::features::Bits;
use super::fields::{Field, Row, fills, text_field};
use super::further::{self, Further, TABLE_BYTES};
use super::{Features, HOST_BYTES_MAX, Opener, State, Superblock};
use crate::geometry::{GeometryError, superblock_homes};
use crate::ids::{COUNT_END, ID_END};
use crate::journal::{BatchNumber, Position};
use crate::label::FORMAT_VERSION;
use cow_tree::units::{BLOCK_BYTES, BlockAddress, Generation, PoolId, Tag, index_of};
use cow_tree::{LEVEL_MAX, Pointer};
use thiserror::Error;

type Page = [u8; BLOCK_BYTES];

const MAGIC: [u8; 8] = *b"OFSTSUPR";
const STATE_CLEAN: u32 = 1;
const STATE_SERVING: u32 = 2;

const MAGIC_AT: Field<8> = Field::at(0);
pub(super) const VERSION: Field<4> = Field::at(8);
pub(super) const CHECKSUM: Field<4> = Field::at(12);
const POOL: Field<16> = Field::at(16);
const ADDRESS: Field<8> = Field::at(32);
const GENERATION: Field<8> = Field::at(40);
const COMPATIBLE: Field<8> = Field::at(48);
const READ_ONLY_COMPATIBLE: Field<8> = Field::at(56);
const INCOMPATIBLE: Field<8> = Field::at(64);
const DEVICE_INDEX: Field<4> = Field::at(72);
const STATE: Field<4> = Field::at(76);
const INCARNATION: Field<16> = Field::at(80);
const BOOT: Field<16> = Field::at(96);
const PROCESS: Field<4> = Field::at(112);
const HOST_LENGTH: Field<4> = Field::at(116);
const HOST: Field<HOST_BYTES_MAX> = Field::at(120);
const JOURNAL_NUMBER: Field<8> = Field::at(184);
const JOURNAL_BLOCK: Field<4> = Field::at(192);
const NEXT_LINE: Field<4> = Field::at(196);
const LAST_SEQUENCE: Field<8> = Field::at(200);
const NEXT_LAYER: Field<8> = Field::at(208);
const CATALOG: Field<ROOT_BYTES> = Field::at(216);
const GROUP_TABLE: Field<ROOT_BYTES> = Field::at(248);
const CHECKSUMS: Field<ROOT_BYTES> = Field::at(280);
const DEVICE_BLOCKS: Field<8> = Field::at(312);
const JOURNAL_START: Field<8> = Field::at(320);
const JOURNAL_BLOCKS: Field<8> = Field::at(328);
const GROUP_BLOCKS: Field<4> = Field::at(336);
const FURTHER_COUNT: Field<4> = Field::at(340);
const FURTHER: Field<TABLE_BYTES> = Field::at(344);
const REST: Field<3392> = Field::at(704);

pub(crate) const LAYOUT: &[Row] = &[
    MAGIC_AT.row("magic"),
    VERSION.row("format version"),
    CHECKSUM.row("checksum"),
    POOL.row("pool id"),
    ADDRESS.row("own address"),
    GENERATION.row("generation"),
    COMPATIBLE.row("compatible features"),
    READ_ONLY_COMPATIBLE.row("read-only-compatible features"),
    INCOMPATIBLE.row("incompatible features"),
    DEVICE_INDEX.row("device index"),
    STATE.row("state"),
    INCARNATION.row("incarnation"),
    BOOT.row("boot id"),
    PROCESS.row("opener's process id"),
    HOST_LENGTH.row("opener's host name length"),
    HOST.row("opener's host name"),
    JOURNAL_NUMBER.row("journal position: batch number"),
    JOURNAL_BLOCK.row("journal position: ring block"),
    NEXT_LINE.row("next line"),
    LAST_SEQUENCE.row("last sequence"),
    NEXT_LAYER.row("next layer"),
    CATALOG.row("catalog root"),
    GROUP_TABLE.row("group table root"),
    CHECKSUMS.row("checksum tree root"),
    DEVICE_BLOCKS.row("device blocks"),
    JOURNAL_START.row("journal start"),
    JOURNAL_BLOCKS.row("journal blocks"),
    GROUP_BLOCKS.row("group blocks"),
    FURTHER_COUNT.row("number of further devices"),
    FURTHER.row("further devices"),
    REST.row("zero"),
];
const _: () = assert!(fills(LAYOUT, BLOCK_BYTES));

const ROOT_BYTES: usize = 32;
const ROOT_ADDRESS: Field<8> = Field::at(0);
const ROOT_LINE: Field<4> = Field::at(8);
const ROOT_SEQUENCE: Field<4> = Field::at(12);
const ROOT_LOW: Field<8> = Field::at(16);
const ROOT_CHECKSUM: Field<4> = Field::at(24);
const ROOT_LEVEL: Field<4> = Field::at(28);

/// A root, as a superblock holds it.
pub(crate) const ROOT_LAYOUT: &[Row] = &[
    ROOT_ADDRESS.row("address"),
    ROOT_LINE.row("line"),
    ROOT_SEQUENCE.row("sequence"),
    ROOT_LOW.row("low key"),
    ROOT_CHECKSUM.row("checksum"),
    ROOT_LEVEL.row("level"),
];
const _: () = assert!(fills(ROOT_LAYOUT, ROOT_BYTES));

/// What is wrong with one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CopyDamage {
    #[error("it is not one block long")]
    Length,
    #[error("it holds only zeros")]
    Empty,
    #[error("it is not a superblock")]
    Magic,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it belongs to pool {0}")]
    Pool(PoolId),
    #[error("it was written for block {0}")]
    Address(BlockAddress),
    #[error("generation {0} does not belong here")]
    Slot(Generation),
    #[error("its {0} cannot be")]
    Field(&'static str),
    #[error("its layout cannot be: {0}")]
    Geometry(GeometryError),
    #[error("it is not the copy of the newest superblock that belongs here")]
    Behind,
}

/// Why a copy is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    Damaged(CopyDamage),
    Newer(u32),
    Incompatible(Bits),
}

impl From<CopyDamage> for Rejected {
    fn from(damage: CopyDamage) -> Self {
        Rejected::Damaged(damage)
    }
}

impl Superblock {
    pub(super) fn encode(&self, home: BlockAddress) -> Page {
        let mut page = [0; BLOCK_BYTES];
        MAGIC_AT.put(&mut page, MAGIC);
        VERSION.put_u32(&mut page, FORMAT_VERSION);
        ADDRESS.put_u64(&mut page, home.0);
        self.encode_identity(&mut page);
        self.encode_opening(&mut page);
        self.encode_contents(&mut page);
        let checksum = CHECKSUM.checksum(&page);
        CHECKSUM.put_u32(&mut page, checksum);
        page
    }

    fn encode_identity(&self, page: &mut Page) {
        POOL.put(page, self.pool.0);
        DEVICE_INDEX.put_u32(page, self.device_index);
        GENERATION.put_u64(page, self.generation.0);
        COMPATIBLE.put_u64(page, self.features.compatible);
        READ_ONLY_COMPATIBLE.put_u64(page, self.features.read_only_compatible);
        INCOMPATIBLE.put_u64(page, self.features.incompatible);
        DEVICE_BLOCKS.put_u64(page, self.device_blocks);
        JOURNAL_START.put_u64(page, self.journal_start);
        JOURNAL_BLOCKS.put_u64(page, self.journal_blocks);
        GROUP_BLOCKS.put_u32(page, self.group_blocks);
        FURTHER_COUNT.put_u32(page, u32::try_from(self.further.len()).expect("a pool has few devices"));
        FURTHER.put(page, further::encode(&self.further));
    }

    fn encode_opening(&self, page: &mut Page) {
        let state = match self.state {
            State::Clean => STATE_CLEAN,
            State::Serving => STATE_SERVING,
        };
        STATE.put_u32(page, state);
        INCARNATION.put(page, self.incarnation);
        BOOT.put(page, self.boot_id);
        PROCESS.put_u32(page, self.opener.process_id());
        let host = self.opener.host();
        HOST_LENGTH.put_u32(page, u32::try_from(host.len()).expect("an opener keeps host names short"));
        HOST.put(page, text_field(host));
    }

    fn encode_contents(&self, page: &mut Page) {
        JOURNAL_NUMBER.put_u64(page, self.journal.number.0);
        JOURNAL_BLOCK.put_u32(page, self.journal.block);
        LAST_SEQUENCE.put_u64(page, self.last_sequence);
        NEXT_LAYER.put_u64(page, self.next_layer);
        NEXT_LINE.put_u32(page, self.next_line);
        CATALOG.put(page, encode_root(self.catalog_root));
        GROUP_TABLE.put(page, encode_root(self.group_table_root));
        CHECKSUMS.put(page, encode_root(self.checksum_root));
    }

    /// Reads the copy at `home`.
    pub(super) fn parse(bytes: &[u8], home: BlockAddress, pool: PoolId) -> Result<Self, Rejected> {
        let page: &Page = bytes.try_into().map_err(|_| CopyDamage::Length)?;
        check_envelope(page)?;
        check_identity(page, home, pool)?;
        let superblock = Self {
            pool,
            device_index: DEVICE_INDEX.u32(page),
            generation: Generation(GENERATION.u64(page)),
            features: parse_features(page),
            state: parse_state(page)?,
            incarnation: INCARNATION.get(page),
            boot_id: BOOT.get(page),
            opener: parse_opener(page)?,
            journal: Position {
                number: BatchNumber(JOURNAL_NUMBER.u64(page)),
                block: JOURNAL_BLOCK.u32(page),
            },
            last_sequence: LAST_SEQUENCE.u64(page),
            next_layer: NEXT_LAYER.u64(page),
            next_line: NEXT_LINE.u32(page),
            catalog_root: parse_root(CATALOG.get(page), "catalog root")?,
            group_table_root: parse_root(GROUP_TABLE.get(page), "group table root")?,
            checksum_root: parse_root(CHECKSUMS.get(page), "checksum tree root")?,
            device_blocks: DEVICE_BLOCKS.u64(page),
            journal_start: JOURNAL_START.u64(page),
            journal_blocks: JOURNAL_BLOCKS.u64(page),
            group_blocks: GROUP_BLOCKS.u32(page),
            further: parse_further(page)?,
        };
        superblock.check_counters()?;
        let geometry = superblock.geometry().map_err(CopyDamage::Geometry)?;
        if u64::from(superblock.journal.block) >= geometry.journal_blocks() {
            return Err(CopyDamage::Field("journal position").into());
        }
        Ok(superblock)
    }
}

impl Superblock {
    fn check_counters(&self) -> Result<(), CopyDamage> {
        let counters = [
            ("generation", self.generation.0, COUNT_END),
            ("journal position", self.journal.number.0, COUNT_END),
            ("last sequence", self.last_sequence, COUNT_END),
            ("next layer", self.next_layer, ID_END),
        ];
        match counters.into_iter().find(|(_, value, end)| value >= end) {
            Some((name, ..)) => Err(CopyDamage::Field(name)),
            None => Ok(()),
        }
    }
}

/// S3, then S4: before these agree, no other byte has a meaning.
fn check_envelope(page: &Page) -> Result<(), Rejected> {
    if MAGIC_AT.get(page) != MAGIC {
        let is_empty = page.iter().all(|byte| *byte == 0);
        return Err(if is_empty { CopyDamage::Empty } else { CopyDamage::Magic }.into());
    }
    if CHECKSUM.u32(page) != CHECKSUM.checksum(page) {
        return Err(CopyDamage::Checksum.into());
    }
    match VERSION.u32(page) {
        FORMAT_VERSION => {}
        0 => return Err(CopyDamage::Field("format version").into()),
        newer => return Err(Rejected::Newer(newer)),
    }
    match parse_features(page).unknown_incompatible() {
        0 => Ok(()),
        bits => Err(Rejected::Incompatible(Bits(bits))),
    }
}

fn check_identity(page: &Page, home: BlockAddress, pool: PoolId) -> Result<(), CopyDamage> {
    if POOL.get(page) != pool.0 {
        return Err(CopyDamage::Pool(PoolId(POOL.get(page))));
    }
    if ADDRESS.u64(page) != home.0 {
        return Err(CopyDamage::Address(BlockAddress(ADDRESS.u64(page))));
    }
    let generation = Generation(GENERATION.u64(page));
    if !superblock_homes(generation).contains(&home) {
        return Err(CopyDamage::Slot(generation));
    }
    Ok(())
}

fn parse_features(page: &Page) -> Features {
    Features {
        compatible: COMPATIBLE.u64(page),
        read_only_compatible: READ_ONLY_COMPATIBLE.u64(page),
        incompatible: INCOMPATIBLE.u64(page),
    }
}

/// Whoever does not know of further devices must not open the pool, so the flag is there exactly when they are.
fn parse_further(page: &Page) -> Result<Vec<Further>, CopyDamage> {
    let further = further::parse(FURTHER_COUNT.u32(page), &FURTHER.get(page))?;
    if further.is_empty() == parse_features(page).has_several_devices() {
        return Err(CopyDamage::Field("number of further devices"));
    }
    Ok(further)
}

fn parse_state(page: &Page) -> Result<State, CopyDamage> {
    match STATE.u32(page) {
        STATE_CLEAN => Ok(State::Clean),
        STATE_SERVING => Ok(State::Serving),
        _ => Err(CopyDamage::Field("state")),
    }
}

fn parse_opener(page: &Page) -> Result<Opener, CopyDamage> {
    let field = HOST.get(page);
    let host = field.get(..index_of(HOST_LENGTH.u32(page))).and_then(|bytes| str::from_utf8(bytes).ok());
    let host = host.ok_or(CopyDamage::Field("opener's host name"))?;
    Ok(Opener::new(PROCESS.u32(page), host))
}

fn encode_root(root: Option<Pointer>) -> [u8; ROOT_BYTES] {
    let mut bytes = [0; ROOT_BYTES];
    if let Some(pointer) = root {
        ROOT_ADDRESS.put_u64(&mut bytes, pointer.address.0);
        ROOT_LINE.put_u32(&mut bytes, pointer.tag.line);
        ROOT_SEQUENCE.put_u32(&mut bytes, pointer.tag.sequence);
        ROOT_LOW.put_u64(&mut bytes, pointer.low);
        ROOT_CHECKSUM.put_u32(&mut bytes, pointer.checksum);
        ROOT_LEVEL.put_u32(&mut bytes, pointer.level.into());
    }
    bytes
}

fn parse_root(bytes: [u8; ROOT_BYTES], name: &'static str) -> Result<Option<Pointer>, CopyDamage> {
    let address = BlockAddress(ROOT_ADDRESS.u64(&bytes));
    if address.0 == 0 {
        return if bytes == [0; ROOT_BYTES] { Ok(None) } else { Err(CopyDamage::Field(name)) };
    }
    let level = u8::try_from(ROOT_LEVEL.u32(&bytes)).ok().filter(|level| *level <= LEVEL_MAX);
    let (Some(level), true) = (level, address.can_hold(1)) else { return Err(CopyDamage::Field(name)) };
    let tag = Tag { line: ROOT_LINE.u32(&bytes), sequence: ROOT_SEQUENCE.u32(&bytes) };
    let (low, checksum) = (ROOT_LOW.u64(&bytes), ROOT_CHECKSUM.u32(&bytes));
    Ok(Some(Pointer { address, tag, checksum, low, level }))
}
