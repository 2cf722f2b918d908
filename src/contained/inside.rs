//! The child's side: from the first instruction of this program until it is the other one.
//!
//! Files come as numbers of the parent's descriptors and are opened through `/proc`, so that they are the very files the
//! parent looked at, whatever their names stand for by now. What cannot be limited ends the child, except Landlock and
//! capabilities: a kernel without Landlock leaves the other limits, and the other program is still told every file by its
//! number and none by its name.

use super::{Limits, MARK, Order, SOCKET_IN_CHILD, path_in_child};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Whatever is open already has a lower number, or another one.
const FIRST_DESCRIPTOR: i32 = 10;
const DESCRIPTORS_MAX: u64 = 128;
/// The newest version of Landlock this program knows; older kernels do what they can.
const LANDLOCK: ABI = ABI::V6;
/// Of glibc: few arenas, which are address space; memory of buffers is used again instead of being mapped for each.
const ALLOCATOR: [(&str, &str); 4] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "134217728"),
    ("MALLOC_TOP_PAD_", "4194304"),
];
/// What any program needs to begin.
const SYSTEM: [&str; 5] = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"];

/// If this process was started to be contained, becomes what it was ordered to be; returns only when that fails.
pub(crate) fn enter() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != MARK {
        return None;
    }
    let order = arguments.next().and_then(|order| order.into_string().ok());
    let error = match order.as_deref().map(serde_json::from_str) {
        Some(Ok(order)) => become_it(&order),
        _ => io::Error::other("this is for Offshoot itself"),
    };
    crate::output::say(&error.to_string());
    Some(ExitCode::FAILURE)
}

fn become_it(order: &Order) -> io::Error {
    match prepare(order) {
        // The files stay open across it.
        Ok((mut command, _files)) => command.exec(),
        Err(error) => error,
    }
}

fn prepare(order: &Order) -> io::Result<(Command, Vec<OwnedFd>)> {
    die_with(order.parent)?;
    let mut arguments = order.arguments.clone();
    let mut replace = |token: &str, by: &str| {
        arguments.iter_mut().for_each(|argument| *argument = argument.replace(token, by));
    };
    let mut kept = Vec::new();
    if let Some(socket) = socket()? {
        replace(SOCKET_IN_CHILD, &socket.as_raw_fd().to_string());
        kept.push(socket);
    }
    let mut files = Vec::new();
    for (index, descriptor) in order.files.iter().enumerate() {
        let file = keep(File::open(format!("/proc/{}/fd/{descriptor}", order.parent))?)?;
        replace(&path_in_child(index), &format!("/proc/self/fd/{}", file.as_raw_fd()));
        files.push(file);
    }
    let mut command = Command::new(&order.program);
    command.args(arguments).env_clear().env("LC_ALL", "C").envs(ALLOCATOR);
    restrict(&order.program, &files).map_err(io::Error::other)?;
    give_up_capabilities();
    limit(order.limits)?;
    kept.extend(files);
    Ok((command, kept))
}

/// A parent that is gone before the kernel was told sends no signal.
fn die_with(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if parent.is_none() || getppid() != parent {
        return Err(io::Error::other("the process that started this one is gone"));
    }
    Ok(())
}

/// Standard input, if it is a socket.
fn socket() -> io::Result<Option<OwnedFd>> {
    let input = io::stdin();
    if rustix::net::sockopt::socket_type(&input).is_err() {
        return Ok(None);
    }
    keep(&input).map(Some)
}

/// A copy of a descriptor that stays open in the other program.
fn keep(descriptor: impl AsFd) -> io::Result<OwnedFd> {
    let kept = fcntl_dupfd_cloexec(descriptor, FIRST_DESCRIPTOR)?;
    fcntl_setfd(&kept, FdFlags::empty())?;
    Ok(kept)
}

fn restrict(program: &Path, files: &[OwnedFd]) -> Result<(), RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    let reading = AccessFs::from_read(LANDLOCK);
    for path in SYSTEM.map(Path::new).into_iter().chain(program.parent()) {
        rules = allow(rules, path, reading)?;
    }
    rules = allow(rules, Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
    for file in files {
        rules = rules.add_rule(PathBeneath::new(file, AccessFs::ReadFile))?;
    }
    rules.restrict_self().map(drop)
}

/// What is not there needs no leave.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(place) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK) };
    rules.add_rule(PathBeneath::new(place, access))
}

/// Root keeps the right to read what belongs to others: Landlock says which files that is about.
fn give_up_capabilities() {
    let Ok(had) = capabilities(None) else { return };
    let kept = CapabilitySet::DAC_READ_SEARCH;
    let sets = CapabilitySets {
        effective: had.effective & kept,
        permitted: had.permitted & kept,
        inheritable: had.inheritable & kept,
    };
    // A process may always have less; where it may not even say so, it had nothing.
    let _had_nothing = set_capabilities(None, sets);
}

fn limit(limits: Limits) -> io::Result<()> {
    // One second later the kernel kills what does not heed the signal.
    lower(Resource::Cpu, limits.cpu_seconds, limits.cpu_seconds + 1)?;
    lower(Resource::Core, 0, 0)?;
    lower(Resource::Nofile, DESCRIPTORS_MAX, DESCRIPTORS_MAX)?;
    lower(Resource::Fsize, 0, 0)?;
    lower(Resource::As, limits.memory_bytes, limits.memory_bytes)
}

/// A limit that is lower already stays.
fn lower(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(current.min(most)), maximum: Some(maximum.min(most)) };
    setrlimit(resource, limit).map_err(io::Error::from)
}
