//! A pool this process holds: opened, served by its keeper's thread, and closed cleanly at the end.

use crate::clock;
use crate::crash_tail;
use crate::explain;
use crate::failure::{Code, Failure, sentence};
use crate::import;
use crate::output::say;
use crate::pool_devices::PoolDevices;
use crate::random;
use crate::run_directory::RunDirectory;
use crate::seed;
use crate::wire::OnFull;
use cow_tree::units::PoolId;
use std::io;
use std::path::{Path, PathBuf};
use thinpool::{Limits, Opening, Pool, Service, Tail};

/// What the opener insists on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Look only: nothing in the pool changes.
    pub(crate) read_only: bool,
    /// Open even when acknowledged writes are lost with the crash tail.
    pub(crate) accept_lost_writes: bool,
}

#[derive(Debug)]
pub(crate) struct LocalPool {
    pool: Pool,
    service: Service,
    /// Hold the pool's locks until the tail is gone.
    devices: PoolDevices,
    /// The tail's file, if it is ours to remove.
    tail: Option<PathBuf>,
}

impl LocalPool {
    /// `pool_id` is what the label says; it names the crash tail.
    pub(crate) fn open(
        devices: PoolDevices,
        pool_id: PoolId,
        directory: &RunDirectory,
        demand: Demand,
    ) -> Result<Self, Failure> {
        let what = format!("the pool {} was not opened", devices.name);
        let opening = opening(demand).map_err(|error| {
            Failure::new(Code::Failed, what.clone(), error.to_string(), "ls -l /proc/sys/kernel/random")
        })?;
        let engine = |error: thinpool::Error| explain::engine(what.clone(), &error);
        let tail_path = directory.tail(pool_id);
        let found = if demand.read_only {
            crash_tail::find(&tail_path)
        } else {
            crash_tail::find_or_make(&tail_path)
        };
        let tail = found.map_err(|error| {
            let next = format!("ls -l {}, or df on it", directory.path().display());
            Failure::new(Code::Failed, what.clone(), sentence(&error), next)
        })?;
        let (all, joining) = (devices.all.clone(), devices.joining.clone());
        let (pool, keeper) = thinpool::open_all(all, joining, tail.clone(), opening).map_err(|error| {
            let failure = engine(error);
            if demand.read_only { failure } else { crash_tail::remove_unneeded(&tail, &tail_path, failure) }
        })?;
        let service = Service::start(keeper).map_err(engine)?;
        pool.hold_when_full(OnFull::of(&pool.status().properties).longest());
        pool.notes().iter().for_each(|note| say(&format!("note: {note}")));
        let tail = (!demand.read_only).then_some(tail_path);
        let local = Self { pool, service, devices, tail };
        if !demand.read_only {
            local.devices.remember_all();
            local.remove_leftovers();
        }
        Ok(local)
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The pool ends clean, or the failure says why not.
    pub(crate) fn close(self) -> Result<(), Failure> {
        drop(self.pool);
        self.service.stop().map_err(|error| explain::engine("the pool was not closed cleanly", &error))?;
        if let Some(Err(error)) = self.tail.as_deref().map(Tail::remove) {
            say(&format!("note: a tail that is no longer needed stays behind: {}", sentence(&error)));
        }
        drop(self.devices);
        Ok(())
    }

    fn remove_leftovers(&self) {
        match import::remove_leftovers(&self.pool) {
            Ok(0) => {}
            Ok(count) => say(&format!("note: removed what {count} unfinished imports had left behind")),
            Err(error) => say(&format!("note: what an unfinished import left behind stays: {error}")),
        }
        match seed::remove_leftovers(&self.pool) {
            Ok(0) => {}
            Ok(count) => say(&format!("note: removed {count} seeds without a clone")),
            Err(error) => say(&format!("note: a seed without a clone stays: {error}")),
        }
    }
}

fn opening(demand: Demand) -> io::Result<Opening> {
    Ok(Opening {
        incarnation: random::bytes()?,
        boot_id: boot_id()?,
        process_id: std::process::id(),
        host: std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned(),
        now_unix: clock::unix_seconds(),
        read_only: demand.read_only,
        accept_lost_writes: demand.accept_lost_writes,
        limits: Limits::default(),
    })
}

/// Sixteen bytes that are others after every boot.
fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok(number.to_le_bytes())
}
