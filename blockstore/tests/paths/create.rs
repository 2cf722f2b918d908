//! Making a file: durable, private, sparse, never over something, and nothing left behind.

use crate::child;
use crate::drive::{channel, directory_in_memory, directory_on_disk, flush, read, write};
use blockstore::{DeviceError, Engine, OpenOptions, create};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

const SIZE: u64 = 64 << 20;

#[test]
fn a_new_file_is_private_sparse_and_ready() {
    for directory in [directory_on_disk(), directory_in_memory()] {
        let path = directory.path().join("disk");
        let device = create(&path, SIZE, &OpenOptions::default()).expect("a new file");
        let metadata = fs::metadata(&path).expect("the file is there");
        assert_eq!((metadata.len(), metadata.blocks()), (SIZE, 0));
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!((device.size(), device.description()), (SIZE, path.display().to_string()));
        let mut channel = channel(&*device);
        write(&mut *channel, SIZE - 4096, &[4; 4096]).expect("writing");
        flush(&mut *channel).expect("flushing");
        assert_eq!(read(&mut *channel, SIZE - 8192, 8192), Ok([[0; 4096], [4; 4096]].concat()));
    }
}

#[test]
fn what_exists_is_left_alone() {
    let directory = directory_on_disk();
    let file = directory.path().join("file");
    fs::write(&file, "precious").expect("a file");
    let dangling = directory.path().join("dangling");
    symlink(directory.path().join("nowhere"), &dangling).expect("a symbolic link");
    for path in [file.as_path(), &dangling, directory.path()] {
        let refused = create(path, SIZE, &OpenOptions::default());
        assert!(matches!(refused, Err(DeviceError::Exists(_))), "{refused:?}");
    }
    assert_eq!(fs::read(&file).expect("the file"), b"precious");
    assert_eq!(names(directory.path()), ["dangling", "file"]);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let directory = directory_on_disk();
    let path = directory.path().join("disk");
    let refused = create(&path, 4097, &OpenOptions::default());
    assert!(matches!(refused, Err(DeviceError::Size { size: 4097, .. })));
    let refused = create(&path, 1 << 63, &OpenOptions::default());
    assert!(matches!(refused, Err(DeviceError::System { .. })), "{refused:?}");
    // This fails last, when the file is complete.
    let refused = create(&path, SIZE, &OpenOptions { engine: Engine::Mapped, ..OpenOptions::default() });
    assert!(matches!(refused, Err(DeviceError::NotMemory(_))));
    let nowhere = create(&directory.path().join("no/disk"), SIZE, &OpenOptions::default());
    assert!(matches!(nowhere, Err(DeviceError::NotFound(_))));
    assert!(names(directory.path()).is_empty());
}

#[test]
fn a_file_larger_than_the_limit_leaves_nothing_behind() {
    if let Some(path) = child::path_from_parent() {
        let refused = create(&path, SIZE, &OpenOptions::default());
        assert!(matches!(refused, Err(DeviceError::System { .. })), "{refused:?}");
        return;
    }
    let directory = directory_on_disk();
    let path = directory.path().join("disk");
    let test = "create::a_file_larger_than_the_limit_leaves_nothing_behind";
    let limit = "trap '' XFSZ && ulimit -f 512";
    child::succeed(child::prepared_command(&["sh"], limit, test, path.as_os_str()));
    assert!(names(directory.path()).is_empty());
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
