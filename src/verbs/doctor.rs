//! `offshoot doctor`: looks at what Offshoot needs of the machine, and says of each thing how it is and what helps.

use crate::arguments::View;
use crate::failure::{Code, Failure};
use crate::list::{Column, Shown, column, print_list};
use crate::pool_choice::PoolChoice;
use crate::reach::{LOOK, Reach};
use crate::registry::Registry;
use crate::run_directory::RunDirectory;
use crate::state_directory::StateDirectory;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

const COLUMNS: [Column; 4] = [
    column("check", "CHECK", Shown::Text),
    column("state", "STATE", Shown::Text),
    column("found", "FOUND", Shown::Text),
    column("helps", "WHAT HELPS", Shown::Text),
];

/// Descriptors that thirty virtual machines take.
const DESCRIPTORS: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// It works, and could be better.
    Warning,
    /// It does not work.
    Failed,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    state: State,
    found: String,
    helps: Option<String>,
}

/// Exit code 1 when something does not work.
pub(super) fn run(pool: &PoolChoice, view: &View) -> Result<(), Failure> {
    let mut findings = vec![run_directory(), state_directory(), io_uring(), descriptors(), kvm()];
    findings.extend(program("qemu-img", "formats other than raw"));
    findings.extend(pools(pool));
    print_list("DoctorReport", &COLUMNS, &findings, view)?;
    let failed = findings.iter().filter(|finding| finding.state == State::Failed).count();
    if failed == 0 {
        return Ok(());
    }
    let why = format!("{failed} of {} things do not work", findings.len());
    Err(Failure::new(Code::Failed, "Offshoot cannot work here as it should", why, "what the list says helps"))
}

fn fine(check: &str, found: impl Into<String>) -> Finding {
    Finding { check: check.to_owned(), state: State::Ok, found: found.into(), helps: None }
}

fn wrong(check: &str, state: State, found: impl Into<String>, helps: impl Into<String>) -> Finding {
    Finding { check: check.to_owned(), state, found: found.into(), helps: Some(helps.into()) }
}

fn run_directory() -> Finding {
    match RunDirectory::choose() {
        Ok(directory) => fine("run directory", directory.path().display().to_string()),
        Err(failure) => wrong("run directory", State::Failed, failure.why, failure.next),
    }
}

fn state_directory() -> Finding {
    match StateDirectory::choose() {
        Ok(directory) => fine("state directory", directory.path().display().to_string()),
        Err(failure) => wrong("state directory", State::Warning, failure.why, failure.next),
    }
}

/// The kernel says whether everybody, a group or nobody may use it; before 6.6 it did not say.
fn io_uring() -> Finding {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let helps = "sysctl kernel.io_uring_disabled=0; without it every operation is a system call";
    match text.trim() {
        "2" => wrong("io_uring", State::Warning, "the kernel forbids it", helps),
        "1" if !rustix::process::geteuid().is_root() => {
            wrong("io_uring", State::Warning, "the kernel allows it to a group only", helps)
        }
        _ => fine("io_uring", "allowed"),
    }
}

fn descriptors() -> Finding {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let found = maximum.map_or("no limit".to_owned(), |count| count.to_string());
    if maximum.is_none_or(|count| count >= DESCRIPTORS) {
        return fine("open files", found);
    }
    let helps = "LimitNOFILE=65536 in the unit, or ulimit -Hn 65536; each virtual machine takes some 60";
    wrong("open files", State::Warning, found, helps)
}

fn kvm() -> Finding {
    match std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => fine("KVM", "/dev/kvm"),
        Err(error) => {
            let helps = "virtualization in the firmware, or membership in group kvm; virtual machines are slow without";
            wrong("KVM", State::Warning, format!("/dev/kvm: {error}"), helps)
        }
    }
}

fn program(name: &str, purpose: &str) -> Option<Finding> {
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file());
    Some(match found {
        Some(path) => fine(name, path.display().to_string()),
        None => {
            wrong(name, State::Warning, "not installed", format!("apt install qemu-utils, for {purpose}"))
        }
    })
}

/// Every pool that is known here, and the one that is named.
fn pools(pool: &PoolChoice) -> Vec<Finding> {
    let mut all = Registry::open().map(|registry| registry.all()).unwrap_or_default();
    if let Some(path) = pool.pool.clone() {
        let is_known = all.iter().any(|(name, known)| *known == path || path.to_str() == Some(name));
        if !is_known {
            all.push((path.display().to_string(), path));
        }
    }
    let look = |(name, path): (String, std::path::PathBuf)| {
        let check = format!("pool {name}");
        let seen = PoolChoice::new(Some(path), None, pool.engine)
            .with(LOOK, |reach: &mut Reach| Ok((reach.status()?, reach.daemon().is_some())));
        match seen {
            Ok((status, _)) if status.poisoned => {
                let found = "a flush of its device failed; it takes no more writes";
                wrong(&check, State::Failed, found, "a look at the device, then the daemon started again")
            }
            Ok((_, true)) => fine(&check, "served"),
            Ok((_, false)) => fine(&check, "not served"),
            Err(failure) => wrong(&check, State::Failed, failure.why, failure.next),
        }
    };
    all.into_iter().map(look).collect()
}
