//! The bytes of a seed: a FAT12 file system with the label that cloud-init looks for. The same files are the same bytes.

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use std::io::{self, Cursor, Write as _};

/// Of every seed: the largest that is taken fits, and what is not used is zeros, which are not stored.
pub(crate) const BYTES: u64 = 1 << 20;
const SECTOR_BYTES: u16 = 512;
const LABEL: [u8; 11] = *b"CIDATA     ";
/// A label and three files, one of them with a name that takes three, are eight; a sector has sixteen.
const ROOT_ENTRIES: u16 = 16;

/// Files of a seed are of no time: the first that FAT knows.
#[derive(Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// Names with their bytes; an error where they do not fit.
pub(super) fn image(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let length = usize::try_from(BYTES).expect("a mebibyte");
    let mut bytes = vec![0; length];
    let form = FormatVolumeOptions::new()
        .fat_type(FatType::Fat12)
        .bytes_per_sector(SECTOR_BYTES)
        .bytes_per_cluster(SECTOR_BYTES.into())
        .max_root_dir_entries(ROOT_ENTRIES)
        .volume_id(0)
        .volume_label(LABEL);
    fatfs::format_volume(Cursor::new(&mut bytes[..]), form)?;
    let options = FsOptions::new().time_provider(&NoTime);
    let system = FileSystem::new(Cursor::new(&mut bytes[..]), options)?;
    for (name, content) in files {
        let mut file = system.root_dir().create_file(name)?;
        file.write_all(content)?;
        file.flush()?;
    }
    system.unmount()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::image;
    use crate::seed::{NETWORK_CONFIG_BYTES_MAX, USER_DATA_BYTES_MAX};
    use fatfs::{FileSystem, FsOptions};
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};
    use std::io::{Cursor, Read as _};

    fn read(image: &mut [u8], name: &str) -> Vec<u8> {
        let system = FileSystem::new(Cursor::new(image), FsOptions::new()).expect("a file system");
        let mut bytes = Vec::new();
        system.root_dir().open_file(name).expect("there").read_to_end(&mut bytes).expect("readable");
        bytes
    }

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let files: [(&str, &[u8]); 2] =
            [("meta-data", b"instance-id: a\n"), ("user-data", b"#cloud-config\n")];
        let bytes = image(&files).expect("it fits");
        assert_eq!((bytes.len(), crc32c::crc32c(&bytes)), (1 << 20, 0x40d0_c735));
        assert_eq!(image(&files).expect("it fits"), bytes);
    }

    #[test]
    fn the_largest_seed_fits_and_one_that_does_not_is_an_error() {
        let (user, network) = (vec![7; USER_DATA_BYTES_MAX], vec![8; NETWORK_CONFIG_BYTES_MAX]);
        let files: [(&str, &[u8]); 3] =
            [("meta-data", &[9; 4096]), ("user-data", &user), ("network-config", &network)];
        let mut bytes = image(&files).expect("it fits");
        for (name, content) in files {
            assert!(read(&mut bytes, name) == content, "{name}");
        }
        image(&[("user-data", &vec![7; 1 << 20])]).expect_err("larger than the disk");
    }

    proptest! {
        #[test]
        fn files_of_any_bytes_read_back(user in vec(any::<u8>(), 0..5000), network in vec(any::<u8>(), 0..2000)) {
            let mut bytes = image(&[("user-data", &user), ("network-config", &network)]).expect("it fits");
            assert_eq!(read(&mut bytes, "user-data"), user);
            assert_eq!(read(&mut bytes, "network-config"), network);
        }
    }
}
