//! The API of a daemon: who it answers, what it takes from whoever gets in, jobs, several pools, and what is still there after
//! the daemon was killed.

use crate::api_client::{Answer, call, hear, raw, socket_in};
use crate::cli_program::{Daemon, Place, end};
use rustix::process::geteuid;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

fn get(place: &Place, path: &str) -> Answer {
    call(&socket_in(place.run_directory()), "GET", path, &Value::Null).expect("the daemon answers")
}

fn post(place: &Place, path: &str, order: &Value) -> Answer {
    call(&socket_in(place.run_directory()), "POST", path, order).expect("the daemon answers")
}

fn delete(place: &Place, path: &str) -> Answer {
    call(&socket_in(place.run_directory()), "DELETE", path, &Value::Null).expect("the daemon answers")
}

#[test]
fn nonsense_is_answered_or_hung_up_on_and_the_daemon_goes_on() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    let volumes = "/v1/pools/p/volumes";
    for (path, order, status, why) in [
        (volumes, json!([1, 2]), 422, "invalid type"),
        (volumes, json!({"names": ["v"]}), 422, "size"),
        (volumes, json!({"names": ["v"], "size": 4096, "colour": 1}), 422, "colour"),
        (volumes, json!({"names": ["../x"], "size": 4096}), 400, "starts with '.'"),
        (volumes, json!({"names": ["v"], "size": 1}), 400, "4096"),
        ("/v1/pools/other/volumes", json!({"names": ["v"], "size": 4096}), 404, "other"),
        ("/v1/format", json!({}), 404, "no such path"),
        ("/v1/pools/p/entries", json!({}), 404, "this method"),
        ("/v1/pools/p/clones", json!({"source": "no@one", "names": ["v"]}), 404, "no@one"),
    ] {
        let answer = post(&place, path, &order);
        let said = answer.body["why"].as_str().unwrap_or_default();
        assert_eq!((answer.status, said.contains(why)), (status, true), "{path} {order}: {answer:?}");
        assert_eq!(answer.body["kind"], "Failure");
    }
    let socket = socket_in(place.run_directory());
    for request in [
        "\n\n\n\n",
        "POST /v1/pools/p/volumes HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n\u{7f}",
        "\u{1}\u{2}\r\n\r\n",
    ] {
        let answer = hear(&socket, request, Duration::from_millis(500)).unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
    }
    let long = json!({"names": ["v".repeat(9 << 20)], "size": 4096});
    assert!(call(&socket, "POST", volumes, &long).is_none_or(|answer| answer.status == 413));
    drop(UnixStream::connect(&socket).expect("a caller who says nothing"));
    assert_eq!(get(&place, "/v1/pools/p").body["pool"], "p");
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn the_socket_is_private_and_goes_with_the_daemon() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    let path = socket_in(place.run_directory());
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(place.run_directory())), (0o600, 0o700));
    let mut waiting = UnixStream::connect(&path).expect("it listens");
    assert_eq!(daemon.stop().code, Some(0));
    let left: Vec<_> = fs::read_dir(place.run_directory())
        .expect("readable")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let mut rest = Vec::new();
    assert_eq!(waiting.read_to_end(&mut rest).expect("closed"), 0, "a caller who waits is let go");
}

#[test]
fn a_dry_run_says_what_a_change_would_do_and_changes_nothing() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    place.ok(&["volume", "create", "v", "--size", "1M"]);
    place.ok(&["snap", "create", "v@s"]);
    let before = get(&place, "/v1/pools/p/entries").body;
    for (path, order) in [
        ("volumes", json!({"names": ["w"], "size": 4096})),
        ("clones", json!({"source": "v@s", "names": ["w", "x"]})),
        ("snapshots", json!({"names": ["v@t"]})),
        ("rollbacks", json!({"to": "v@s"})),
        ("removals", json!({"names": ["v"], "recursive": true})),
        ("resizes", json!({"name": "v", "size": 4096})),
        ("labels", json!({"names": ["v"], "labels": {"a": "b"}})),
        ("imports", json!({"version": "i@v", "file": "/nonexistent"})),
        ("grow", json!({"size": 1 << 30})),
        ("exports", json!({"name": "v"})),
        ("settle", json!({})),
        ("thin", json!({})),
    ] {
        let answer = post(&place, &format!("/v1/pools/p/{path}?dry_run=true"), &order);
        assert_eq!((answer.status, &answer.body["kind"]), (200, &json!("Plan")), "{path}: {answer:?}");
    }
    let plan =
        post(&place, "/v1/pools/p/clones?dry_run=true", &json!({"source": "v@s", "names": ["w", "x"]}));
    assert_eq!(plan.body["provisions"], 2 << 20);
    let taken = post(&place, "/v1/pools/p/volumes?dry_run=true", &json!({"names": ["v"], "size": 4096}));
    assert_eq!(taken.status, 409, "a plan meets what the change would meet");
    assert_eq!(get(&place, "/v1/pools/p/entries").body, before);
    assert_eq!(get(&place, "/v1/jobs").body["items"], json!([]));
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn long_work_is_a_job_that_is_followed_and_cancelled() {
    let place = Place::in_memory().with_pool();
    let daemon = place.serve(&[]);
    let disk = place.disk("disk.raw", 192, 7, &(0..40_000).collect::<Vec<_>>());
    let order = |version: &str| json!({"version": version, "file": disk});
    let started = post(&place, "/v1/pools/p/imports", &order("img@v1"));
    assert_eq!((started.status, &started.body["state"]), (202, &json!("running")), "{started:?}");
    let id = started.body["id"].as_str().expect("an identifier").to_owned();
    let request = format!("GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let events = raw(&socket_in(place.run_directory()), &request).expect("events");
    assert!(events.contains("text/event-stream") && events.contains("event: end"), "{events}");
    let job = get(&place, &format!("/v1/jobs/{id}")).body;
    assert_eq!((&job["state"], &job["answer"]["stored"]), (&json!("done"), &json!(40_000_u64 * 4096)));
    assert_eq!(job["done"], job["total"]);
    let started =
        post(&place, "/v1/pools/p/imports", &json!({"version": "other@v1", "file": disk, "base": "nothing"}));
    let id = started.body["id"].as_str().expect("an identifier").to_owned();
    assert_eq!(delete(&place, &format!("/v1/jobs/{id}")).status, 202);
    let ended = place.run(&["job", "follow", &id]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("OFFSHOOT0101"), "{}", ended.err);
    let jobs = place.json(&["job", "ls"]);
    let states: Vec<&Value> =
        jobs["items"].as_array().expect("a list").iter().map(|job| &job["state"]).collect();
    assert_eq!(states, ["done", "cancelled"]);
    let names = place.ok(&["ls", "-o", "name"]);
    assert_eq!(names, "img@v1\n", "nothing of it is left");
    assert_eq!(get(&place, "/v1/jobs/j-00000000").status, 404);
    assert_eq!(daemon.stop().code, Some(0));
    place.run(&["job", "ls"]).fails(7, "none holds this pool");
}

#[test]
fn roles_bound_what_other_users_may_do() {
    assert!(geteuid().is_root(), "this test takes the identity of another user, which root may");
    const NOBODY: u32 = 65_534;
    let place = Place::new().with_pool();
    let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
    let outside = tempfile::tempdir().expect("a directory");
    open(outside.path(), 0o755);
    let program = outside.path().join("offshoot");
    fs::copy(env!("CARGO_BIN_EXE_offshoot"), &program).expect("a copy that everybody reaches");
    open(&program, 0o755);
    let api = outside.path().join("api.sock");
    let config = outside.path().join("offshoot.toml");
    let as_nobody = |arguments: &[&str]| {
        let mut other = std::process::Command::new(&program);
        other.args(arguments).env("OFFSHOOT_API", &api).uid(NOBODY).gid(NOBODY).current_dir(outside.path());
        other
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        end(other.spawn().expect("started"))
    };
    for (role, may_look, may_change) in
        [("", false, false), ("read_only", true, false), ("operator", true, true)]
    {
        let access = if role.is_empty() { String::new() } else { format!("{role} = [\"@{NOBODY}\"]") };
        let pool = place.pool();
        let text = format!(
            "[api]\nsocket = {api:?}\nmode = \"666\"\n[access]\n{access}\n[[pool]]\npath = {pool:?}\n"
        );
        fs::write(&config, text).expect("written");
        let mut command = place.command(&["serve", "--config", config.to_str().expect("text")]);
        let daemon = Daemon::start(command.env_remove("OFFSHOOT_POOL"));
        let code = |ended: &crate::cli_program::Ended| ended.code;
        assert_eq!(code(&as_nobody(&["ls"])) == Some(0), may_look, "{role}");
        let name = format!("by-{}", if role.is_empty() { "nobody" } else { role });
        let made = as_nobody(&["volume", "create", &name, "--size", "1M"]);
        assert_eq!(code(&made) == Some(0), may_change, "{role}: {}", made.err);
        let grown = as_nobody(&["image", "import", "i@v", "/etc/hostname"]);
        assert_ne!(code(&grown), Some(0), "files of the machine are an admin's");
        assert!(
            grown.err.contains(if may_look { "takes the role admin" } else { "has no role" }),
            "{}",
            grown.err
        );
        assert_eq!(daemon.stop().code, Some(0));
    }
    let history = place.json(&["history"]);
    let by_nobody =
        history["items"].as_array().expect("a list").iter().filter(|record| record["user"] == NOBODY).count();
    assert_eq!(by_nobody, 1, "{history}");
}

#[test]
fn a_daemon_holds_several_pools_and_names_say_which() {
    let place = Place::new().with_pool();
    place.ok(&["pool", "create", "q.pool", "--size", "256M"]);
    let mut command = place.command(&["serve", "p", "q"]);
    let daemon = Daemon::start(command.env_remove("OFFSHOOT_POOL"));
    let run = |arguments: &[&str]| {
        end(place.command(arguments).env_remove("OFFSHOOT_POOL").spawn().expect("started"))
    };
    run(&["volume", "create", "p/one", "p/two", "--size", "1M"]).ok();
    run(&["volume", "create", "q/three", "--size", "1M"]).ok();
    assert_eq!(run(&["ls", "p/", "-o", "name"]).ok(), "one\ntwo\n");
    assert_eq!(run(&["ls", "q/", "-o", "name"]).ok(), "three\n");
    run(&["rm", "p/one", "q/three", "--yes"]).fails(2, "several pools");
    run(&["ls"]).fails(2, "several: p, q");
    run(&["ls", "r/x"]).fails(3, "no pool is known as \"r\"");
    assert_eq!(get(&place, "/v1/pools").body["items"].as_array().map(Vec::len), Some(2));
    let listed = run(&["pool", "ls", "-o", "jsonl"]).ok();
    let served = listed.lines().filter(|line| line.contains("\"served\":true")).count();
    assert_eq!(served, 2, "{listed}");
    place.run(&["serve", "p"]).fails(4, "in use by process");
    assert_eq!(daemon.stop().code, Some(0));
    run(&["pool", "check", "p"]).ok();
    run(&["pool", "check", "q"]).ok();
}

#[test]
fn exports_come_back_with_the_daemon() {
    let place = Place::in_memory().with_pool();
    let daemon = place.serve(&[]);
    place.ok(&["volume", "create", "{a,b,c}", "--size", "1M"]);
    let socket = place.path("b.sock");
    let sockets = place.ok(&["export", "start", "a", "c"]);
    place.ok(&["export", "start", "b", "--socket", socket.to_str().expect("text"), "--read-only"]);
    place.ok(&["export", "stop", "c"]);
    let before = place.json(&["export", "ls"]);
    daemon.kill();
    let daemon = place.serve(&[]);
    let after = place.json(&["export", "ls"]);
    assert_eq!(after, before);
    assert_eq!(after["items"].as_array().map(Vec::len), Some(2));
    for path in sockets.lines().take(1).map(Path::new).chain([socket.as_path()]) {
        UnixStream::connect(path).expect("a virtual machine can connect");
    }
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn every_change_is_in_the_history_with_its_outcome() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "1M"]);
    let daemon = place.serve(&[]);
    place.ok(&["snap", "create", "v@s"]);
    place.run(&["snap", "create", "v@s"]).fails(4, "exists");
    place.ok(&["pool", "settle"]);
    place.ok(&["ls"]);
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["rm", "-r", "v", "--yes"]);
    let records = place.json(&["history"]);
    let seen: Vec<(&str, bool)> = records["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|record| (record["command"].as_str().expect("text"), record["failure"].is_null()))
        .collect();
    let expected = [
        ("pool create", true),
        ("volume create", true),
        ("snap create", true),
        ("snap create", false),
        ("pool settle", true),
        ("rm", true),
    ];
    assert_eq!(seen, expected);
    assert_eq!(records["items"][2]["order"]["names"], json!(["v@s"]));
    assert!(records["items"][4]["job"].as_str().is_some_and(|job| job.starts_with("j-")));
    let file = place.state_directory().join("history.jsonl");
    assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_pool_is_changed_in_part() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    let patch = |path: &str, order: Value| {
        call(&socket_in(place.run_directory()), "PATCH", path, &order).expect("the daemon answers")
    };
    let changed = patch("/v1/pools/p", json!({"warn_percent": 70}));
    let thresholds = json!({"warn_percent": 70, "critical_percent": 95, "overcommit_max": 8.0});
    assert_eq!((changed.status, &changed.body["thresholds"]), (200, &thresholds));
    let dry = patch("/v1/pools/p?dry_run=true", json!({"warn_percent": 60}));
    assert_eq!((dry.status, &dry.body["kind"]), (200, &json!("Plan")));
    for (order, status) in [
        (json!({}), 400),
        (json!({"warn_percent": 96}), 400),
        (json!({"critical_percent": 101}), 400),
        (json!({"overcommit_max": 0}), 400),
        (json!({"warn_percent": 256}), 422),
        (json!({"colour": 1}), 422),
    ] {
        assert_eq!(patch("/v1/pools/p", order.clone()).status, status, "{order}");
        assert_eq!(patch("/v1/pools/p?dry_run=true", order.clone()).status, status, "{order}");
    }
    assert_eq!(get(&place, "/v1/pools/p").body["thresholds"], thresholds);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn the_document_of_the_interface_has_every_path() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    let document = get(&place, "/v1/openapi.json").body;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
    let paths = document["paths"].as_object().expect("paths");
    for path in ["/v1", "/v1/pools", "/v1/pools/{pool}/clones", "/v1/jobs/{id}/events", "/v1/history"] {
        assert!(paths.contains_key(path), "{path}");
    }
    let socket = socket_in(place.run_directory());
    for (path, methods) in paths {
        let real = path.replace("{pool}", "p").replace("{name}", "nothing").replace("{id}", "j-0");
        for (method, operation) in methods.as_object().expect("methods") {
            assert!(
                operation["responses"].is_object()
                    && operation["description"].as_str().or(operation["summary"].as_str()).is_some(),
                "{path}"
            );
            let answer = call(&socket, &method.to_uppercase(), &real, &json!({})).expect("an answer");
            let why = answer.body["why"].as_str().unwrap_or_default();
            assert!(!why.contains("no such path"), "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(get(&place, "/v1").body["role"], "admin");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_word_that_is_not_known_changes_nothing() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    place.ok(&["volume", "create", "v", "--size", "1M"]);
    for path in [
        "/v1/pools/p/entries/v?dry-run=true",
        "/v1/pools/p/entries/v?dry_run=yes",
        "/v1/pools/p/entries/v?dryrun",
    ] {
        let answer = delete(&place, path);
        assert_eq!((answer.status, &answer.body["kind"]), (400, &json!("Failure")), "{path}: {answer:?}");
    }
    let removal = post(&place, "/v1/pools/p/removals?dryRun=true", &json!({"names": ["v"]}));
    assert_eq!(removal.status, 400, "{removal:?}");
    assert_eq!(place.ok(&["ls", "-o", "name"]), "v\n");
    assert_eq!(get(&place, "/v1/history?limit=0").body["items"], json!([]));
    assert_eq!(delete(&place, "/v1/pools/p/entries/v").status, 200);
    assert_eq!(place.ok(&["ls", "-o", "name"]), "");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_pool_chooses_no_sockets_on_a_machine_where_nobody_asked_for_them() {
    let place = Place::in_memory().with_pool();
    let daemon = place.serve(&[]);
    place.ok(&["volume", "create", "a", "b", "--size", "1M"]);
    let socket = place.path("chosen.sock");
    place.ok(&["export", "start", "a", "--socket", socket.to_str().expect("text"), "--socket-mode", "666"]);
    place.ok(&["export", "start", "b"]);
    assert_eq!(daemon.stop().code, Some(0));
    let elsewhere = tempfile::tempdir().expect("a directory");
    let mut command = place.command(&["serve", "--socket", "nbd.sock"]);
    let daemon = Daemon::start(command.env("OFFSHOOT_STATE_DIR", elsewhere.path()));
    assert!(!socket.exists());
    assert_eq!(place.ok(&["export", "ls", "-o", "name"]), "b\n");
    place.ok(&["export", "stop", "a"]);
    let ended = daemon.stop();
    assert!(ended.err.contains("was not asked for on this machine"), "{}", ended.err);
    let daemon = place.serve(&[]);
    assert!(!socket.exists(), "what was not started is forgotten all the same");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn the_socket_of_a_killed_daemon_leads_to_no_other_pool() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "1M"]);
    place.ok(&["pool", "create", "q.pool", "--size", "256M"]);
    place.serve(&[]).kill();
    let mut command = place.command(&["serve", "q"]);
    let daemon = Daemon::start(command.env_remove("OFFSHOOT_POOL"));
    assert_eq!(place.ok(&["ls", "-o", "name"]), "v\n", "the pool whose daemon was killed is nobody's");
    assert_eq!(place.ok(&["--pool", "q", "ls", "-o", "name"]), "");
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn nobody_keeps_others_out_by_connecting() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    let socket = socket_in(place.run_directory());
    let crowd: Vec<UnixStream> =
        (0..200).map(|_| UnixStream::connect(&socket).expect("it listens")).collect();
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", daemon.process_id())).expect("ours").count();
    // Those without a seat are hung up on.
    let mut last = crowd.last().expect("many");
    last.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    assert_eq!(last.read(&mut [0]).expect("hung up on"), 0);
    assert!(descriptors() < 150, "{}", descriptors());
    drop(crowd);
    // The daemon hears of it a moment later.
    assert!((0..100).any(|_| place.run(&["ls"]).code == Some(0)), "the seats are free again");
    assert_eq!(daemon.stop().code, Some(0));
}
