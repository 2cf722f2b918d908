//! The file or block device below a pool: made, opened, and asked for its identity.

use crate::explain;
use crate::failure::{Code, Failure, sentence};
use crate::size::GRAIN_BYTES;
use blockstore::{Access, Device, Engine, OpenOptions};
use cow_tree::units::PoolId;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use thinpool::{Label, LabelError};

/// Opens and locks a pool's device.
pub(crate) fn open(path: &Path, access: Access, engine: Engine) -> Result<Arc<dyn Device>, Failure> {
    let options = OpenOptions { access, engine };
    blockstore::open(path, &options)
        .map_err(|error| explain::device(format!("the pool {} was not opened", path.display()), &error))
}

/// The pool id that the label in a device's first block tells; the device may be in use by others.
pub(crate) fn identify(path: &Path) -> Result<PoolId, Failure> {
    let what = format!("the pool {} was not opened", path.display());
    refuse_what_is_no_disk(path, &what)?;
    let mut block = Vec::new();
    File::open(path).and_then(|file| file.take(GRAIN_BYTES).read_to_end(&mut block)).map_err(|error| {
        let why = format!("{}: {error}", path.display());
        Failure::new(Code::Failed, what.clone(), why, format!("ls -l {}", path.display()))
    })?;
    let label = Label::parse(&block).map_err(|error| {
        let next = match &error {
            LabelError::NotAPool(_) => "--pool with the path of a pool, or offshoot pool create",
            LabelError::Newer { .. } => "a newer offshoot",
            LabelError::Damaged(_) => "a copy of the pool from before the damage",
        };
        Failure::new(Code::Failed, what, sentence(&error), next)
    })?;
    Ok(label.pool)
}

fn refuse_what_is_no_disk(path: &Path, what: &str) -> Result<(), Failure> {
    let next = format!("ls -l {}, or offshoot pool create {} --size 10G", path.display(), path.display());
    let metadata = path.metadata().map_err(|error| {
        let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Failed };
        Failure::new(code, what, format!("{}: {error}", path.display()), next.clone())
    })?;
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    Err(Failure::new(Code::Usage, what, format!("{} is no file and no block device", path.display()), next))
}

/// What the pool is called whose first device this is.
pub(crate) fn name_of(path: &Path) -> Option<String> {
    let mut block = Vec::new();
    refuse_what_is_no_disk(path, "").ok()?;
    File::open(path).and_then(|file| file.take(GRAIN_BYTES).read_to_end(&mut block)).ok()?;
    Label::parse(&block).ok().map(|label| label.name)
}

/// Whether a path is a block device, on which a pool is made in place.
pub(crate) fn is_block_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Bytes of a block device at this moment.
pub(crate) fn block_device_size(path: &Path, what: &str) -> Result<u64, Failure> {
    let size = File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0)));
    size.map_err(|error| {
        let why = format!("{}: {error}", path.display());
        Failure::new(Code::Failed, what, why, format!("lsblk {}", path.display()))
    })
}

/// A new sparse file; on a failure there is none.
pub(crate) fn create(path: &Path, size: u64, engine: Engine, what: &str) -> Result<Arc<dyn Device>, Failure> {
    if path.symlink_metadata().is_ok() {
        let why = format!("{} is there already, and is left alone", path.display());
        return Err(Failure::new(
            Code::Conflict,
            what,
            why,
            format!("ls -l {}, then another path", path.display()),
        ));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(missing) = directory.filter(|directory| !directory.is_dir()) {
        let why = format!("there is no directory {}", missing.display());
        return Err(Failure::new(Code::NotFound, what, why, format!("mkdir -p {}", missing.display())));
    }
    let options = OpenOptions { access: Access::ReadWrite, engine };
    blockstore::create(path, size, &options).map_err(|error| explain::device(what, &error))
}
