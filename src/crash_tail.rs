//! The file with the crash tail of a pool: found again after a crash, made when there is none, gone after a clean end.
//!
//! Only the holder of the pool's lock calls this. What a tail that is there is worth, and whether one that is missing
//! was needed, the engine decides: a tail made here belongs to no opening yet.

use crate::failure::{Failure, sentence};
use crate::output::say;
use std::path::{Path, PathBuf};
use thinpool::{Shape, Tail, TailError};

/// The tail to open a pool with. One that cannot be read is put aside, not removed.
pub(crate) fn find_or_make(path: &Path) -> Result<Tail, TailError> {
    match Tail::open_existing(path) {
        Err(TailError::Missing(_)) => Tail::create(path, Shape::default()),
        Err(TailError::Damaged(why)) => {
            let aside = put_aside(path)?;
            say(&format!("note: the crash tail cannot be read ({why}); it was moved to {}", aside.display()));
            Tail::create(path, Shape::default())
        }
        other => other,
    }
}

/// The tail to look at a pool with: nothing is made.
pub(crate) fn find(path: &Path) -> Result<Tail, TailError> {
    match Tail::open_existing(path) {
        Err(TailError::Missing(_) | TailError::Damaged(_)) => {
            let smallest = Shape::new(LOOKING_LANES, LOOKING_LANE_BYTES)?;
            Ok(Tail::in_memory(smallest))
        }
        other => other,
    }
}

/// After an opening that failed. A superblock names a tail only after that tail was bound, so nobody will ever ask for
/// one that is not: it goes. Every other stays.
pub(crate) fn remove_unneeded(tail: &Tail, path: &Path, mut failure: Failure) -> Failure {
    if tail.read().incarnation.is_none()
        && let Err(error) = Tail::remove(path)
    {
        failure.why.push_str(&format!("; {} stays behind: {}", path.display(), sentence(&error)));
    }
    failure
}

/// The keeper's lane, and one to read through.
const LOOKING_LANES: u32 = 2;
const LOOKING_LANE_BYTES: u64 = 4096;

fn put_aside(path: &Path) -> Result<PathBuf, TailError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let aside = PathBuf::from(aside);
    std::fs::rename(path, &aside).map_err(|source| TailError::Io {
        doing: "putting it aside",
        path: path.to_owned(),
        source,
    })?;
    Ok(aside)
}
