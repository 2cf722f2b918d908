//! What was asked for every sector and what was promised for it; what may therefore be there after a kill.
//!
//! A sector has one writer, and one request at most in flight. Its values are kept in the order they were asked for: what
//! was acknowledged must be there, the one behind it may. A snapshot shows, for each sector, a value between the one
//! acknowledged when it was asked for and the newest asked for when it was acknowledged.

use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) const SECTOR_BYTES: usize = 512;
/// Of every volume.
pub(crate) const SECTORS: usize = 4096;
pub(crate) const VOLUME_BYTES: usize = SECTORS * SECTOR_BYTES;

/// What a sector holds: 0 is zeros; anything else names its write, its volume and its place, so that a foreign value is
/// recognised.
type Stamp = u64;

#[derive(Debug, Clone)]
struct Line {
    asked: Vec<Stamp>,
    /// Index of the newest one that was acknowledged.
    acknowledged: usize,
}

#[derive(Debug)]
struct Frozen {
    /// Index of the oldest value it may show, and of the newest once it was acknowledged.
    oldest: Vec<usize>,
    newest: Option<Vec<usize>>,
}

/// Whether a name must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existence {
    There,
    /// Asked for, or its removal was asked for, and no answer came.
    Maybe,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    volumes: BTreeMap<String, Vec<Line>>,
    frozen: BTreeMap<String, Frozen>,
    /// Bytes of what never changes any more, once they were seen and found right.
    sealed: BTreeMap<String, Vec<u8>>,
    pub(crate) names: BTreeMap<String, Existence>,
    /// Clones and the snapshots they were made from.
    pub(crate) clones: BTreeMap<String, String>,
    counter: u64,
    pub(crate) acknowledgements: u64,
}

impl Ledger {
    pub(crate) fn add_volume(&mut self, name: &str) {
        self.volumes.insert(name.to_owned(), vec![Line { asked: vec![0], acknowledged: 0 }; SECTORS]);
        self.names.insert(name.to_owned(), Existence::There);
    }

    /// A write of fresh bytes is about to be sent; gives them back.
    pub(crate) fn write(&mut self, volume: &str, sectors: Range<usize>) -> Vec<u8> {
        self.counter += 1;
        let number = self.volumes.keys().position(|name| name == volume).expect("a volume of this test");
        let writer = (self.counter << 8) | u64::try_from(number).expect("small");
        let mut data = Vec::with_capacity(sectors.len() * SECTOR_BYTES);
        for sector in sectors {
            let place = u64::try_from(sector).expect("small");
            let stamp = (writer << 16) | place;
            self.line(volume, sector).asked.push(stamp);
            data.extend(stamp.to_le_bytes().repeat(SECTOR_BYTES / 8));
        }
        data
    }

    /// A trim or a write of zeros is about to be sent.
    pub(crate) fn zero(&mut self, volume: &str, sectors: Range<usize>) {
        for sector in sectors {
            self.line(volume, sector).asked.push(0);
        }
    }

    pub(crate) fn acknowledge(&mut self, volume: &str, sectors: Range<usize>) {
        self.acknowledgements += 1;
        for sector in sectors {
            let line = self.line(volume, sector);
            line.acknowledged = line.asked.len() - 1;
        }
    }

    fn line(&mut self, volume: &str, sector: usize) -> &mut Line {
        &mut self.volumes.get_mut(volume).expect("a volume of this test")[sector]
    }

    /// A snapshot is about to be asked for.
    pub(crate) fn freeze(&mut self, snapshot: &str) {
        let lines = &self.volumes[volume_of(snapshot)];
        let oldest = lines.iter().map(|line| line.acknowledged).collect();
        self.frozen.insert(snapshot.to_owned(), Frozen { oldest, newest: None });
        self.names.insert(snapshot.to_owned(), Existence::Maybe);
    }

    pub(crate) fn frozen(&mut self, snapshot: &str) {
        let lines = &self.volumes[volume_of(snapshot)];
        let newest = lines.iter().map(|line| line.asked.len() - 1).collect();
        self.frozen.get_mut(snapshot).expect("it was asked for").newest = Some(newest);
        self.names.insert(snapshot.to_owned(), Existence::There);
    }

    pub(crate) fn forget(&mut self, name: &str) {
        self.names.remove(name);
        self.frozen.remove(name);
        self.sealed.remove(name);
        self.clones.remove(name);
    }

    /// Holds a snapshot's bytes against what it may show, or against what it showed before.
    pub(crate) fn verify_snapshot(&mut self, snapshot: &str, bytes: &[u8]) {
        if let Some(frozen) = self.frozen.remove(snapshot) {
            let lines = &self.volumes[volume_of(snapshot)];
            for (sector, line) in lines.iter().enumerate() {
                let newest = frozen.newest.as_ref().map_or(line.asked.len() - 1, |newest| newest[sector]);
                expect(snapshot, sector, bytes, &line.asked[frozen.oldest[sector]..=newest]);
            }
            self.sealed.insert(snapshot.to_owned(), bytes.to_vec());
        }
        assert!(self.sealed[snapshot] == bytes, "{snapshot} has changed");
    }

    /// A clone nobody has written shows what its snapshot shows.
    pub(crate) fn verify_clone(&self, clone: &str, bytes: &[u8]) {
        let origin = &self.clones[clone];
        assert!(self.sealed[origin] == bytes, "{clone} does not show {origin}");
    }

    /// Holds a volume's bytes against what was promised; from here on they are what is there. Its snapshots come first.
    pub(crate) fn verify_volume(&mut self, volume: &str, bytes: &[u8]) {
        let lines = self.volumes.get_mut(volume).expect("a volume of this test");
        for (sector, line) in lines.iter_mut().enumerate() {
            let stamp = expect(volume, sector, bytes, &line.asked[line.acknowledged..]);
            *line = Line { asked: vec![stamp], acknowledged: 0 };
        }
    }
}

fn volume_of(snapshot: &str) -> &str {
    snapshot.split('@').next().expect("a split has a first part")
}

fn expect(name: &str, sector: usize, bytes: &[u8], allowed: &[Stamp]) -> Stamp {
    let found = &bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES];
    let stamp = u64::from_le_bytes(found[..8].try_into().expect("eight bytes"));
    let whole = found.chunks_exact(8).all(|chunk| chunk == stamp.to_le_bytes());
    assert!(
        whole && allowed.contains(&stamp),
        "{name}, sector {sector}: {stamp:#x} (whole: {whole}) is none of {allowed:x?}"
    );
    stamp
}
