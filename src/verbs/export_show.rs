//! `offshoot export show NAME --for MONITOR`: what to tell a virtual machine monitor, with this export's socket in it.

use crate::arguments::{Monitor, ShowArguments};
use crate::failure::{Code, Failure};
use crate::output::{Format, Style, print, print_json, print_json_line};
use crate::pool_choice::PoolChoice;
use crate::reach::LOOK;
use crate::wire::{ExportView, StatusView};
use clap::ValueEnum as _;
use serde_json::json;
use std::path::{Path, PathBuf};

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
    let what = format!("{} cannot be shown", show.name);
    if show.monitor == Monitor::Nbd {
        let socket = pool.with(LOOK, |reach| {
            let status = reach.status()?;
            reach.entries()?.iter().find(|entry| entry.name == show.name).ok_or_else(|| {
                crate::explain::engine(what.clone(), &thinpool::Error::NotFound(show.name.clone()))
            })?;
            nbd_socket(&status)
        })?;
        return Ok(nbd(&show.name, &socket));
    }
    let exports = pool.with(LOOK, crate::reach::Reach::exports)?;
    let export = exports.iter().find(|export| export.name == show.name).ok_or_else(|| {
        let why = format!("{} is not exported", show.name);
        Failure::new(Code::NotFound, what, why, format!("offshoot export start {}", show.name))
    })?;
    Ok(recipe(export, show.monitor))
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

fn nbd(name: &str, socket: &Path) -> String {
    let socket = socket.display();
    format!(
        "<disk type='network' device='disk'>\n  <driver name='qemu' type='raw' discard='unmap'/>\n  \
         <source protocol='nbd' name='{name}'><host transport='unix' socket='{socket}'/></source>\n  \
         <target dev='vda' bus='virtio'/>\n</disk>\n"
    )
}

fn recipe(export: &ExportView, monitor: Monitor) -> String {
    let socket = export.socket.display();
    let name = &export.name;
    match monitor {
        Monitor::Qemu => format!(
            "-object memory-backend-memfd,id=memory,size=2G,share=on -numa node,memdev=memory \\\n\
             -chardev socket,id=offshoot0,path={socket},reconnect=1 \\\n\
             -device vhost-user-blk-pci,chardev=offshoot0,num-queues=2\n"
        ),
        Monitor::Libvirt => format!(
            "<!-- in <domain>: <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking> -->\n\
             <disk type='vhostuser' device='disk'>\n  <driver name='qemu' type='raw' queues='2'/>\n  \
             <source type='unix' path='{socket}'><reconnect enabled='yes' timeout='5'/></source>\n  \
             <target dev='vda' bus='virtio'/>\n</disk>\n"
        ),
        Monitor::CloudHypervisor => format!(
            "--memory size=2G,shared=on \\\n--disk vhost_user=true,socket={socket},num_queues=2,queue_size=128\n"
        ),
        Monitor::Firecracker => format!(
            "PUT /drives/{name}\n{{\"drive_id\":\"{name}\",\"socket\":\"{socket}\",\"is_root_device\":true}}\n"
        ),
        Monitor::Crosvm => format!("--vhost-user block,socket={socket}\n"),
        Monitor::Nbd => nbd(name, &export.socket),
    }
}
