//! `offshoot pool create PATH --size SIZE`: a new file, or nothing.

use crate::arguments::PoolCreateArguments;
use crate::clock;
use crate::explain;
use crate::failure::{Code, Failure};
use crate::output::{Style, say, tell};
use crate::pool_file;
use crate::registry::{Entered, Registry};
use blockstore::{Access, Device, Engine};
use cow_tree::units::PoolId;
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use thinpool::{CreateOptions, Name};

pub(super) fn run(create: &PoolCreateArguments, engine: Engine, style: Style) -> Result<(), Failure> {
    let path = &create.path;
    let what = format!("the pool {} was not created", path.display());
    let options = options(create, &what)?;
    if pool_file::is_block_device(path) {
        if create.size.is_some() {
            let why = "a block device is used whole";
            return Err(Failure::new(Code::Usage, what, why, "the same command without --size"));
        }
        let device = pool_file::open(path, Access::ReadWrite, engine)?;
        format(&device, &options, &what)?;
        return report(path, &options.name, device.size(), style);
    }
    let size = create.size.ok_or_else(|| {
        Failure::new(
            Code::Usage,
            what.clone(),
            "--size is missing",
            format!("offshoot pool create {} --size 10G", path.display()),
        )
    })?;
    let device = pool_file::create(path, size.bytes(), engine, &what)?;
    format_file(path, device, &options, &what)?;
    report(path, &options.name, size.bytes(), style)
}

/// The file goes again when the pool cannot be made in it.
fn format_file(
    path: &Path,
    device: Arc<dyn Device>,
    options: &CreateOptions,
    what: &str,
) -> Result<(), Failure> {
    format(&device, options, what).map_err(|mut failure| {
        drop(device);
        if let Err(error) = std::fs::remove_file(path) {
            failure.why.push_str(&format!("; the unfinished {} stays behind: {error}", path.display()));
        }
        failure
    })
}

fn format(device: &Arc<dyn Device>, options: &CreateOptions, what: &str) -> Result<(), Failure> {
    thinpool::create(device.clone(), options).map_err(|error| explain::engine(what, &error))
}

fn report(path: &Path, name: &str, bytes: u64, style: Style) -> Result<(), Failure> {
    let entered = Registry::open().and_then(|registry| registry.enter(name, path));
    let next = match entered {
        Ok(Entered::Yes) => format!("next: offshoot image import {name}/golden@v1 FILE"),
        Ok(Entered::Taken(other)) => {
            say(&format!("note: {name} stands for {}; this pool goes by its path", other.display()));
            format!("next: offshoot --pool {} image import golden@v1 FILE", path.display())
        }
        Err(failure) => {
            say(&format!("note: {}: {}", failure.what, failure.why));
            format!("next: offshoot --pool {} image import golden@v1 FILE", path.display())
        }
    };
    let sentence = format!("created {name} in {}, {}; {next}", path.display(), style.size(bytes));
    tell(style, "PoolCreated", &json!({ "pool": name, "path": path, "size": bytes }), &sentence)
}

fn options(create: &PoolCreateArguments, what: &str) -> Result<CreateOptions, Failure> {
    let mut pool_id = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut pool_id)).map_err(|error| {
        Failure::new(Code::Failed, what, format!("no random id: {error}"), "ls -l /dev/urandom")
    })?;
    Ok(CreateOptions {
        name: name(create, what)?,
        pool_id: PoolId(pool_id),
        created_unix: clock::unix_seconds(),
        ..CreateOptions::default()
    })
}

/// The name given, or the file's without its extension where that is a name; else `pool`.
fn name(create: &PoolCreateArguments, what: &str) -> Result<String, Failure> {
    let is_name = |text: &str| text.parse::<Name>().is_ok_and(|name| name.point().is_none());
    match &create.name {
        Some(name) if is_name(name) => Ok(name.clone()),
        Some(name) => {
            let shown: String = name.chars().take(40).collect();
            let why = format!("{shown:?} is no name: letters, digits, '.', '_', '-' and '+' make a name");
            Err(Failure::new(Code::Usage, what, why, "--name p0"))
        }
        None => {
            let stem = create.path.file_stem().and_then(|stem| stem.to_str());
            Ok(stem.filter(|stem| is_name(stem)).unwrap_or("pool").to_owned())
        }
    }
}
