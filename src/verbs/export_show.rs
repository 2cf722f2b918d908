//! `offshoot export show NAME --for MONITOR`: what to tell a virtual machine monitor, with this export's socket in it, and that of
//! its seed as a second disk.

use crate::arguments::{Monitor, ShowArguments};
use crate::failure::{Code, Failure};
use crate::output::{Format, Style, print, print_json, print_json_line, say};
use crate::pool_choice::PoolChoice;
use crate::reach::LOOK;
use crate::seed;
use crate::wire::{EntryView, ExportView, StatusView};
use clap::ValueEnum as _;
use serde_json::json;
use std::path::PathBuf;

/// A disk of a machine, and where it is served.
struct Disk<'a> {
    name: &'a str,
    socket: PathBuf,
}

pub(super) fn run(pool: &PoolChoice, mut show: ShowArguments, style: Style) -> Result<(), Failure> {
    let text = find(pool, &mut show)?;
    let monitor = show.monitor.to_possible_value().map(|monitor| monitor.get_name().to_owned());
    let document = json!({ "name": show.name, "monitor": monitor, "text": text });
    match style.format {
        Format::Json => print_json("ExportRecipe", &document),
        Format::Jsonl => print_json_line("ExportRecipe", &document),
        _ => print(&text),
    }
}

fn find(pool: &PoolChoice, show: &mut ShowArguments) -> Result<String, Failure> {
    let pool = pool.of([&mut show.name])?;
    let (status, entries, exports) =
        pool.with(LOOK, |reach| Ok((reach.status()?, reach.entries()?, reach.exports()?)))?;
    let is_its_seed = |entry: &&EntryView| seed::clone_of(&entry.properties) == Some(&show.name);
    let seed = entries.iter().find(is_its_seed).map(|entry| entry.name.as_str());
    let disks = match show.monitor {
        Monitor::Nbd => over_nbd(&show.name, seed, &status, &entries)?,
        _ => over_vhost(&show.name, seed, &exports)?,
    };
    Ok(recipe(&disks, show.monitor))
}

/// Everything in the pool is there.
fn over_nbd<'a>(
    name: &'a str,
    seed: Option<&'a str>,
    status: &StatusView,
    entries: &[EntryView],
) -> Result<Vec<Disk<'a>>, Failure> {
    if !entries.iter().any(|entry| entry.name == name) {
        let missing = thinpool::Error::NotFound(name.to_owned());
        return Err(crate::explain::engine(format!("{name} cannot be shown"), &missing));
    }
    let socket = nbd_socket(status)?;
    Ok([name].into_iter().chain(seed).map(|name| Disk { name, socket: socket.clone() }).collect())
}

/// Where the daemon listens; where none does, where it usually would.
fn nbd_socket(status: &StatusView) -> Result<PathBuf, Failure> {
    let socket = |address: &String| Some(PathBuf::from(address.split_once("///?socket=")?.1));
    if let Some(socket) = status.nbd.iter().find_map(socket) {
        return Ok(socket);
    }
    let directory = crate::run_directory::RunDirectory::choose()?;
    Ok(directory.path().join(format!("{}.nbd", status.pool_id)))
}

/// What is exported of them.
fn over_vhost<'a>(
    name: &'a str,
    seed: Option<&'a str>,
    exports: &[ExportView],
) -> Result<Vec<Disk<'a>>, Failure> {
    let find = |name: &'a str| {
        let export = exports.iter().find(|export| export.name == name)?;
        Some(Disk { name, socket: export.socket.clone() })
    };
    let disk = find(name).ok_or_else(|| {
        let (what, why) = (format!("{name} cannot be shown"), format!("{name} is not exported"));
        Failure::new(Code::NotFound, what, why, format!("offshoot export start {name}"))
    })?;
    let its_seed = seed.and_then(find);
    if let (Some(seed), None) = (seed, &its_seed) {
        say(&format!("note: its seed is not exported; next: offshoot export start {seed}"));
    }
    Ok([disk].into_iter().chain(its_seed).collect())
}

/// The first disk is what the machine starts from, one after it is its seed.
fn recipe(disks: &[Disk<'_>], monitor: Monitor) -> String {
    let (before, between, after) = match monitor {
        Monitor::Qemu => (
            "-object memory-backend-memfd,id=memory,size=2G,share=on -numa node,memdev=memory \\\n",
            " \\\n",
            "\n",
        ),
        Monitor::Libvirt => (
            "<!-- in <domain>: <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking> -->\n",
            "",
            "",
        ),
        Monitor::CloudHypervisor => ("--memory size=2G,shared=on \\\n--disk ", " ", "\n"),
        Monitor::Firecracker | Monitor::Crosvm | Monitor::Nbd => ("", "", ""),
    };
    let all: Vec<String> =
        disks.iter().enumerate().map(|(number, disk)| part(disk, number, monitor)).collect();
    format!("{before}{}{after}", all.join(between))
}

fn part(disk: &Disk<'_>, number: usize, monitor: Monitor) -> String {
    let (name, socket) = (disk.name, disk.socket.display());
    let (target, more) = if number == 0 { ("vda", "") } else { ("vdb", "<readonly/>") };
    match monitor {
        Monitor::Qemu => format!(
            "-chardev socket,id=offshoot{number},path={socket},reconnect=1 \\\n\
             -device vhost-user-blk-pci,chardev=offshoot{number},num-queues=2"
        ),
        Monitor::Libvirt => format!(
            "<disk type='vhostuser' device='disk'>\n  <driver name='qemu' type='raw' queues='2'/>\n  \
             <source type='unix' path='{socket}'><reconnect enabled='yes' timeout='5'/></source>\n  \
             <target dev='{target}' bus='virtio'/>\n</disk>\n"
        ),
        Monitor::CloudHypervisor => {
            format!("vhost_user=true,socket={socket},num_queues=2,queue_size=128")
        }
        Monitor::Firecracker => {
            let is_root = number == 0;
            format!(
                "PUT /drives/{name}\n{{\"drive_id\":\"{name}\",\"socket\":\"{socket}\",\"is_root_device\":{is_root}}}\n"
            )
        }
        Monitor::Crosvm => format!("--vhost-user block,socket={socket}\n"),
        Monitor::Nbd => format!(
            "<disk type='network' device='disk'>\n  <driver name='qemu' type='raw' discard='unmap'/>\n  \
             <source protocol='nbd' name='{name}'><host transport='unix' socket='{socket}'/></source>\n  \
             <target dev='{target}' bus='virtio'/>{more}\n</disk>\n"
        ),
    }
}
