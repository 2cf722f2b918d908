//! Where a running pool keeps its control socket and its crash tail: a directory of our own on tmpfs.
//!
//! It must be tmpfs: the tail takes a store per guest write and must survive the process, not the machine. It must be
//! ours and closed to others: it may lie in a directory that everybody can write, such as /dev/shm.

use crate::failure::{Code, Failure};
use cow_tree::units::PoolId;
use rustix::fs::fstatfs;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Overrides the choice.
pub(crate) const VARIABLE: &str = "OFFSHOOT_RUN_DIR";

const TMPFS_MAGIC: u64 = 0x0102_1994;
const NOT_OPEN: &str = "the pool was not opened";

#[derive(Debug, Clone)]
pub(crate) struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// OFFSHOOT_RUN_DIR; else /run/offshoot for root where /run is tmpfs; else /dev/shm/offshoot-UID.
    pub(crate) fn choose() -> Result<Self, Failure> {
        let user = rustix::process::geteuid();
        let path = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => PathBuf::from(path),
            None if user.is_root() && is_tmpfs(Path::new("/run")).unwrap_or(false) => {
                PathBuf::from("/run/offshoot")
            }
            None => PathBuf::from(format!("/dev/shm/offshoot-{}", user.as_raw())),
        };
        make_private(&path)?;
        if is_tmpfs(&path).map_err(|error| unusable(&path, &error.to_string()))? {
            Ok(Self { path })
        } else {
            Err(unusable(&path, "it is not on tmpfs, and a disk would make every guest write wait"))
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a daemon answers commands and programs.
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.path.join("api.sock")
    }

    /// Where it does when another daemon does there.
    pub(crate) fn own_api_socket(&self) -> PathBuf {
        self.path.join(format!("api-{}.sock", std::process::id()))
    }

    /// A link to the API's socket of the daemon that holds the pool.
    pub(crate) fn control_socket(&self, pool_id: PoolId) -> PathBuf {
        self.path.join(format!("{pool_id}.sock"))
    }

    pub(crate) fn nbd_socket(&self, pool_id: PoolId) -> PathBuf {
        self.path.join(format!("{pool_id}.nbd"))
    }

    pub(crate) fn vhost_socket(&self, pool_id: PoolId, name: &str) -> PathBuf {
        self.path.join(format!("{pool_id}.{name}.vhost"))
    }

    pub(crate) fn tail(&self, pool_id: PoolId) -> PathBuf {
        self.path.join(format!("{pool_id}.tail"))
    }
}

fn unusable(path: &Path, why: &str) -> Failure {
    let why = format!("{} cannot hold the crash tail: {why}", path.display());
    Failure::new(
        Code::Failed,
        NOT_OPEN,
        why,
        format!("{VARIABLE}=DIRECTORY with a private directory on tmpfs"),
    )
}

fn make_private(path: &Path) -> Result<(), Failure> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(unusable(path, &error.to_string()));
        }
        _ => {}
    }
    let found = path.symlink_metadata().map_err(|error| unusable(path, &error.to_string()))?;
    if !found.is_dir() {
        return Err(unusable(path, "it is not a directory"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(unusable(path, "it belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(unusable(path, "other users may enter it; its mode should be 0700"));
    }
    Ok(())
}

fn is_tmpfs(path: &Path) -> io::Result<bool> {
    let directory = File::options()
        .read(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::DIRECTORY.bits()).expect("a small flag"))
        .open(path)?;
    let kind = fstatfs(&directory)?.f_type;
    Ok(u64::try_from(kind).is_ok_and(|kind| kind == TMPFS_MAGIC))
}
