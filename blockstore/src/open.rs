//! How a path becomes a device: opened or made, and given the way that suits its medium.

use crate::device::Device;
use crate::error::DeviceError;
use crate::file::opening::{self, Caching};
use crate::file::{Facts, FileDevice, FileMedium, MediumKind, Way};
use crate::mapped::MappedMedium;
use crate::uring;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// What a device is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Access {
    /// Others may read too; nobody may write.
    ReadOnly,
    #[default]
    ReadWrite,
}

/// Which way the bytes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Engine {
    /// io_uring, unless the kernel forbids it or would only hand each operation to a worker; then inline.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// A system call for each operation, while the caller waits.
    Inline,
    /// A memory map; only for media that are memory themselves (tmpfs, DAX).
    Mapped,
}

/// The wishes of whoever opens a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    pub access: Access,
    pub engine: Engine,
}

/// Opens and locks a regular file or a block device.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Arc<dyn Device>, DeviceError> {
    require(options.engine)?;
    assemble(opening::open(path, options.access, caching(options.engine))?, options.engine)
}

/// Makes a regular file of `size_bytes` zeros that takes no space yet, readable and writable for its owner, durable
/// with its name when this returns, and opens it for reading and writing. After a failure there is no file.
pub fn create(path: &Path, size_bytes: u64, options: &OpenOptions) -> Result<Arc<dyn Device>, DeviceError> {
    require(options.engine)?;
    opening::check_size(path, size_bytes)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| opening::classify_error("making", path, error))?;
    let made = file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let device = fill(&file, path, size_bytes)
        .and_then(|()| opening::adopt(file, path, Access::ReadWrite, caching(options.engine)))
        .and_then(|facts| assemble(facts, options.engine));
    if device.is_err() && made.is_some() && made == identity(path) {
        // The first error is the one to tell; one of the removal would have the same cause.
        drop(fs::remove_file(path));
    }
    device
}

/// Which file a path names.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok()
}

fn fill(file: &File, path: &Path, size_bytes: u64) -> Result<(), DeviceError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let done = file.set_len(size_bytes).and_then(|()| file.sync_all());
    done.and_then(|()| File::open(parent)?.sync_all()).map_err(|source| DeviceError::System {
        doing: "making",
        path: path.to_owned(),
        source,
    })
}

/// Fails early where a named engine cannot work at all.
fn require(engine: Engine) -> Result<(), DeviceError> {
    match engine {
        Engine::Uring => uring::probe().map_err(DeviceError::UringUnavailable),
        Engine::Auto | Engine::Inline | Engine::Mapped => Ok(()),
    }
}

/// A map is the page cache, so transfers beside it go through it too.
fn caching(engine: Engine) -> Caching {
    if engine == Engine::Mapped { Caching::Through } else { Caching::Around }
}

fn assemble(facts: Facts, engine: Engine) -> Result<Arc<dyn Device>, DeviceError> {
    let medium = Arc::new(FileMedium::new(facts));
    let kind = medium.transfer().medium;
    let way = match engine {
        Engine::Auto if kind == MediumKind::Memory || uring::probe().is_err() => Way::Inline,
        Engine::Auto => Way::UringOrInline,
        Engine::Uring => Way::Uring,
        Engine::Inline => Way::Inline,
        Engine::Mapped => Way::Mapped(Arc::new(MappedMedium::new(medium.clone())?)),
    };
    Ok(Arc::new(FileDevice { medium, way }))
}
