//! What Offshoot remembers of a machine beside its pools: which pool a name stands for, and who has changed what.

use crate::failure::{Code, Failure};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Overrides the choice.
pub(crate) const VARIABLE: &str = "OFFSHOOT_STATE_DIR";

#[derive(Debug, Clone)]
pub(crate) struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// OFFSHOOT_STATE_DIR; else /var/lib/offshoot for root; else offshoot in XDG_STATE_HOME or ~/.local/state.
    pub(crate) fn choose() -> Result<Self, Failure> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || variable("HOME").map(|home| home.join(".local/state"));
        let users = || variable("XDG_STATE_HOME").or_else(home).map(|state| state.join("offshoot"));
        let roots = || rustix::process::geteuid().is_root().then(|| PathBuf::from("/var/lib/offshoot"));
        let chosen = variable(VARIABLE).or_else(roots).or_else(users);
        let path = chosen.ok_or_else(|| unusable("there is no HOME"))?;
        for below in ["pools", "exports"] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path.join(below))
                .map_err(|error| unusable(&format!("{}: {error}", path.display())))?;
        }
        Ok(Self { path })
    }

    /// Symbolic links, named as the pools they lead to.
    pub(crate) fn pools(&self) -> PathBuf {
        self.path.join("pools")
    }

    /// What was asked to be exported on this machine, a file for each.
    pub(crate) fn exports(&self) -> PathBuf {
        self.path.join("exports")
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.path.join("history.jsonl")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn unusable(why: &str) -> Failure {
    let what = "the state directory cannot be used";
    Failure::new(Code::Failed, what, why, format!("{VARIABLE}=DIRECTORY with a directory of your own"))
}
