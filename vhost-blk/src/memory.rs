//! The memory a monitor shares with this process: regions of files, mapped, under the guest's and the monitor's addresses.

use crate::address_space::{AddressSpace, Share};
use crate::chain::Span;
use crate::limits::{MEMORY_BYTES_MAX, MEMORY_REGIONS_MAX};
use blockstore::{Buffer, Loan};
use std::fs::File;
use std::iter::FusedIterator;
use std::ptr::NonNull;
use std::sync::Arc;
use vhost::vhost_user::message::{VhostUserMemoryRegion, VhostUserSingleMemoryRegion};
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryError, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion, Permissions, VolatileSlice,
};

/// Regions in the order they came.
#[derive(Debug)]
pub(crate) struct Memory {
    space: AddressSpace,
    regions: Vec<Region>,
}

#[derive(Debug)]
struct Region {
    guest: u64,
    size: u64,
    /// Where the monitor has it; ring addresses are told in these.
    monitor: u64,
    mapping: Arc<GuestRegionMmap>,
    _share: Share,
}

/// A region that cannot be, or is not, shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadRegion;

/// A region as a message tells of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    guest: u64,
    size: u64,
    monitor: u64,
    file_offset: u64,
}

impl From<&VhostUserMemoryRegion> for Told {
    fn from(region: &VhostUserMemoryRegion) -> Self {
        Self {
            guest: region.guest_phys_addr,
            size: region.memory_size,
            monitor: region.user_addr,
            file_offset: region.mmap_offset,
        }
    }
}

impl From<&VhostUserSingleMemoryRegion> for Told {
    fn from(region: &VhostUserSingleMemoryRegion) -> Self {
        Self {
            guest: region.guest_phys_addr,
            size: region.memory_size,
            monitor: region.user_addr,
            file_offset: region.mmap_offset,
        }
    }
}

impl Memory {
    /// No regions yet.
    pub(crate) fn new(space: AddressSpace) -> Self {
        Self { space, regions: Vec::new() }
    }

    /// Maps one region more.
    pub(crate) fn add(&mut self, told: Told, file: File) -> Result<(), BadRegion> {
        if self.regions.len() >= MEMORY_REGIONS_MAX || told.monitor.checked_add(told.size).is_none() {
            return Err(BadRegion);
        }
        if self.bytes().checked_add(told.size).is_none_or(|sum| sum > MEMORY_BYTES_MAX) {
            return Err(BadRegion);
        }
        if !holds(&file, told.file_offset, told.size) {
            return Err(BadRegion);
        }
        let size = usize::try_from(told.size).map_err(|_| BadRegion)?;
        let share = self.space.take(told.size).ok_or(BadRegion)?;
        let mapped = MmapRegion::from_file(FileOffset::new(file, told.file_offset), size);
        let mapping = GuestRegionMmap::new(mapped.map_err(|_| BadRegion)?, GuestAddress(told.guest));
        let region = Region {
            guest: told.guest,
            size: told.size,
            monitor: told.monitor,
            mapping: Arc::new(mapping.ok_or(BadRegion)?),
            _share: share,
        };
        self.regions.push(region);
        // Regions that overlap make no table; the newcomer is refused.
        if self.table().is_none() {
            self.regions.pop();
            return Err(BadRegion);
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// Of all regions.
    fn bytes(&self) -> u64 {
        self.regions.iter().map(|region| region.size).sum()
    }

    pub(crate) fn remove(&mut self, told: Told) -> Result<(), BadRegion> {
        let same = |region: &Region| {
            (region.guest, region.size, region.monitor) == (told.guest, told.size, told.monitor)
        };
        let at = self.regions.iter().position(same).ok_or(BadRegion)?;
        self.regions.remove(at);
        Ok(())
    }

    /// All regions under the guest's addresses; none when there is no region, or two overlap.
    pub(crate) fn table(&self) -> Option<GuestMemory> {
        GuestMemory::new(self.regions.iter().map(|region| region.mapping.clone()).collect())
    }

    /// The guest's address of what is at the monitor's.
    pub(crate) fn translate(&self, monitor: u64) -> Option<GuestAddress> {
        self.regions.iter().find_map(|region| {
            let distance = monitor.checked_sub(region.monitor).filter(|distance| *distance < region.size)?;
            region.guest.checked_add(distance).map(GuestAddress)
        })
    }
}

/// Whether a file has all of a range. What is mapped behind the end of a file cannot be touched without a signal that
/// ends the process; a monitor that cuts its file afterwards ends this process all the same, unless the file is sealed.
pub(crate) fn holds(file: &File, offset: u64, bytes: u64) -> bool {
    let end = offset.checked_add(bytes);
    file.metadata().is_ok_and(|found| found.is_file() && end.is_some_and(|end| end <= found.len()))
}

/// The memory as the guest addresses it. Its bytes change at any time: they are copied or lent, never referred to. Each
/// ring has a table of its own, so that the loans of two workers are not counted on one cache line.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    /// In the order of their addresses. There may be hundreds.
    parts: Vec<Part>,
}

/// A region; every access looks for one, so where it lies is kept here and not only behind a pointer.
#[derive(Debug)]
struct Part {
    start: GuestAddress,
    length: usize,
    region: Arc<GuestRegionMmap>,
    /// Nothing where it cannot be lent.
    loan: Option<Loan>,
}

impl GuestMemory {
    pub(crate) fn new(mut regions: Vec<Arc<GuestRegionMmap>>) -> Option<Self> {
        regions.sort_by_key(|region| region.start_addr());
        // The library knows what makes a table.
        let _table = GuestMemoryMmap::from_arc_regions(regions.clone()).ok()?;
        let part = |region: Arc<GuestRegionMmap>| Part {
            start: region.start_addr(),
            length: region.size(),
            loan: lend(&region),
            region,
        };
        Some(Self { parts: regions.into_iter().map(part).collect() })
    }

    /// The guest's own memory, for the device to read and write where it is. Nothing when it is not in one region, or
    /// not aligned to so many bytes, or has to be fetched from elsewhere.
    pub(crate) fn lend(&self, span: Span, alignment: usize) -> Option<Buffer> {
        let length = usize::try_from(span.length).ok()?;
        let (part, offset) = self.locate(span.address)?;
        let address = part.region.as_ptr().addr().checked_add(offset)?;
        if !address.is_multiple_of(alignment) {
            return None;
        }
        part.loan.as_ref()?.buffer(offset, length)
    }

    /// Copies out of the guest; nothing when part of it is no memory.
    pub(crate) fn read(&self, address: GuestAddress, bytes: &mut [u8]) -> Option<()> {
        let mut at = 0;
        for piece in self.pieces(address, bytes.len()) {
            at += piece.ok()?.copy_to(&mut bytes[at..]);
        }
        Some(())
    }

    /// Copies into the guest; nothing when part of it is no memory.
    pub(crate) fn write(&self, address: GuestAddress, bytes: &[u8]) -> Option<()> {
        let mut at = 0;
        for piece in self.pieces(address, bytes.len()) {
            let piece = piece.ok()?;
            piece.copy_from(&bytes[at..]);
            at += piece.len();
        }
        Some(())
    }

    fn pieces(&self, address: GuestAddress, length: usize) -> Pieces<'_> {
        Pieces { memory: self, address, left: length }
    }

    /// The longest piece of one region that begins at `address`.
    fn piece(&self, address: GuestAddress, length: usize) -> Option<VolatileSlice<'_>> {
        let (part, offset) = self.locate(address)?;
        part.region.as_volatile_slice().ok()?.subslice(offset, length.min(part.length - offset)).ok()
    }

    /// The region an address is in, and where in it.
    fn locate(&self, address: GuestAddress) -> Option<(&Part, usize)> {
        let behind = self.parts.partition_point(|part| part.start <= address);
        let part = &self.parts[behind.checked_sub(1)?];
        let offset = usize::try_from(address.checked_offset_from(part.start)?).ok()?;
        (offset < part.length).then_some((part, offset))
    }
}

/// For the rings, which are the library's.
impl vm_memory::GuestMemory for GuestMemory {
    type PhysicalMemory = GuestMemoryMmap;
    type Bitmap = ();

    fn check_range(&self, address: GuestAddress, length: usize, _access: Permissions) -> bool {
        self.pieces(address, length).all(|piece| piece.is_ok())
    }

    fn get_slices<'a>(
        &'a self,
        address: GuestAddress,
        length: usize,
        _access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>, GuestMemoryError> {
        Ok(self.pieces(address, length))
    }
}

/// What is at a range of addresses, region by region; it ends with the first that is no memory.
struct Pieces<'a> {
    memory: &'a GuestMemory,
    address: GuestAddress,
    left: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<VolatileSlice<'a>, GuestMemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let Some(piece) = self.memory.piece(self.address, self.left) else {
            self.left = 0;
            return Some(Err(GuestMemoryError::InvalidGuestAddress(self.address)));
        };
        self.left -= piece.len();
        let length = u64::try_from(piece.len()).expect("it is mapped");
        self.address =
            self.address.checked_add(length).expect("a region ends before the last of all addresses");
        Some(Ok(piece))
    }
}

impl FusedIterator for Pieces<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ()> for Pieces<'a> {}

/// A touch of a page that a disk or another process has to bring may take for ever. A worker that copies it then holds up
/// its own rings; a device that does, under its locks, would hold up everybody.
#[expect(unsafe_code, reason = "whoever maps memory is the one to promise what lending it needs")]
fn lend(region: &Arc<GuestRegionMmap>) -> Option<Loan> {
    let file = region.file_offset().map(|offset| offset.file());
    if !file.is_none_or(|file| blockstore::is_in_memory(file).unwrap_or(false)) {
        return None;
    }
    let length = usize::try_from(region.len()).expect("it is mapped");
    let start = NonNull::new(region.as_ptr()).expect("it is mapped");
    // SAFETY: the region is mapped for reading and writing as long as it exists, and it is only ever accessed by
    // pointer, here and in the library.
    Some(unsafe { Loan::new(start, length, region.clone()) })
}

#[cfg(test)]
mod tests {
    use super::{GuestMemory, MEMORY_REGIONS_MAX};
    use crate::chain::Span;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::fs::File;
    use std::sync::Arc;
    use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap, MmapRegion};

    fn region(start: u64, bytes: usize) -> Arc<GuestRegionMmap> {
        Arc::new(GuestRegionMmap::from_range(GuestAddress(start), bytes, None).expect("memory"))
    }

    #[test]
    fn copies_cross_from_region_to_region_and_end_at_holes() {
        let regions = vec![region(0x3000, 0x1000), region(0x1000, 0x1000), region(0x2000, 0x1000)];
        let memory = GuestMemory::new(regions).expect("no overlap");
        memory.write(GuestAddress(0x1ffe), b"abcd").expect("inside");
        let mut bytes = [0; 4];
        memory.read(GuestAddress(0x1ffe), &mut bytes).expect("inside");
        assert_eq!(&bytes, b"abcd");
        for address in [0xfff, 0x0, 0x3ffd, 0x4000, u64::MAX, u64::MAX - 3] {
            assert_eq!(memory.read(GuestAddress(address), &mut bytes), None, "{address:#x}");
            assert_eq!(memory.write(GuestAddress(address), &bytes), None, "{address:#x}");
        }
    }

    #[test]
    fn memory_is_lent_where_it_is_whole_and_aligned() {
        let regions = vec![region(0x3000, 0x1000), region(0x1000, 0x1000), region(0x2000, 0x1000)];
        let memory = GuestMemory::new(regions).expect("no overlap");
        memory.write(GuestAddress(0x2200), b"from the guest").expect("inside");
        let lend = |address, length| memory.lend(Span { address: GuestAddress(address), length }, 512);
        let mut lent = lend(0x2200, 0x200).expect("one region, aligned");
        let mut bytes = [0; 14];
        lent.copy_to(0, &mut bytes);
        assert_eq!(&bytes, b"from the guest");
        lent.copy_from(0, b"from the device");
        let mut bytes = [0; 15];
        memory.read(GuestAddress(0x2200), &mut bytes).expect("inside");
        assert_eq!(&bytes, b"from the device");
        assert!(lend(0x2e00, 0x200).is_some(), "up to the end");
        assert!(lend(0x2e00, 0x400).is_none(), "two regions");
        assert!(lend(0x2201, 0x200).is_none(), "not aligned");
        for nowhere in [0, 0xe00, 0x4000, 0xffff_ffff_ffff_fe00] {
            assert!(lend(nowhere, 0x200).is_none(), "{nowhere:#x}");
        }
    }

    #[test]
    fn an_address_is_found_among_as_many_regions_as_there_may_be() {
        let count = u64::try_from(MEMORY_REGIONS_MAX).expect("small");
        // Each second page is no memory.
        let start = |number: u64| 0x1000 + number * 0x2000;
        let regions = (0..count).rev().map(|number| region(start(number), 0x1000)).collect();
        let memory = GuestMemory::new(regions).expect("no overlap");
        for number in 0..count {
            let first = start(number);
            memory.write(GuestAddress(first), &number.to_le_bytes()).expect("the first bytes");
            memory.write(GuestAddress(first + 0xff8), &number.to_le_bytes()).expect("the last bytes");
            assert_eq!(memory.write(GuestAddress(first - 8), &[0; 8]), None);
            assert_eq!(memory.write(GuestAddress(first + 0x1000), &[0; 8]), None);
        }
        for number in 0..count {
            for address in [start(number), start(number) + 0xff8] {
                let mut bytes = [0; 8];
                memory.read(GuestAddress(address), &mut bytes).expect("memory");
                assert_eq!(bytes, number.to_le_bytes());
            }
        }
    }

    #[test]
    fn only_memory_that_is_at_hand_is_lent() {
        let lends = |file: File| {
            file.set_len(0x1000).expect("its length");
            let mapped = MmapRegion::from_file(FileOffset::new(file, 0), 0x1000).expect("a map");
            let region = GuestRegionMmap::new(mapped, GuestAddress(0x1000)).expect("a region");
            let memory = GuestMemory::new(vec![Arc::new(region)]).expect("one region");
            memory.write(GuestAddress(0x1000), b"copied").expect("it is memory all the same");
            memory.lend(Span { address: GuestAddress(0x1000), length: 0x200 }, 512).is_some()
        };
        assert!(lends(File::from(memfd_create("guest", MemfdFlags::CLOEXEC).expect("a file"))));
        // Where programs are built is a disk.
        let program = std::env::current_exe().expect("this program");
        let built = program.parent().expect("a directory");
        assert!(!lends(tempfile::tempfile_in(built).expect("a file")));
    }

    #[test]
    fn lent_memory_outlives_its_table() {
        let memory = GuestMemory::new(vec![region(0x1000, 0x1000)]).expect("one region");
        let span = Span { address: GuestAddress(0x1000), length: 0x1000 };
        let mut lent = memory.lend(span, 512).expect("one region, aligned");
        drop(memory);
        lent.copy_from(0, &[7; 0x1000]);
        assert!(lent.into_owned().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn overlapping_regions_are_no_memory() {
        assert!(GuestMemory::new(vec![region(0x1000, 0x2000), region(0x2000, 0x1000)]).is_none());
        assert!(GuestMemory::new(Vec::new()).is_none());
    }
}
