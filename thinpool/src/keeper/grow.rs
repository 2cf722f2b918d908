//! Using a device that has become longer. Extend and sync come first, then the record that says so: whatever is allocated
//! in the new part has a later one.

use super::Desk;
use crate::error::Error;
use crate::record::Record;
use cow_tree::units::BLOCK_BYTES;

pub(crate) async fn grow(desk: &Desk) -> Result<(), Error> {
    let core = &desk.core;
    let grown = {
        let geometry = core.geometry.read();
        let bytes = core.device.size();
        if bytes / u64::try_from(BLOCK_BYTES).expect("small") <= geometry.device_blocks() {
            return Err(Error::Invalid(format!(
                "the device has {bytes} bytes, which is no more than the pool uses already"
            )));
        }
        geometry.grown(bytes).map_err(|error| Error::Invalid(error.to_string()))?
    };
    // The file's new length must survive power loss before a superblock counts on it.
    desk.io.flush("flushing the grown device").await?;
    loop {
        let staged = {
            let _gate = core.gate.write().expect("no thread panics inside the gate");
            let staged = core.stage_control(&Record::Grow { blocks: grown.device_blocks() });
            if staged.is_ok() {
                core.groups.lock().grow(&grown);
                *core.geometry.write() = grown;
            }
            staged
        };
        match staged {
            Ok(_) => break,
            Err(Error::TailFull) => super::command::commit(desk).await?,
            Err(error) => return Err(error),
        }
    }
    core.announce();
    super::command::checkpoint(desk).await
}
