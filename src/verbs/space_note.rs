//! Says so, at the moment it happens, when more is promised than the pool has.

use crate::failure::Failure;
use crate::output::{Style, say};
use crate::reach::Reach;

pub(super) fn overcommit(reach: &mut Reach, style: Style) -> Result<(), Failure> {
    let status = reach.status()?;
    if status.provisioned > status.capacity {
        say(&format!(
            "note: {} is promised on a pool of {}: overcommit {:.1}x",
            style.size(status.provisioned),
            style.size(status.capacity),
            status.overcommit
        ));
    }
    Ok(())
}
