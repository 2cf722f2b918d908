//! Writes a qcow2 image of version 3, from its start to its end, without compression:
//! <https://github.com/qemu/qemu/blob/master/docs/interop/qcow2.rst>.
//!
//! ```text
//!   header | clusters of data, and behind those of each 512 MiB of disk their table | map of tables | counts | table of counts
//! ```
//! Every cluster is used once, so every count is 1. The header is written last: until then the file is no image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of a table: it is one cluster.
const TABLE_ENTRIES: u64 = CLUSTER / 8;
/// Counts of 16 bits in a cluster.
const COUNTS: u64 = CLUSTER / 2;
const COUNT_ORDER: u32 = 4;
const HEADER_BYTES: u32 = 104;
/// Of an entry: its cluster is used by nobody else.
const OWNED: u64 = 1 << 63;
/// QEMU opens maps of 32 MiB, which are enough for 2 PiB of disk.
pub(super) const SIZE_MAX: u64 = (32 << 20) / 8 * TABLE_ENTRIES * CLUSTER;

#[derive(Debug)]
pub(super) struct Qcow2 {
    file: File,
    size: u64,
    /// Bytes of the file that are taken.
    end: u64,
    /// Where the tables are; zero where there is none.
    map: Vec<u64>,
    /// The part of the disk that is being written, and its table.
    part: u64,
    table: Vec<u64>,
}

impl Qcow2 {
    /// For a disk of `size` bytes, at most [`SIZE_MAX`], into an empty file.
    pub(super) fn new(file: File, size: u64) -> Self {
        assert!(size <= SIZE_MAX, "the caller knows the largest size");
        let parts = size.div_ceil(TABLE_ENTRIES * CLUSTER);
        Self { file, size, end: CLUSTER, map: vec![0; index(parts)], part: 0, table: empty_table() }
    }

    /// Offsets ascend from call to call.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (place, length) = self.place(at, rest.len())?;
            let (now, later) = rest.split_at(length);
            self.file.write_all_at(now, place)?;
            at += count(length);
            rest = later;
        }
        Ok(())
    }

    /// Where in the file bytes of the disk go, and how many of `wanted` go there together.
    fn place(&mut self, at: u64, wanted: usize) -> io::Result<(u64, usize)> {
        let place = self.cluster(at / CLUSTER)? + at % CLUSTER;
        let mut length = CLUSTER - at % CLUSTER;
        while length < count(wanted) && self.cluster((at + length) / CLUSTER)? == place + length {
            length += CLUSTER;
        }
        Ok((place, index(length).min(wanted)))
    }

    /// The file's cluster for one of the disk.
    fn cluster(&mut self, number: u64) -> io::Result<u64> {
        let part = number / TABLE_ENTRIES;
        assert!(part >= self.part, "a disk is written from its start to its end");
        if part > self.part {
            self.store_table()?;
            self.part = part;
        }
        let entry = index(number % TABLE_ENTRIES);
        if self.table[entry] == 0 {
            self.table[entry] = self.take(1);
        }
        Ok(self.table[entry])
    }

    fn take(&mut self, clusters: u64) -> u64 {
        let start = self.end;
        self.end += clusters * CLUSTER;
        start
    }

    fn store_table(&mut self) -> io::Result<()> {
        let table = std::mem::replace(&mut self.table, empty_table());
        if table.iter().any(|entry| *entry != 0) {
            let start = self.take(1);
            self.map[index(self.part)] = start;
            self.store_entries(start, &table)?;
        }
        Ok(())
    }

    fn store_entries(&self, start: u64, entries: &[u64]) -> io::Result<()> {
        let owned = |entry: &u64| if *entry == 0 { 0 } else { entry | OWNED };
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| owned(entry).to_be_bytes()).collect();
        self.file.write_all_at(&bytes, start)
    }

    /// What makes an image of it.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.store_table()?;
        let map = std::mem::take(&mut self.map);
        let map_start = self.take(count(map.len() * 8).div_ceil(CLUSTER));
        self.store_entries(map_start, &map)?;
        let (blocks, table_clusters) = counting_clusters(self.end / CLUSTER);
        let counts_start = self.take(blocks);
        let table_start = self.take(table_clusters);
        let ones: Vec<u8> = (0..self.end / CLUSTER).flat_map(|_| 1_u16.to_be_bytes()).collect();
        self.file.write_all_at(&ones, counts_start)?;
        let table: Vec<u8> =
            (0..blocks).flat_map(|block| (counts_start + block * CLUSTER).to_be_bytes()).collect();
        self.file.write_all_at(&table, table_start)?;
        self.file.set_len(self.end)?;
        let table_clusters = u32::try_from(table_clusters).expect("2 PiB are counted by few");
        let map_entries = u32::try_from(map.len()).expect("a map of 32 MiB at most");
        self.file.write_all_at(&self.header(map_entries, map_start, table_start, table_clusters), 0)
    }

    fn header(&self, map_entries: u32, map_start: u64, counts: u64, counts_clusters: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(b"QFI\xfb");
        bytes.extend(3_u32.to_be_bytes());
        // No backing file.
        bytes.extend([0; 12]);
        bytes.extend(CLUSTER_BITS.to_be_bytes());
        bytes.extend(self.size.to_be_bytes());
        // No encryption.
        bytes.extend([0; 4]);
        bytes.extend(map_entries.to_be_bytes());
        bytes.extend(map_start.to_be_bytes());
        bytes.extend(counts.to_be_bytes());
        bytes.extend(counts_clusters.to_be_bytes());
        // No snapshots, no features.
        bytes.extend([0; 12 + 24]);
        bytes.extend(COUNT_ORDER.to_be_bytes());
        bytes.extend(HEADER_BYTES.to_be_bytes());
        bytes
    }
}

/// Clusters of counts, and of the table that leads to them, for so many other clusters; they count themselves, too.
fn counting_clusters(others: u64) -> (u64, u64) {
    let (mut blocks, mut table) = (0, 0);
    loop {
        let needed = (others + blocks + table).div_ceil(COUNTS);
        let needed_table = needed.div_ceil(TABLE_ENTRIES);
        if (needed, needed_table) == (blocks, table) {
            return (blocks, table);
        }
        (blocks, table) = (needed, needed_table);
    }
}

fn empty_table() -> Vec<u64> {
    vec![0; index(TABLE_ENTRIES)]
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("tables fit memory")
}

fn count(length: usize) -> u64 {
    u64::try_from(length).expect("a length")
}

#[cfg(test)]
mod tests {
    use super::{COUNTS, TABLE_ENTRIES, counting_clusters};

    #[test]
    fn counts_count_themselves_too() {
        assert_eq!(counting_clusters(3), (1, 1));
        assert_eq!(counting_clusters(COUNTS - 2), (1, 1));
        assert_eq!(counting_clusters(COUNTS - 1), (2, 1));
        for others in [1, COUNTS, 7 * COUNTS - 8, COUNTS * TABLE_ENTRIES - 5, COUNTS * TABLE_ENTRIES * 2] {
            let (blocks, table) = counting_clusters(others);
            assert!(blocks * COUNTS >= others + blocks + table, "{others}");
            assert!((blocks - 1) * COUNTS < others + blocks + table, "{others}");
            assert_eq!(table, blocks.div_ceil(TABLE_ENTRIES), "{others}");
        }
    }
}
