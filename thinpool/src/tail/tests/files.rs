//! Claims about tails in files.

use super::{FIRST, SECOND, sequences, shape};
use crate::tail::{Tail, TailContents, TailError};
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

fn on_tmpfs() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("Linux mounts tmpfs there")
}

#[test]
fn records_are_there_for_the_next_process() {
    let directory = on_tmpfs();
    let path = directory.path().join("pool.tail");
    let tail = Tail::create(&path, shape()).expect("tmpfs");
    tail.bind(FIRST);
    tail.append(0, 1, b"one").expect("room");
    tail.append(1, 2, &[7; 3000]).expect("room");
    let image = tail.image();
    drop(tail);
    let found = Tail::open_existing(&path).expect("it is there");
    assert_eq!(found.image(), image, "the file holds what a tail in memory holds");
    assert_eq!(sequences(&found.read()), [1, 2]);
    found.bind(SECOND);
    found.append(0, 9, b"nine").expect("room");
    let again = Tail::open_existing(&path).expect("it is there").read();
    assert_eq!(again.incarnation, Some(SECOND));
    assert_eq!(again.records, [(9, b"nine".to_vec())]);
}

#[test]
fn a_new_tail_is_private_allocated_and_nobodys() {
    let directory = on_tmpfs();
    let path = directory.path().join("pool.tail");
    let tail = Tail::create(&path, shape()).expect("tmpfs");
    let metadata = path.metadata().expect("it is there");
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), shape().total_bytes());
    assert!(metadata.blocks() * 512 >= shape().total_bytes());
    assert_eq!(tail.read(), TailContents::default());
    assert!(matches!(Tail::create(&path, shape()), Err(TailError::Exists(_))));
    Tail::remove(&path).expect("ours");
    Tail::remove(&path).expect("none is fine");
    assert!(matches!(Tail::open_existing(&path), Err(TailError::Missing(_))));
}

#[test]
fn a_tail_is_never_on_a_disk() {
    let error = Tail::create(Path::new("/proc/self/pool.tail"), shape()).expect_err("not tmpfs");
    assert!(error.to_string().starts_with("/proc/self is not on tmpfs"), "{error}");
    assert!(matches!(Tail::open_existing(Path::new("/proc/self/stat")), Err(TailError::NotTmpfs(_))));
    assert!(matches!(Tail::create(Path::new("/"), shape()), Err(TailError::Missing(_))));
}

#[test]
fn links_and_files_others_can_use_are_refused() {
    let directory = on_tmpfs();
    let (path, link) = (directory.path().join("pool.tail"), directory.path().join("link.tail"));
    drop(Tail::create(&path, shape()).expect("tmpfs"));
    symlink(&path, &link).expect("a link");
    assert!(matches!(Tail::open_existing(&link), Err(TailError::NotPrivate(_))));
    assert!(matches!(Tail::create(&link, shape()), Err(TailError::Exists(_))));
    path.set_permissions_to(0o640);
    assert!(matches!(Tail::open_existing(&path), Err(TailError::NotPrivate(_))));
    path.set_permissions_to(0o600);
    std::fs::remove_file(&link).expect("ours");
    std::fs::hard_link(&path, &link).expect("a link");
    assert!(matches!(Tail::open_existing(&path), Err(TailError::NotPrivate(_))));
    assert!(matches!(Tail::open_existing(directory.path()), Err(TailError::Io { .. })), "a directory");
}

trait SetPermissions {
    fn set_permissions_to(&self, mode: u32);
}

impl SetPermissions for std::path::PathBuf {
    fn set_permissions_to(&self, mode: u32) {
        std::fs::set_permissions(self, std::fs::Permissions::from_mode(mode)).expect("ours");
    }
}

#[test]
fn a_file_that_was_cut_is_refused() {
    let directory = on_tmpfs();
    let path = directory.path().join("pool.tail");
    drop(Tail::create(&path, shape()).expect("tmpfs"));
    for length in [8192, 4096, 4095, 0] {
        let file = OpenOptions::new().write(true).open(&path).expect("ours");
        file.set_len(length).expect("shorter");
        assert!(matches!(Tail::open_existing(&path), Err(TailError::Damaged(_))), "length {length}");
    }
}
