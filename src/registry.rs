//! Which pool a name stands for: a symbolic link for each, made when a pool is created or served.

use crate::failure::{Code, Failure};
use crate::state_directory::StateDirectory;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct Registry {
    directory: PathBuf,
}

/// What came of entering a pool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    Yes,
    /// The name stands for another pool, which is there.
    Taken(PathBuf),
}

impl Registry {
    pub(crate) fn open() -> Result<Self, Failure> {
        StateDirectory::choose().map(|state| Self { directory: state.pools() })
    }

    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        std::fs::read_link(self.link(name)?).ok()
    }

    /// All names with their paths, in order.
    pub(crate) fn all(&self) -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let pair = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
            Some((name, std::fs::read_link(entry.path()).ok()?))
        };
        let mut all: Vec<_> = entries.filter_map(pair).collect();
        all.sort();
        all
    }

    /// The name stands for the pool at `path` from now on, unless it stands for another one that exists.
    pub(crate) fn enter(&self, name: &str, path: &Path) -> Result<Entered, Failure> {
        let path = path.canonicalize().map_err(|error| self.refused(name, &error))?;
        let link = self.link(name).ok_or_else(|| self.refused(name, &io::ErrorKind::InvalidInput.into()))?;
        match std::fs::read_link(&link) {
            Ok(other) if other == path => return Ok(Entered::Yes),
            Ok(other) if other.exists() => return Ok(Entered::Taken(other)),
            _ => {}
        }
        let fresh = self.directory.join(format!(".{name}.{}", std::process::id()));
        std::os::unix::fs::symlink(&path, &fresh)
            .and_then(|()| std::fs::rename(&fresh, &link))
            .map_err(|error| self.refused(name, &error))?;
        Ok(Entered::Yes)
    }

    /// Whether the name was known.
    pub(crate) fn forget(&self, name: &str) -> Result<bool, Failure> {
        let Some(link) = self.link(name) else { return Ok(false) };
        match std::fs::remove_file(link) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.refused(name, &error)),
        }
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        is_name.then(|| self.directory.join(name))
    }

    fn refused(&self, name: &str, error: &io::Error) -> Failure {
        let why = format!("{}: {error}", self.directory.display());
        Failure::new(
            Code::Failed,
            format!("the name {name} is not remembered"),
            why,
            "--pool with the pool's path",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Entered, Registry};
    use std::fs::File;

    #[test]
    fn a_name_stands_for_one_pool_that_exists() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("pools");
        std::fs::create_dir(&directory).expect("a directory");
        let registry = Registry { directory };
        let file = |name: &str| {
            let path = place.path().canonicalize().expect("there").join(name);
            File::create(&path).expect("a file");
            path
        };
        let (one, other) = (file("one"), file("other"));
        assert_eq!(registry.enter("p0", &one).expect("entered"), Entered::Yes);
        assert_eq!(registry.enter("p0", &one).expect("the same again"), Entered::Yes);
        assert_eq!(registry.enter("p0", &other).expect("an answer"), Entered::Taken(one.clone()));
        assert_eq!(registry.find("p0"), Some(one.clone()));
        std::fs::remove_file(&one).expect("removed");
        assert_eq!(registry.enter("p0", &other).expect("the first is gone"), Entered::Yes);
        assert_eq!(registry.all(), [("p0".to_owned(), other)]);
        assert_eq!(registry.find("../p0"), None);
        assert!(registry.forget("p0").expect("known"));
        assert!(!registry.forget("p0").expect("unknown"));
    }
}
