//! `offshoot pool grow PATH --size SIZE`: the file first, then the pool that takes it in.

use crate::failure::{Code, Failure};
use crate::output::{Style, say};
use crate::pool_file;
use crate::reach::{CHANGE, PoolChoice};
use crate::size::Size;
use crate::wire::Ask;
use std::fs::File;
use std::io;
use std::path::Path;

const WHAT: &str = "the pool was not grown";

pub(super) fn run(pool: &PoolChoice, size: Option<Size>, style: Style) -> Result<(), Failure> {
    let path = pool.path()?.to_owned();
    let capacity = pool.with(CHANGE, |reach| {
        match (pool_file::is_block_device(&path), size) {
            (true, None) => {}
            (true, Some(_)) => {
                return Err(usage("a block device is used whole", "the same command without --size"));
            }
            (false, None) => return Err(usage("--size is missing", "offshoot pool grow --size 800G")),
            (false, Some(size)) => extend(&path, size.bytes(), style)?,
        }
        reach.ask(Ask::Grow)?;
        reach.status().map(|status| status.capacity)
    })?;
    say(&format!("the pool has {} now", style.size(capacity)));
    Ok(())
}

fn usage(why: &str, next: &str) -> Failure {
    Failure::new(Code::Usage, WHAT, why, next)
}

/// Longer only: what a crash leaves behind is a file longer than its pool, which does no harm.
fn extend(path: &Path, size: u64, style: Style) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let why = format!("{} cannot be extended: {error}", path.display());
        Failure::new(Code::Failed, WHAT, why, format!("df {}", path.display()))
    };
    let file = File::options().write(true).open(path).map_err(failed)?;
    let present = file.metadata().map_err(failed)?.len();
    if size <= present {
        let why =
            format!("{} has {} already, and a pool does not shrink", path.display(), style.size(present));
        return Err(usage(&why, "a larger --size"));
    }
    file.set_len(size).and_then(|()| file.sync_all()).map_err(failed)
}
