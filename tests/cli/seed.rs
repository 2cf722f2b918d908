//! Seeds of clones: what real tools find in them, what is refused, and that a seed comes and goes with its clone.

use crate::api_client::{call, socket_in};
use crate::cli_program::{Ended, Place};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

/// Bytes that a careless copy changes.
const USER_DATA: &str = "#cloud-config\r\nssh_pwauth: false # \u{e4}\n\npassword: s3cret";
const NETWORK: &str = "version: 2\nethernets: {all: {match: {name: 'e*'}, dhcp4: true}}\n";

fn place() -> Place {
    let place = Place::in_memory().with_pool();
    place.disk("golden.raw", 8, 7, &[0, 5]);
    place.ok(&["image", "import", "img@v1", "golden.raw"]);
    std::fs::write(place.path("user.yaml"), USER_DATA).expect("written");
    std::fs::write(place.path("network.yaml"), NETWORK).expect("written");
    place
}

fn seeded(place: &Place, names: &str) -> Ended {
    place.run(&["clone", "create", "img@v1", names, "--seed", "user.yaml"])
}

fn names(place: &Place) -> Vec<String> {
    place.ok(&["ls", "-o", "name"]).lines().filter(|name| *name != "img@v1").map(str::to_owned).collect()
}

/// What a program prints that must work.
#[track_caller]
fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program is installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Reads a seed over NBD and holds it to what tools for FAT say; returns its `meta-data`.
fn meta_data(place: &Place, clone: &str) -> String {
    let (socket, copy) = (place.path("nbd.sock"), place.path(&format!("{clone}.img")));
    let copy = copy.to_str().expect("text");
    tool("nbdcopy", &[&format!("nbd+unix:///{clone}-seed?socket={}", socket.display()), copy]);
    tool("fsck.fat", &["-n", copy]);
    let label = tool("blkid", &["-p", "-o", "export", copy]);
    let has = |line: &str| label.lines().any(|found| found == line);
    assert!(has("TYPE=vfat") && has("LABEL=CIDATA"), "{label}");
    let listed = tool("mdir", &["-b", "-i", copy, "::"]);
    let files: BTreeSet<&str> = listed.lines().map(|line| line.trim_start_matches("::/")).collect();
    assert_eq!(files, BTreeSet::from(["meta-data", "network-config", "user-data"]));
    let file = |name: &str| tool("mtype", &["-i", copy, &format!("::{name}")]);
    assert_eq!((file("user-data").as_str(), file("network-config").as_str()), (USER_DATA, NETWORK));
    file("meta-data")
}

#[test]
fn every_clone_gets_a_seed_that_real_tools_read() {
    for is_served in [false, true] {
        let place = place();
        let daemon = is_served.then(|| place.serve(&[]));
        let create = |names: &str| {
            let seed = ["--seed", "user.yaml", "--seed-network", "network.yaml", "-L", "env=lab"];
            place.json(&[&["clone", "create", "img@v1", names], seed.as_slice()].concat())
        };
        let made = create("desk-{1..3}");
        assert_eq!(made["seeds"], json!(["desk-1-seed", "desk-2-seed", "desk-3-seed"]));
        let daemon = daemon.unwrap_or_else(|| place.serve(&[]));
        let mut instances = BTreeSet::new();
        let mut look = |clone: &str| {
            let meta = meta_data(&place, clone);
            let (instance, host) = meta.split_once('\n').expect("two lines");
            assert_eq!(host, format!("local-hostname: \"{clone}\"\n"));
            assert!(instance.starts_with(&format!("instance-id: \"{clone}-")), "{instance}");
            assert!(instances.insert(instance.to_owned()), "{instance} is there twice");
        };
        ["desk-1", "desk-2", "desk-3"].iter().for_each(|clone| look(clone));
        place.ok(&["rm", "desk-2", "--yes"]);
        create("desk-2");
        look("desk-2");
        assert_eq!(place.ok(&["clone", "ls", "-o", "name"]), "desk-1\ndesk-2\ndesk-3\n");
        assert_eq!(place.ok(&["ls", "-o", "name", "-l", "env=lab"]), "desk-1\ndesk-2\ndesk-3\n");
        let history = place.ok(&["history", "-o", "json"]);
        assert!(history.contains("desk-3") && !history.contains("s3cret"), "{history}");
        assert_eq!(daemon.stop().code, Some(0));
        place.ok(&["pool", "check"]);
    }
}

#[test]
fn what_cannot_be_a_seed_is_refused_and_nothing_is_made() {
    let place = place();
    assert!(seeded(&place, "old").code == Some(0));
    for (name, bytes) in [
        ("prose.txt", b"hostname: x\n".as_slice()),
        ("empty", b""),
        ("packed.gz", &[0x1f, 0x8b, 8, 0, 0xff]),
        ("long", &[b"#!".as_slice(), &[b'x'; 512 << 10]].concat()),
        ("long.net", &[b'x'; (64 << 10) + 1]),
    ] {
        std::fs::write(place.path(name), bytes).expect("written");
    }
    let before = place.json(&["ls"]);
    for daemon in [None, Some(())] {
        let daemon = daemon.map(|()| place.serve(&[]));
        for (line, code, why) in [
            ("new --seed prose.txt", 2, "begins with nothing that cloud-init knows"),
            ("new --seed empty", 2, "no bytes"),
            ("new --seed packed.gz", 2, "no text"),
            ("new --seed long", 2, "longer than the 512 KiB"),
            ("new --seed nowhere", 3, "nowhere cannot be read"),
            ("new --seed user.yaml --seed-network empty", 2, "no bytes"),
            ("new --seed user.yaml --seed-network long.net", 2, "longer than the 64 KiB"),
            ("new --seed-network network.yaml", 2, "--seed"),
            ("new new_host --seed user.yaml", 2, "new_host cannot be the name of a machine"),
            ("new old --seed user.yaml", 4, "old exists already"),
            ("new old-seed --seed user.yaml", 4, "old-seed exists already"),
            ("new new-seed --seed user.yaml", 2, "new-seed is named twice"),
            ("new --seed user.yaml --size 4M", 2, "8388608 bytes at least"),
        ] {
            let words: Vec<&str> = ["clone", "create", "img@v1"].into_iter().chain(line.split(' ')).collect();
            place.run(&words).fails(code, why);
            place.run(&[words.as_slice(), &["--dry-run"]].concat()).fails(code, why);
        }
        if let Some(daemon) = daemon {
            let clones = "/v1/pools/p/clones";
            let post = |seed: Value| {
                let order = json!({"source": "img@v1", "names": ["new"], "seed": seed});
                call(&socket_in(place.run_directory()), "POST", clones, &order).expect("an answer")
            };
            assert_eq!(post(json!({"user_data": "x"})).status, 400);
            assert_eq!(post(json!({"user_data": format!("#!{}", "x".repeat(512 << 10))})).status, 400);
            assert_eq!(post(json!({"user_data": "#!", "network_config": ""})).status, 400);
            assert_eq!(post(json!({"user_data": "#!", "colour": "red"})).status, 422);
            assert_eq!(daemon.stop().code, Some(0));
        }
    }
    assert_eq!(place.json(&["ls"]), before);
    let plan = place.json(&["clone", "create", "img@v1", "new", "--seed", "user.yaml", "--dry-run"]);
    assert_eq!((&plan["names"], &plan["provisions"]), (&json!(["new", "new-seed"]), &json!(9 << 20)));
    place.ok(&["pool", "check"]);
}

#[test]
fn a_seed_goes_with_its_clone() {
    let place = place();
    let daemon = place.serve(&[]);
    seeded(&place, "desk-{1..4}").ok();
    let plan = place.json(&["rm", "desk-1", "--dry-run"]);
    assert_eq!(plan["names"], json!(["desk-1", "desk-1-seed"]));
    assert!(
        plan["summary"].as_str().is_some_and(|text| text.contains("with its seed desk-1-seed")),
        "{plan}"
    );
    place.ok(&["export", "start", "desk-1-seed", "desk-2"]);
    place.run(&["rm", "desk-1", "--yes"]).fails(4, "desk-1-seed is in use");
    place.run(&["rm", "desk-2*", "--yes"]).fails(4, "desk-2 is in use");
    assert_eq!(names(&place).len(), 8, "neither went without the other");
    place.ok(&["export", "stop", "desk-1-seed", "desk-2"]);
    place.ok(&["snap", "create", "desk-3-seed@s"]);
    let plan = place.ok(&["rm", "desk-3", "--dry-run"]);
    assert!(plan.contains("with its seed desk-3-seed with 1 snapshots"), "{plan}");
    place.ok(&["rm", "desk-3", "--yes"]);
    let removed = place.json(&["rm", "desk-1*", "desk-2", "--yes"]);
    assert_eq!(removed["names"], json!(["desk-1", "desk-1-seed", "desk-2", "desk-2-seed"]));
    place.ok(&["rm", "desk-4-seed", "--yes"]);
    assert_eq!(names(&place), ["desk-4"], "a seed may go alone");
    place.ok(&["volume", "create", "desk-4-seed", "--size", "1M"]);
    place.ok(&["rm", "desk-4", "--yes"]);
    assert_eq!(names(&place), ["desk-4-seed"], "a name alone makes no seed");
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn a_seed_is_exported_for_reading_and_shown_beside_its_clone() {
    let place = place();
    let daemon = place.serve(&[]);
    seeded(&place, "desk").ok();
    place.ok(&["export", "start", "desk"]);
    let show = |monitor: &str| place.run(&["export", "show", "desk", "--for", monitor]);
    let alone = show("qemu");
    assert!(alone.err.contains("offshoot export start desk-seed"), "{}", alone.err);
    assert!(!alone.ok().contains("offshoot1"));
    place.ok(&["export", "start", "desk*"]);
    let listed = place.ok(&["export", "ls", "-o", "csv", "--columns", "name,access", "--no-headers"]);
    assert_eq!(listed, "desk,read-write\r\ndesk-seed,read-only\r\n");
    for monitor in ["qemu", "libvirt", "cloud-hypervisor", "firecracker", "crosvm"] {
        let text = show(monitor).ok();
        let disk = text.find(".desk.vhost").expect("the clone's socket");
        assert!(text.find(".desk-seed.vhost").is_some_and(|seed| seed > disk), "{text}");
    }
    assert!(show("nbd").ok().contains("name='desk-seed'"));
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn after_a_kill_every_clone_has_its_seed_or_there_are_neither() {
    const CLONES: usize = 60;
    let pattern = format!("desk-{{1..{CLONES}}}");
    for killed_at in [1, 9, 25, 40, 59] {
        let place = place();
        let daemon = place.serve(&[]);
        let words = ["clone", "create", "img@v1", &pattern, "--seed", "user.yaml"];
        let mut command = place.command(&words).spawn().expect("started");
        while names(&place).len() < killed_at && command.try_wait().expect("our own").is_none() {}
        daemon.kill();
        drop(crate::cli_program::end(command));
        let daemon = place.serve(&[]);
        let left = names(&place);
        println!("killed with {killed_at} names there: {} are left", left.len());
        assert!(left.is_empty() || left.len() == 2 * CLONES, "{left:?}");
        if left.is_empty() {
            seeded(&place, &pattern).ok();
        }
        assert_eq!(names(&place).len(), 2 * CLONES);
        assert_eq!(daemon.stop().code, Some(0));
        place.ok(&["pool", "check"]);
    }
}
