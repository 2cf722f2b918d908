//! What a shell offers while a command is typed: the names there are. Only pools that answer at once are asked, and nothing is
//! said of what does not work.

use crate::pool_choice::PoolChoice;
use crate::reach::{LOOK, Reach};
use crate::registry::Registry;
use blockstore::Engine;
use clap_complete::engine::CompletionCandidate;

pub(crate) fn pools() -> Vec<CompletionCandidate> {
    let all = Registry::open().map(|registry| registry.all()).unwrap_or_default();
    all.into_iter().map(|(name, _)| CompletionCandidate::new(name)).collect()
}

/// Everything in the pool.
pub(crate) fn names() -> Vec<CompletionCandidate> {
    candidates(|_| true)
}

/// What a clone can be made from, or a volume rolled back to.
pub(crate) fn points() -> Vec<CompletionCandidate> {
    candidates(|name| name.contains('@'))
}

fn candidates(is_wanted: impl Fn(&str) -> bool) -> Vec<CompletionCandidate> {
    let variable = |name| std::env::var_os(name).map(std::path::PathBuf::from);
    let pool = PoolChoice::new(variable("OFFSHOOT_POOL"), variable("OFFSHOOT_API"), Engine::Auto);
    let entries = pool.with(LOOK, Reach::entries).unwrap_or_default();
    let wanted = entries.into_iter().filter(|entry| is_wanted(&entry.name));
    wanted.map(|entry| CompletionCandidate::new(entry.name).help(Some(entry.kind.word().into()))).collect()
}
