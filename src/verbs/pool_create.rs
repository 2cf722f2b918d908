//! `offshoot pool create PATH... --size SIZE`: new files, or nothing.

use crate::arguments::PoolCreateArguments;
use crate::clock;
use crate::explain;
use crate::failure::{Code, Failure, after};
use crate::history::History;
use crate::output::{Style, say, tell};
use crate::pool_choice::PoolChoice;
use crate::pool_devices::PoolDevices;
use crate::pool_file;
use crate::random;
use crate::reach::CHANGE;
use crate::registry::{Entered, Registry};
use crate::size::Size;
use crate::wire::{Ask, PoolOrder, Thresholds};
use blockstore::{Access, Device, Engine};
use cow_tree::units::PoolId;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thinpool::{CreateOptions, DeviceId, Name, NewDevice};

pub(super) fn run(create: &PoolCreateArguments, engine: Engine, style: Style) -> Result<(), Failure> {
    let [first, ..] = create.paths.as_slice() else { unreachable!("the arguments require a path") };
    let what = format!("the pool {} was not created", first.display());
    let order = policy(create, &what)?;
    let options = options(create, first, &what)?;
    let size = required_size(create, first, &what)?;
    let asked = json!({ "paths": shown(&create.paths), "size": size.map(Size::bytes) });
    let make = || make(create, size, engine, &options, &what);
    let sizes = History::open().note_change(&options.name, "pool create", asked, make)?;
    let has_name = remember(&options.name, first);
    begin(&PoolChoice::new(Some(first.clone()), None, engine), order, first)?;
    report(&create.paths, &options.name, has_name, &sizes, style)
}

/// Opens the new pool once: it keeps what was ordered, and what comes first need not wait for the room that metadata takes.
fn begin(made: &PoolChoice, order: PoolOrder, first: &Path) -> Result<(), Failure> {
    let mut is_as_ordered = order == PoolOrder::default();
    let begun = made.with(CHANGE, |reach| {
        if !is_as_ordered {
            reach.ask(Ask::SetPool(order))?;
            is_as_ordered = true;
        }
        reach.make_ready();
        Ok(())
    });
    match begun {
        Err(failure) if !is_as_ordered => {
            let what = format!("the pool {} was created as usual, not as ordered", first.display());
            Err(after(1)(Failure { what, ..failure }))
        }
        Err(failure) => {
            say(&format!("note: {}: {}", failure.what, failure.why));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// What is to be different from a pool that nobody has set anything of.
fn policy(create: &PoolCreateArguments, what: &str) -> Result<PoolOrder, Failure> {
    let order = PoolOrder::from(create.policy);
    match Thresholds::default().with(&order).refusal() {
        None => Ok(order),
        Some(why) => Err(Failure::new(Code::Usage, what, why, "--warn 80 --critical 90")),
    }
}

/// Returns how long the devices are, in bytes.
fn make(
    create: &PoolCreateArguments,
    size: Option<Size>,
    engine: Engine,
    options: &CreateOptions,
    what: &str,
) -> Result<Vec<u64>, Failure> {
    let mut made = Made::default();
    let created = create.paths.iter().try_for_each(|path| made.make(path, size, engine, what));
    match created.and_then(|()| format(&made.devices, options, what)) {
        Ok(()) => {}
        Err(failure) => return Err(made.undo(failure)),
    }
    PoolDevices::remember(&made.devices[0], options.pool_id, &create.paths[1..]);
    Ok(made.devices.iter().map(|device| device.size()).collect())
}

/// The size of the files; block devices have theirs.
fn required_size(create: &PoolCreateArguments, first: &Path, what: &str) -> Result<Option<Size>, Failure> {
    let has_file = create.paths.iter().any(|path| !pool_file::is_block_device(path));
    match create.size {
        Some(_) if !has_file => {
            let why = "a block device is used whole";
            Err(Failure::new(Code::Usage, what, why, "the same command without --size"))
        }
        None if has_file => {
            let next = format!("offshoot pool create {} --size 10G", first.display());
            Err(Failure::new(Code::Usage, what, "--size is missing", next))
        }
        size => Ok(size),
    }
}

/// Devices on their way to a pool, and which of them are new files.
#[derive(Debug, Default)]
struct Made {
    devices: Vec<Arc<dyn Device>>,
    files: Vec<PathBuf>,
}

impl Made {
    fn make(&mut self, path: &Path, size: Option<Size>, engine: Engine, what: &str) -> Result<(), Failure> {
        let device = match size.filter(|_| !pool_file::is_block_device(path)) {
            None => pool_file::open(path, Access::ReadWrite, engine)?,
            Some(size) => {
                let device = pool_file::create(path, size.bytes(), engine, what)?;
                self.files.push(path.to_owned());
                device
            }
        };
        self.devices.push(device);
        Ok(())
    }

    /// The files go again when the pool cannot be made in them.
    fn undo(self, mut failure: Failure) -> Failure {
        drop(self.devices);
        for path in self.files {
            if let Err(error) = std::fs::remove_file(&path) {
                failure.why.push_str(&format!("; the unfinished {} stays behind: {error}", path.display()));
            }
        }
        failure
    }
}

fn format(devices: &[Arc<dyn Device>], options: &CreateOptions, what: &str) -> Result<(), Failure> {
    let new = |device: &Arc<dyn Device>| {
        Ok(NewDevice { device: device.clone(), id: DeviceId(random::identity(what)?) })
    };
    let further = devices[1..].iter().map(new).collect::<Result<Vec<_>, Failure>>()?;
    thinpool::create_all(devices[0].clone(), &further, options).map_err(|error| explain::engine(what, &error))
}

fn report(paths: &[PathBuf], name: &str, has_name: bool, sizes: &[u64], style: Style) -> Result<(), Failure> {
    let first = &paths[0];
    let size: u64 = sizes.iter().sum();
    let devices: Vec<_> = paths
        .iter()
        .zip(sizes)
        .map(|(path, size)| json!({ "path": path.display().to_string(), "size": size }))
        .collect();
    let on = match paths.len() {
        1 => format!("in {}", first.display()),
        count => format!("on {count} devices, the first {}", first.display()),
    };
    let next = if has_name { format!("{name}/golden@v1") } else { "golden@v1".to_owned() };
    let sentence =
        format!("created {name} {on}, {}; next: offshoot image import {next} FILE", style.size(size));
    let body = json!({ "pool": name, "path": first.display().to_string(), "size": size, "devices": devices });
    tell(style, "PoolCreated", &body, &sentence)
}

fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

/// Whether the name stands for the pool from now on.
fn remember(name: &str, path: &Path) -> bool {
    match Registry::open().and_then(|registry| registry.enter(name, path)) {
        Ok(Entered::Yes) => return true,
        Ok(Entered::Taken(other)) => {
            say(&format!("note: {name} stands for {}; this pool goes by --pool PATH", other.display()));
        }
        Err(failure) => say(&format!("note: {}: {}", failure.what, failure.why)),
    }
    false
}

fn options(create: &PoolCreateArguments, first: &Path, what: &str) -> Result<CreateOptions, Failure> {
    let pool_id = PoolId(random::identity(what)?);
    Ok(CreateOptions {
        name: name(create, first, what)?,
        pool_id,
        created_unix: clock::unix_seconds(),
        ..CreateOptions::default()
    })
}

/// The name given, or the file's without its extension where that is a name; else `pool`.
fn name(create: &PoolCreateArguments, first: &Path, what: &str) -> Result<String, Failure> {
    let is_name = |text: &str| text.parse::<Name>().is_ok_and(|name| name.point().is_none());
    match &create.name {
        Some(name) if is_name(name) => Ok(name.clone()),
        Some(name) => {
            let shown: String = name.chars().take(40).collect();
            let why = format!("{shown:?} is no name: letters, digits, '.', '_', '-' and '+' make a name");
            Err(Failure::new(Code::Usage, what, why, "--name p0"))
        }
        None => {
            let stem = first.file_stem().and_then(|stem| stem.to_str());
            Ok(stem.filter(|stem| is_name(stem)).unwrap_or("pool").to_owned())
        }
    }
}
