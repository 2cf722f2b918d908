//! What clients learn of an export beside its bytes: whose blocks they are, and what has changed since a snapshot.

use super::{Client, Place, end, run, trim, uri, write};
use serde_json::Value;

/// Offset and length in blocks, and the flags.
type Runs = Vec<(u64, u64, u64)>;

fn map(place: &Place, export: &str, context: &str) -> Runs {
    let text = run("nbdinfo", &["--json", &format!("--map={context}"), &uri(place, export)]);
    let items: Vec<Value> = serde_json::from_str(&text).expect("a list");
    let number = |item: &Value, key: &str| item[key].as_u64().expect("a number");
    let run = |item| (number(item, "offset") / 4096, number(item, "length") / 4096, number(item, "type"));
    items.iter().map(run).collect()
}

/// A volume of 64 blocks with a snapshot and writes before and after it, and a clone of the snapshot.
fn with_a_lineage() -> Place {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "256K"]);
    let daemon = place.serve(&[]);
    let mut client = Client::open(&place.path("nbd.sock"), "v").expect("served");
    write(&mut client, 0, 16);
    client.close().expect("served");
    place.ok(&["snap", "create", "v@monday"]);
    let mut client = Client::open(&place.path("nbd.sock"), "v").expect("served");
    write(&mut client, 4, 2);
    trim(&mut client, 8, 4);
    write(&mut client, 32, 1);
    client.close().expect("served");
    place.ok(&["clone", "create", "v@monday", "w"]);
    end(&place, daemon);
    place
}

#[test]
fn libnbd_tells_what_has_changed_since_a_snapshot_and_whose_blocks_they_are() {
    let place = with_a_lineage();
    let daemon = place.serve(&[]);
    let since = map(&place, "v", "qemu:dirty-bitmap:monday");
    assert_eq!(since, [(0, 4, 0), (4, 2, 1), (6, 2, 0), (8, 4, 1), (12, 20, 0), (32, 1, 1), (33, 31, 0)]);
    assert_eq!(
        map(&place, "v", "qemu:allocation-depth"),
        [(0, 4, 2), (4, 2, 1), (6, 2, 2), (8, 4, 0), (12, 4, 2), (16, 16, 0), (32, 1, 1), (33, 31, 0)]
    );
    assert_eq!(
        map(&place, "v", "offshoot:shared"),
        [(0, 4, 1), (4, 2, 0), (6, 2, 1), (8, 4, 0), (12, 4, 1), (16, 48, 0)]
    );
    assert_eq!(map(&place, "w", "qemu:allocation-depth"), [(0, 16, 2), (16, 48, 0)]);
    end(&place, daemon);
}

/// The way of a backup: a full copy of a snapshot, and later only the blocks that have changed since.
#[test]
fn a_backup_of_what_has_changed_makes_an_old_copy_the_newer_one() {
    let place = with_a_lineage();
    let daemon = place.serve(&[]);
    let (old, new) = (place.path("old.raw"), place.path("new.raw"));
    run("nbdcopy", &[uri(&place, "v@monday").as_str(), super::path(&old)]);
    place.ok(&["snap", "create", "v@tuesday"]);
    run("nbdcopy", &[uri(&place, "v@tuesday").as_str(), super::path(&new)]);
    let mut copy = std::fs::read(&old).expect("copied");
    let whole = std::fs::read(&new).expect("copied");
    assert_ne!(copy, whole);
    for (start, length, changed) in map(&place, "v@tuesday", "qemu:dirty-bitmap:monday") {
        let range = [start, start + length].map(|block| usize::try_from(block * 4096).expect("small"));
        if changed == 1 {
            copy[range[0]..range[1]].copy_from_slice(&whole[range[0]..range[1]]);
        }
    }
    assert!(copy == whole);
    end(&place, daemon);
}

#[test]
fn a_list_tells_what_every_export_is_and_what_can_be_asked_of_it() {
    let place = with_a_lineage();
    let daemon = place.serve(&[]);
    let text = run("nbdinfo", &["--list", "--json", &uri(&place, "")]);
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let export = |name: &str| {
        let exports = list["exports"].as_array().expect("a list");
        exports.iter().find(|export| export["export-name"] == name).expect("listed").clone()
    };
    let (v, monday, w) = (export("v"), export("v@monday"), export("w"));
    assert_eq!(v["description"], "volume");
    assert_eq!(monday["description"], "snapshot, made from v");
    assert_eq!(w["description"], "volume, made from v@monday");
    let contexts = |export: &Value| export["contexts"].as_array().expect("a list").len();
    assert_eq!((contexts(&v), contexts(&monday), contexts(&w)), (4, 3, 3));
    for (capability, of_a_volume) in [("can_cache", true), ("can_fast_zero", true), ("can_multi_conn", true)]
    {
        assert_eq!(v[capability], of_a_volume, "{capability}");
    }
    assert_eq!(
        (&monday["is_read_only"], &monday["can_fast_zero"]),
        (&Value::Bool(true), &Value::Bool(false))
    );
    end(&place, daemon);
}
