//! `offshoot pool grow --add PATH --size SIZE`: the pool gets one more device, or stays as it was.

use super::consent::show_plan;
use crate::arguments::Consent;
use crate::failure::{Code, Failure};
use crate::history::History;
use crate::interrupt::Interrupt;
use crate::local_pool::LocalPool;
use crate::output::{Style, say, tell};
use crate::pool_choice::PoolChoice;
use crate::pool_devices::{self, Whereabouts};
use crate::pool_file;
use crate::reach::{CHANGE, LOOK, Reach};
use crate::run_directory::RunDirectory;
use crate::size::Size;
use crate::wire::PlanView;
use blockstore::{Access, Device, Engine};
use cow_tree::units::PoolId;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use thinpool::{Foreign, LabelError, Status};

const WHAT: &str = "no device was added";

pub(super) fn run(
    pool: &PoolChoice,
    add: &Path,
    size: Option<Size>,
    consent: Consent,
    style: Style,
) -> Result<(), Failure> {
    let first = pool.path()?;
    let pool_id = pool_file::identify(&first)?;
    let directory = RunDirectory::choose()?;
    if Reach::find_daemon(pool_id, &directory)?.is_some() {
        let why = "a daemon serves the pool, and a device joins it only while it is opened";
        return Err(Failure::new(Code::Conflict, WHAT, why, "stop offshoot serve, then the same command"));
    }
    if consent.dry_run {
        let status = pool.with(LOOK, Reach::status)?;
        let summary = format!("{} becomes device {} of {}", add.display(), status.devices.len(), status.pool);
        return show_plan(&PlanView::quiet(summary, &[]), style);
    }
    let order = json!({ "add": add.display().to_string(), "size": size.map(Size::bytes) });
    let name = pool_file::name_of(&first).unwrap_or_default();
    let grow = || join(pool, &first, pool_id, &directory, add, size);
    let status = History::open().note_change(&name, "pool grow", order, grow)?;
    let (count, capacity) = (status.devices.len(), style.size(status.capacity));
    let bytes = status.devices.last().map_or(0, |device| device.size);
    let sentence = format!("{} is device {} of the pool, which has {capacity} now", add.display(), count - 1);
    let body = json!({ "path": add.display().to_string(), "index": count - 1, "size": bytes, "capacity": status.capacity });
    tell(style, "PoolGrown", &body, &sentence)
}

fn join(
    pool: &PoolChoice,
    first: &Path,
    pool_id: PoolId,
    directory: &RunDirectory,
    add: &Path,
    size: Option<Size>,
) -> Result<Status, Failure> {
    Interrupt::watch()?;
    let places = Whereabouts { first, others: &pool.others };
    let mut devices = pool_devices::open(places, Access::ReadWrite, pool.engine)?;
    let device = new_device(add, size, pool_id, pool.engine)?;
    devices.join(add, device, WHAT)?;
    let opened = LocalPool::open(devices, pool_id, directory, CHANGE);
    let local = opened.inspect_err(|_| {
        if !pool_file::is_block_device(add) {
            let path = add.display();
            say(&format!(
                "note: {path} stays: the same command takes it, and unless pool status names it, it can go"
            ));
        }
    })?;
    let status = local.pool().status();
    local.close()?;
    Ok(status)
}

/// A new file, a block device, or what an attempt before has left.
fn new_device(
    path: &Path,
    size: Option<Size>,
    pool: PoolId,
    engine: Engine,
) -> Result<Arc<dyn Device>, Failure> {
    let usage = |why: &str, next: String| Failure::new(Code::Usage, WHAT, why, next);
    if pool_file::is_block_device(path) {
        return match size {
            Some(_) => {
                Err(usage("a block device is used whole", "the same command without --size".to_owned()))
            }
            None => pool_file::open(path, Access::ReadWrite, engine),
        };
    }
    let next = || format!("offshoot pool grow --add {} --size 800G", path.display());
    let size = size.ok_or_else(|| usage("--size is missing", next()))?.bytes();
    if is_left_over(path, size, pool) {
        return pool_file::open(path, Access::ReadWrite, engine);
    }
    pool_file::create(path, size, engine, WHAT)
}

/// A file of the right length that nobody wrote to but this command. The engine makes sure that no pool names it.
fn is_left_over(path: &Path, size: u64, pool: PoolId) -> bool {
    let is_as_long = path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == size);
    is_as_long
        && match pool_devices::first_block(path) {
            Ok(Ok(label)) => label.pool == pool && label.device_index > 0,
            Ok(Err(LabelError::NotAPool(Foreign::Empty))) => true,
            _ => false,
        }
}
