//! Every command that prints data prints the JSON that `shapes.json` says: which keys, and of what type. What is an API's type there is that of the OpenAPI document, so that programs meet the same over both ways. A command
//! that has no line there fails this test, and so does one that this test never runs.

use crate::api_client::{call, socket_in};
use crate::cli_program::Place;
use crate::json_shape::{Types, differences, of_schema};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Without a daemon, in this order.
const ALONE: [&str; 35] = [
    "pool create p.pool --size 256M --warn 80",
    "pool set --critical 90",
    "pool register p.pool",
    "pool grow --add q.pool --size 256M",
    "pool grow --size 512M",
    "image import golden@v1 golden.raw",
    "image import old@v1 golden.raw",
    "image export golden@v1 copy.raw",
    "volume create data spare --size 16M --label env=lab",
    "volume resize data --size 8M",
    "clone create golden@v1 desk-{1..3} other",
    "snap create desk-1@s data@t",
    "snap rollback desk-1@s",
    "label data --set env=office --unset os",
    "pool ls",
    "pool status",
    "pool check",
    "pool settle",
    "pool thin",
    "image ls",
    "volume ls",
    "clone ls",
    "snap ls",
    "ls",
    "tree",
    "df",
    "snap rm data@t",
    "image rm old@v1",
    "volume rm spare",
    "clone rm other",
    "rm desk-3",
    "history",
    "doctor",
    "explain",
    "explain OFFSHOOT0501",
];
const SERVED: [&str; 8] = [
    "export start desk-1",
    "export set desk-1 --iops 500",
    "export ls",
    "export show desk-1",
    "image import late@v1 golden.raw",
    "job ls",
    "pool status",
    "export stop desk-1",
];
const LAST: [&str; 2] = ["quickstart quick", "pool forget p"];

/// A pool, the shapes of what is said about it, and which commands have been run.
struct Session {
    place: Place,
    /// Those of the API.
    shared: Types,
    /// Those, and what only commands print.
    types: Types,
    commands: Types,
    /// What each command can be told, by its words.
    helps: BTreeMap<String, String>,
    seen: RefCell<BTreeSet<String>>,
}

impl Session {
    fn new() -> Self {
        let place = Place::new();
        place.disk("golden.raw", 8, 7, &[0, 5]);
        std::fs::create_dir(place.path("quick")).expect("a directory");
        let text = include_str!("shapes.json");
        let mut shapes: Map<String, Value> = serde_json::from_str(text).expect("one JSON document");
        let mut part = |key: &str| match shapes.remove(key) {
            Some(Value::Object(part)) => part,
            other => panic!("{key} is {other:?}"),
        };
        let (shared, own, commands) = (part("types of the API"), part("own types"), part("commands"));
        let types = shared.clone().into_iter().chain(own).collect();
        let help = |words: Vec<String>| {
            let text = place.ok(&[words.as_slice(), &["--help".to_owned()]].concat());
            (words.join(" "), text)
        };
        let helps = place.commands().into_iter().map(help).collect();
        Self { place, shared, types, commands, helps, seen: RefCell::default() }
    }

    /// Runs a line, its dry run first where it has one, and returns what it printed.
    fn run(&self, line: &str) -> Value {
        let leaf = self.helps.keys().find(|leaf| line == *leaf || line.starts_with(&format!("{leaf} ")));
        let leaf = leaf.unwrap_or_else(|| panic!("{line} is a command"));
        let words: Vec<&str> = line.split(' ').collect();
        let with = |option: &'static str| {
            let can = self.helps[leaf].contains(option).then_some(option);
            [words.as_slice(), can.as_slice()].concat()
        };
        if with("--dry-run") != words {
            let plan = self.place.json(&with("--dry-run"));
            self.compare(line, &json!({ "kind": "Plan", "...": "PlanView" }), &plan);
        }
        let document = self.place.json(&with("--yes"));
        // A command that can print two kinds of documents has a shape for each.
        let shapes = match &self.commands[leaf] {
            Value::Array(several) => several.clone(),
            one => vec![one.clone()],
        };
        let shape = shapes.iter().find(|shape| shape["kind"] == document["kind"]);
        self.compare(line, shape.unwrap_or_else(|| panic!("{line}: {document}")), &document);
        self.seen.borrow_mut().insert(leaf.clone());
        document
    }

    fn compare(&self, line: &str, shape: &Value, document: &Value) {
        let mut shape = shape.clone();
        let kind = shape["kind"].take();
        assert_eq!((&document["apiVersion"], &document["kind"]), (&json!("offshoot/v1"), &kind), "{line}");
        shape["kind"] = json!("string");
        shape["apiVersion"] = json!("string");
        let found = differences(&shape, &self.types, document);
        assert!(found.is_empty(), "{line}: {found:#?}");
        // An empty list would say nothing about its items.
        assert_ne!(document["items"], json!([]), "{line}");
    }
}

#[test]
fn every_command_prints_the_json_that_is_written_down() {
    let session = Session::new();
    let leaves: BTreeSet<&String> = session.helps.keys().collect();
    assert_eq!(leaves, session.commands.keys().collect(), "each command has its line in shapes.json");
    ALONE.iter().for_each(|line| drop(session.run(line)));
    let daemon = session.place.serve(&[]);
    SERVED.iter().for_each(|line| drop(session.run(line)));
    let jobs = session.run("job ls");
    let id = jobs["items"][0]["id"].as_str().expect("an identifier");
    session.run(&format!("job follow {id}"));
    session.run(&format!("job cancel {id}"));
    assert_eq!(daemon.stop().code, Some(0));
    LAST.iter().for_each(|line| drop(session.run(line)));
    session.place.ok(&["pool", "check"]);
    let with_data = session.commands.iter().filter(|(_, shape)| !shape.is_string());
    let with_data: BTreeSet<String> = with_data.map(|(leaf, _)| leaf.clone()).collect();
    assert_eq!(*session.seen.borrow(), with_data, "each command that prints data was run");
}

#[test]
fn the_types_of_the_commands_are_those_of_the_interface() {
    let session = Session::new();
    session.place.ok(&["pool", "create", "p.pool", "--size", "256M"]);
    let daemon = session.place.serve(&[]);
    let socket = socket_in(session.place.run_directory());
    let document = call(&socket, "GET", "/v1/openapi.json", &Value::Null).expect("the daemon answers").body;
    for (name, shape) in &session.shared {
        assert_eq!(of_schema(&document["components"]["schemas"][name]), *shape, "{name}");
    }
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_shape_finds_what_is_new_missing_or_of_another_type() {
    let shape = json!({"name": "string", "size?": "integer", "of": "Kind?", "all": [{"a": "number"}]});
    let types = json!({"Kind": {"one of": ["big"]}}).as_object().expect("an object").clone();
    let found = |value: &Value| differences(&shape, &types, value);
    assert_eq!(found(&json!({"name": "x", "of": null, "all": [{"a": 1.5}]})), Vec::<String>::new());
    assert_eq!(found(&json!({"name": "x", "of": "big", "size": 1, "all": []})), Vec::<String>::new());
    assert_eq!(found(&json!({"of": null, "all": []})), [".name is missing"]);
    assert_eq!(found(&json!({"name": "x", "of": null, "all": [], "new": 1})), [".new is not described"]);
    assert_eq!(found(&json!({"name": 1, "of": "small", "all": [{"a": "b"}]})).len(), 3);
}
