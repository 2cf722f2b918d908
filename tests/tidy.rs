//! The rules of the house that a compiler does not hold: who may use whom, where certain words may stand, how long a file
//! gets, and that the documents speak of what is there. An exception is a line in a list below, with its reason.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our crates each may use, besides those that these use.
const LADDER: [(&str, &[&str]); 8] = [
    ("blockstore", &[]),
    ("cow-tree", &[]),
    ("thinpool", &["blockstore", "cow-tree"]),
    ("unix-socket", &[]),
    ("rate-limit", &[]),
    ("nbd-server", &["blockstore", "rate-limit", "thinpool", "unix-socket"]),
    ("vhost-blk", &["blockstore", "rate-limit", "thinpool", "unix-socket"]),
    (
        "offshoot",
        &["blockstore", "cow-tree", "nbd-server", "rate-limit", "thinpool", "unix-socket", "vhost-blk"],
    ),
];

/// Crates of others that only some of ours may use.
const CONFINED: [(&str, &[&str]); 10] = [
    ("bincode", &["thinpool"]),
    ("io-uring", &["blockstore"]),
    ("memmap2", &["blockstore", "thinpool"]),
    ("rustls", &["nbd-server"]),
    ("rustls-webpki", &["nbd-server"]),
    ("tokio", &["nbd-server", "offshoot"]),
    ("tokio-uring", &["nbd-server"]),
    ("vhost", &["vhost-blk", "offshoot"]),
    ("virtio-queue", &["vhost-blk", "offshoot"]),
    ("vm-memory", &["vhost-blk", "offshoot"]),
];

const FOLDERS: [&str; 12] = [
    "blockstore",
    "cow-tree",
    "thinpool",
    "unix-socket",
    "rate-limit",
    "nbd-server",
    "vhost-blk",
    "src",
    "tests",
    "benches",
    "examples",
    "fuzz",
];

/// Past this, a file has to say why it is still about one thing.
const LINES_MAX: usize = 500;
const LONG: [(&str, usize, &str); 2] = [
    ("thinpool/tests/crash/world.rs", 750, "one world: what it does and what it has promised"),
    ("cow-tree/tests/world/mod.rs", 550, "one world: layers, rules and their check"),
];

/// Names that say nothing.
const NAMELESS: [&str; 6] = ["util.rs", "utils.rs", "common.rs", "helpers.rs", "misc.rs", "shared.rs"];

/// Numbers change their type by `as` in the units module; elsewhere only what is listed.
const CASTS: [(&str, &str); 3] = [
    ("cow-tree/src/units.rs", "the units module: each use is widening or proven beside it"),
    ("thinpool/src/command.rs", "a ratio for people"),
    ("nbd-server/src/limits.rs", "assertions at compile time, where no conversion can be called"),
];

const BINCODE: [&str; 3] =
    ["thinpool/src/codec.rs", "thinpool/src/record.rs", "thinpool/src/catalog/stored.rs"];
/// All that the two others take from it.
const BINCODE_DERIVES: &str = "use bincode::{Decode, Encode};";

const UNSAFE: [&str; 10] = [
    "blockstore/src/buffer.rs",
    "blockstore/src/buffer/arena.rs",
    "blockstore/src/buffer/loan.rs",
    "blockstore/src/buffer/region.rs",
    "blockstore/src/file/call.rs",
    "blockstore/src/file/lock.rs",
    "blockstore/src/mapped/map.rs",
    "blockstore/src/uring/ring.rs",
    "thinpool/src/tail/mapped.rs",
    "vhost-blk/src/memory.rs",
];

const CLOCKS: [&str; 2] = ["src/clock.rs", "thinpool/src/service.rs"];

struct File {
    /// From the root of the repository, with slashes.
    path: String,
    text: String,
}

impl File {
    fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        parts.iter().any(|part| ["tests", "benches", "examples", "fuzz"].contains(part))
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("/format_document.rs")
    }

    /// The lines with their numbers, without comments and without what stands in quotes.
    fn code(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        self.text.lines().enumerate().map(|(number, line)| (number + 1, code_of(line)))
    }

    /// The lines before the file's own tests begin.
    fn code_without_tests(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        self.code().take_while(|(_, line)| line.trim() != "#[cfg(test)]" || self.is_test())
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<File> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 100, "the sources are where they are looked for");
    found
}

fn collect(folder: &Path, found: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "corpus") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let shown = path.strip_prefix(root()).expect("below the root").display().to_string();
            let text = fs::read_to_string(&path).expect("sources are text");
            found.push(File { path: shown, text });
        }
    }
}

/// A line without its comment and without what stands in quotes.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut letters = line.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        match (quoted, letter) {
            (true, '\\') => skip(&mut letters),
            (_, '"') => quoted = !quoted,
            (true, _) => {}
            (false, '\'') if letters.peek() == Some(&'"') => skip(&mut letters),
            (false, '/') if letters.peek() == Some(&'/') => break,
            (false, other) => code.push(other),
        }
    }
    code
}

fn skip(letters: &mut impl Iterator<Item = char>) {
    letters.next();
}

fn words(code: &str) -> Vec<&str> {
    code.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(|word| !word.is_empty())
        .collect()
}

/// No complaints, or all of them at once.
#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn metadata() -> Value {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs this test");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    serde_json::from_slice(&cargo.stdout).expect("cargo prints JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("cargo says so")
}

/// Name of our crate, and its dependencies: name, and `normal`, `dev` or `build`.
fn dependencies() -> Vec<(String, Vec<(String, String)>)> {
    let metadata = metadata();
    let list = |value: &Value| value.as_array().expect("cargo says so").clone();
    let one = |dependency: &Value| {
        (text(dependency, "name").to_owned(), dependency["kind"].as_str().unwrap_or("normal").to_owned())
    };
    let of = |package: &Value| list(&package["dependencies"]).iter().map(one).collect();
    list(&metadata["packages"])
        .iter()
        .map(|package| (text(package, "name").to_owned(), of(package)))
        .collect()
}

#[test]
fn a_crate_uses_only_what_is_below_it() {
    let crates = dependencies();
    let ours: BTreeSet<&str> = crates.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(ours, LADDER.iter().map(|(name, _)| *name).collect(), "the crates of the ladder");
    let mut complaints = Vec::new();
    for (name, used) in &crates {
        let allowed = LADDER.iter().find(|(of, _)| of == name).map_or(&[][..], |(_, below)| below);
        for (other, _) in used.iter().filter(|(other, _)| ours.contains(other.as_str())) {
            // A crate that tests itself through its own features names itself.
            if other != name && !allowed.contains(&other.as_str()) {
                complaints.push(format!("{name} must not use {other}"));
            }
        }
        for (other, users) in CONFINED {
            if used.iter().any(|(used, _)| used == other) && !users.contains(&name.as_str()) {
                complaints.push(format!("{name} must not use {other}"));
            }
        }
    }
    none(complaints);
}

#[test]
fn every_dependency_has_its_reason() {
    let document = fs::read_to_string(root().join("docs/decisions/0002-dependencies.md"));
    let document = document.expect("the reasons are written down");
    let crates = dependencies();
    let ours: BTreeSet<&str> = crates.iter().map(|(name, _)| name.as_str()).collect();
    let others: BTreeSet<&str> =
        crates.iter().flat_map(|(_, used)| used).map(|(name, _)| name.as_str()).collect();
    let has_row = |name: &str| document.lines().any(|line| line.starts_with(&format!("| {name} |")));
    none(others.difference(&ours).filter(|name| !has_row(name)).map(|name| (*name).to_owned()).collect());
}

#[test]
fn a_file_is_about_one_thing() {
    let mut complaints = Vec::new();
    for file in sources() {
        let lines = file.text.lines().count();
        let most = LONG.iter().find(|(path, ..)| *path == file.path).map_or(LINES_MAX, |(_, most, _)| *most);
        if lines > most {
            complaints.push(format!("{} has {lines} lines; {most} are the most", file.path));
        }
        let name = file.path.rsplit('/').next().unwrap_or_default();
        if NAMELESS.contains(&name) || name.contains("_v2") {
            complaints.push(format!("{} does not say what it is about", file.path));
        }
        if !file.is_test() && !file.text.starts_with("//!") {
            complaints.push(format!("{} does not begin with what it is about", file.path));
        }
    }
    none(complaints);
}

#[test]
fn nothing_is_unwrapped_glob_imported_ignored_or_left_to_do() {
    let mut complaints = Vec::new();
    for file in sources() {
        for (number, line) in file.code() {
            let found = [".unwrap()", "::*", "#[ignore", "todo!(", "unimplemented!(", "dbg!("];
            for what in found.into_iter().filter(|what| line.contains(what)) {
                complaints.push(format!("{}:{number}: {what}", file.path));
            }
        }
    }
    none(complaints);
}

#[test]
fn numbers_change_their_type_where_it_is_proven() {
    const NUMBERS: [&str; 14] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32", "f64",
    ];
    let mut complaints = Vec::new();
    for file in sources().iter().filter(|file| !CASTS.iter().any(|(path, _)| *path == file.path)) {
        for (number, line) in file.code_without_tests() {
            let is_cast = |pair: &[&str]| pair[0] == "as" && NUMBERS.contains(&pair[1]);
            if !file.is_test() && words(&line).windows(2).any(is_cast) {
                complaints.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none(complaints);
}

#[test]
fn crates_without_a_maintainer_are_named_in_few_places() {
    let mut complaints = Vec::new();
    for file in sources() {
        for (number, line) in file.code() {
            let named = words(&line);
            let is_codec = file.path == BINCODE[0]
                || (BINCODE.contains(&file.path.as_str()) && line.trim() == BINCODE_DERIVES);
            if named.contains(&"bincode") && !is_codec {
                complaints.push(format!("{}:{number}: only the codec names bincode", file.path));
            }
            if named.contains(&"tokio_uring") && !file.path.starts_with("nbd-server/src/") {
                complaints.push(format!("{}:{number}: only nbd-server names tokio_uring", file.path));
            }
        }
    }
    none(complaints);
}

#[test]
fn unsafe_code_is_where_it_must_be() {
    let mut complaints = Vec::new();
    for file in sources().iter().filter(|file| !file.is_test()) {
        let is_unsafe = file.code().any(|(_, line)| words(&line).contains(&"unsafe"));
        if is_unsafe && !UNSAFE.contains(&file.path.as_str()) {
            complaints.push(format!("{} is not among the files that may be unsafe", file.path));
        }
    }
    for path in [
        "cow-tree/src/lib.rs",
        "nbd-server/src/lib.rs",
        "rate-limit/src/lib.rs",
        "unix-socket/src/lib.rs",
        "src/main.rs",
    ] {
        let text = fs::read_to_string(root().join(path)).expect("every crate has its root");
        if !text.contains("#![forbid(unsafe_code)]") {
            complaints.push(format!("{path} does not forbid it"));
        }
    }
    none(complaints);
}

#[test]
fn clocks_are_read_where_time_enters() {
    let mut complaints = Vec::new();
    for file in sources().iter().filter(|file| !file.is_test() && !CLOCKS.contains(&file.path.as_str())) {
        for (number, line) in file.code_without_tests() {
            if line.contains("SystemTime::now") || line.contains("Instant::now()") && is_core(&file.path) {
                complaints.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
            if line.contains("thread::sleep") {
                complaints.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none(complaints);
}

/// A door measures how long clients take; the core crates are told the time.
fn is_core(path: &str) -> bool {
    ["blockstore/", "cow-tree/", "rate-limit/", "thinpool/"].iter().any(|folder| path.starts_with(folder))
}

/// Every document of the repository: path and text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root(), root().join("docs"), root().join("docs/decisions")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder of a document") {
            let path = entry.expect("a folder can be listed").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push((path.clone(), fs::read_to_string(&path).expect("documents are text")));
            }
        }
    }
    found
}

#[test]
fn documents_link_to_what_is_there() {
    let mut complaints = Vec::new();
    for (path, text) in documents() {
        let folder = path.parent().expect("a document is in a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !is_elsewhere && !folder.join(target).exists() {
                complaints.push(format!("{} links to {target}", path.display()));
            }
        }
    }
    none(complaints);
}

/// `path: name` in backticks names a test or bench that holds a promise.
#[test]
fn every_promise_names_a_test_that_exists() {
    let specification =
        fs::read_to_string(root().join("SPECIFICATION.md")).expect("the promises are written down");
    let rows = specification.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| number"));
    let (mut complaints, mut promises) = (Vec::new(), 0);
    let mut numbers = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, _, holders] = cells.as_slice() else { continue };
        promises += 1;
        if !numbers.insert(number.to_owned()) {
            complaints.push(format!("{number}: is there twice"));
        }
        let named: Vec<&str> = holders.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            complaints.push(format!("{number}: names nothing"));
        }
        complaints.extend(named.into_iter().filter_map(|holder| absent(number, holder)));
    }
    assert!(promises > 20, "the promises are found");
    none(complaints);
}

/// `folder/file.rs: name`, where the file has the function, or the path of a script.
fn absent(number: &str, holder: &str) -> Option<String> {
    let (path, name) = holder.split_once(": ").unwrap_or((holder, ""));
    let missing = |what: &str| Some(format!("{number}: {what}"));
    match fs::read_to_string(root().join(path)) {
        Err(_) => missing(&format!("there is no {path}")),
        Ok(text) if name.is_empty() || words(&text).contains(&name) => None,
        Ok(_) => missing(&format!("{path} has no {name}")),
    }
}
