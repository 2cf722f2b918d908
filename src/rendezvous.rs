//! The two ends of a socket for a child that wants to accept a connection: it is connected before the child begins, and
//! its name is gone by then.

use crate::failure::{Code, Failure};
use crate::run_directory::RunDirectory;
use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// A listening socket with one connection waiting, and that connection's other end.
pub(crate) fn make(what: &str) -> Result<(UnixListener, UnixStream), Failure> {
    let directory = RunDirectory::choose()?;
    // Nobody else may make files there, and nobody else has this process's number.
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = directory.path().join(format!("contained-{}-{number}.sock", std::process::id()));
    connect(&path).map_err(|error| {
        let next = format!("ls -l {}", directory.path().display());
        Failure::new(Code::Failed, what, format!("no socket at {}: {error}", path.display()), next)
    })
}

fn connect(path: &Path) -> io::Result<(UnixListener, UnixStream)> {
    remove(path)?;
    let listener = UnixListener::bind(path)?;
    let stream = UnixStream::connect(path);
    remove(path)?;
    Ok((listener, stream?))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
