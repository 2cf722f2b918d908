//! How QEMU's programs are told to serve one disk to one client, and what they may use for it.

use crate::contained::{Limits, SOCKET_IN_CHILD};
use serde_json::{Value, json};

pub(crate) const DAEMON: &str = "qemu-storage-daemon";
/// The package of Debian that has it, and qemu-img.
pub(crate) const PACKAGE: &str = "qemu-utils";
const NODE: &str = "disk";

const MEMORY_BYTES: u64 = 768 << 20;
/// CPU time that any disk may take, and that each so many bytes of it may take besides.
const CPU_SECONDS: u64 = 60;
const BYTES_PER_CPU_SECOND: u64 = 16 << 20;

/// For a disk of so many bytes.
pub(crate) fn limits(size: u64) -> Limits {
    Limits { memory_bytes: MEMORY_BYTES, cpu_seconds: CPU_SECONDS + size / BYTES_PER_CPU_SECOND }
}

/// Of the daemon: one node, for reading, on the socket it is handed, as the export without a name.
pub(crate) fn serve_arguments(mut node: Value) -> Vec<String> {
    node["node-name"] = json!(NODE);
    let server = json!({ "addr": { "type": "fd", "str": SOCKET_IN_CHILD }, "max-connections": 1 });
    let export = json!({ "type": "nbd", "id": "export", "node-name": NODE, "name": "", "writable": false });
    let pairs = [("--blockdev", node), ("--nbd-server", server), ("--export", export)];
    pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value.to_string()]).collect()
}
