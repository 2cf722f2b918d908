//! The first page of a tail: what it is, whose it is, whether it is void, and how far it is retired.
//!
//! Each of these has cache lines of its own. The watermark is kept twice and written alternately, so that a kill in the
//! middle leaves the one before: lower, hence harmless.

use super::region::Region;
use super::{Incarnation, Shape, TailError};
use crate::superblock::fields::{Field, Row, fills};
use cow_tree::units::length_of;
use std::sync::atomic::{Ordering, compiler_fence};

pub(super) const HEADER_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"OFSTTAIL";
const FORMAT: u32 = 1;
/// Bytes the static checksum covers.
const STATIC_BYTES: usize = 32;
const VOID: u8 = 1;

const MAGIC_AT: Field<8> = Field::at(0);
const FORMAT_AT: Field<4> = Field::at(8);
const CHECKSUM: Field<4> = Field::at(12);
const LANES: Field<4> = Field::at(16);
const STATIC_REST: Field<4> = Field::at(20);
const LANE_BYTES: Field<8> = Field::at(24);
const FIRST_REST: Field<32> = Field::at(32);
const INCARNATION: Field<16> = Field::at(64);
const INCARNATION_CHECKSUM: Field<4> = Field::at(80);
const SECOND_REST: Field<44> = Field::at(84);
const VOID_AT: Field<1> = Field::at(128);
const THIRD_REST: Field<63> = Field::at(129);
const RETIRED: [Field<8>; 2] = [Field::at(192), Field::at(256)];
const RETIRED_CHECKSUM: [Field<4>; 2] = [Field::at(200), Field::at(264)];
const FOURTH_REST: Field<52> = Field::at(204);
const LAST_REST: Field<3828> = Field::at(268);

pub(crate) const LAYOUT: &[Row] = &[
    MAGIC_AT.row("magic"),
    FORMAT_AT.row("format"),
    CHECKSUM.row("checksum of bytes 0 to 31"),
    LANES.row("lanes"),
    STATIC_REST.row("zero"),
    LANE_BYTES.row("bytes of a lane"),
    FIRST_REST.row("zero"),
    INCARNATION.row("incarnation"),
    INCARNATION_CHECKSUM.row("checksum of the incarnation"),
    SECOND_REST.row("zero"),
    VOID_AT.row("void"),
    THIRD_REST.row("zero"),
    RETIRED[0].row("first watermark"),
    RETIRED_CHECKSUM[0].row("checksum of the first watermark"),
    FOURTH_REST.row("zero"),
    RETIRED[1].row("second watermark"),
    RETIRED_CHECKSUM[1].row("checksum of the second watermark"),
    LAST_REST.row("zero"),
];
const _: () = assert!(fills(LAYOUT, HEADER_BYTES));

#[derive(Debug)]
pub(super) struct HeaderPage {
    region: Region,
    bound: Incarnation,
    retired: u64,
    /// Which watermark is written next.
    turn: usize,
}

impl HeaderPage {
    pub(super) fn new(region: Region) -> Self {
        assert!(region.len() == HEADER_BYTES, "a header is one page");
        Self { region, bound: [0; 16], retired: 0, turn: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.region
    }

    /// Makes the page of a tail that nobody has bound.
    pub(super) fn format(page: &mut [u8], shape: &Shape) {
        page.fill(0);
        MAGIC_AT.put(page, MAGIC);
        FORMAT_AT.put_u32(page, FORMAT);
        LANES.put_u32(page, shape.lanes());
        LANE_BYTES.put_u64(page, length_of(shape.lane_bytes()));
        let checksum = CHECKSUM.checksum(&page[..STATIC_BYTES]);
        CHECKSUM.put_u32(page, checksum);
    }

    pub(super) fn shape_of(page: &[u8]) -> Result<Shape, TailError> {
        let page: &[u8; HEADER_BYTES] =
            page.try_into().map_err(|_| TailError::Damaged("its header is not one page long"))?;
        if MAGIC_AT.get(page) != MAGIC {
            return Err(TailError::Damaged("it has no header"));
        }
        if CHECKSUM.u32(page) != CHECKSUM.checksum(&page[..STATIC_BYTES]) {
            return Err(TailError::Damaged("its header's checksum does not match"));
        }
        if FORMAT_AT.u32(page) != FORMAT {
            return Err(TailError::Damaged("it was made by a version this build does not know"));
        }
        Shape::new(LANES.u32(page), LANE_BYTES.u64(page))
    }

    pub(super) fn unbind(&mut self) {
        INCARNATION_CHECKSUM.put_u32(&mut self.region, 0);
        INCARNATION.put(&mut self.region, [0; 16]);
        compiler_fence(Ordering::SeqCst);
    }

    /// The lanes are empty: names the incarnation, whose records nothing in the tail is mistaken for.
    pub(super) fn bind(&mut self, incarnation: Incarnation) {
        VOID_AT.put(&mut self.region, [0]);
        for (value, checksum) in RETIRED.into_iter().zip(RETIRED_CHECKSUM) {
            value.put_u64(&mut self.region, 0);
            checksum.put_u32(&mut self.region, 0);
        }
        (self.bound, self.retired, self.turn) = (incarnation, 0, 0);
        compiler_fence(Ordering::SeqCst);
        INCARNATION.put(&mut self.region, incarnation);
        INCARNATION_CHECKSUM.put_u32(&mut self.region, naming(&incarnation));
    }

    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        let incarnation = INCARNATION.get(&self.region);
        (INCARNATION_CHECKSUM.u32(&self.region) == naming(&incarnation)).then_some(incarnation)
    }

    pub(super) fn void(&mut self) {
        VOID_AT.put(&mut self.region, [VOID]);
    }

    /// Anything but zero is void: not to be sure is to be void.
    pub(super) fn is_void(&self) -> bool {
        VOID_AT.get(&self.region) != [0]
    }

    pub(super) fn retire(&mut self, upto: u64) {
        if upto <= self.retired {
            return;
        }
        self.retired = upto;
        RETIRED[self.turn].put_u64(&mut self.region, upto);
        RETIRED_CHECKSUM[self.turn].put_u32(&mut self.region, watermark(&self.bound, upto));
        self.turn = 1 - self.turn;
    }

    pub(super) fn retired(&self, incarnation: &Incarnation) -> u64 {
        let whole = |(value, checksum): (Field<8>, Field<4>)| {
            let value = value.u64(&self.region);
            (checksum.u32(&self.region) == watermark(incarnation, value)).then_some(value)
        };
        RETIRED.into_iter().zip(RETIRED_CHECKSUM).filter_map(whole).max().unwrap_or(0)
    }
}

/// Never 0, so that an erased name is none.
fn naming(incarnation: &Incarnation) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&MAGIC), incarnation).max(1)
}

fn watermark(incarnation: &Incarnation, value: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(incarnation), &value.to_le_bytes())
}
