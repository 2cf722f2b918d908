//! Which pool is meant: the one that names have before a '/', the one of `--pool`, or the only one there is.

use crate::daemon::Client;
use crate::failure::{Code, Failure};
use crate::local_pool::Demand;
use crate::reach::Reach;
use crate::registry::Registry;
use blockstore::Engine;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What the operator said of it.
#[derive(Debug, Clone)]
pub(crate) struct PoolChoice {
    /// A path, or a name.
    pub(crate) pool: Option<PathBuf>,
    /// The pool's name, from before the '/' of a name in it.
    prefix: Option<String>,
    /// The socket of a daemon.
    pub(crate) api: Option<PathBuf>,
    /// Further devices of the pool, where they are not where they were.
    pub(crate) others: Vec<PathBuf>,
    pub(crate) engine: Engine,
}

/// Where a pool is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    File(PathBuf),
    Daemon { socket: PathBuf, pool: String },
}

impl PoolChoice {
    pub(crate) fn new(pool: Option<PathBuf>, api: Option<PathBuf>, engine: Engine) -> Self {
        let is_given = |path: &PathBuf| !path.as_os_str().is_empty();
        Self {
            pool: pool.filter(is_given),
            prefix: None,
            api: api.filter(is_given),
            others: Vec::new(),
            engine,
        }
    }

    /// The same, with a pool that was named as an argument.
    pub(crate) fn or(&self, pool: Option<&Path>) -> Self {
        Self { pool: pool.map(Path::to_owned).or_else(|| self.pool.clone()), ..self.clone() }
    }

    /// Takes the pool's name and the '/' off names that have it. The others are of the same pool.
    pub(crate) fn of<'a>(&self, names: impl IntoIterator<Item = &'a mut String>) -> Result<Self, Failure> {
        let mut prefix = self.prefix.clone();
        for name in names {
            // What is no pool's name is no name of anything, and whoever reads the whole says why.
            let is_name =
                |text: &str| text.parse::<thinpool::Name>().is_ok_and(|name| name.point().is_none());
            let Some((own, rest)) = name.split_once('/').filter(|(own, _)| is_name(own)) else { continue };
            if prefix.as_deref().is_some_and(|other| other != own) {
                let why = "the names are of several pools";
                return Err(Failure::new(Code::Usage, "nothing was done", why, "a command for each pool"));
            }
            prefix = Some(own.to_owned());
            *name = rest.to_owned();
        }
        Ok(Self { prefix, ..self.clone() })
    }

    /// The pool's file, where it has one that can be reached without a daemon.
    pub(crate) fn path(&self) -> Result<PathBuf, Failure> {
        match self.place()? {
            Place::File(path) => Ok(path),
            Place::Daemon { socket, .. } => {
                let why =
                    format!("{} is a daemon's socket, and this takes the pool's file", socket.display());
                Err(Failure::new(Code::Usage, "nothing was done", why, "the same command without --api"))
            }
        }
    }

    pub(crate) fn place(&self) -> Result<Place, Failure> {
        if let Some(socket) = &self.api {
            let named = self.prefix.clone().or_else(|| Some(self.pool.as_ref()?.to_str()?.to_owned()));
            let pool = named.map_or_else(|| only_pool(socket), Ok)?;
            return Ok(Place::Daemon { socket: socket.clone(), pool });
        }
        match (&self.prefix, &self.pool) {
            (Some(name), pool) => {
                // The pool that was given is meant where it has this name.
                let given = pool.as_deref().map(find).transpose()?;
                let given = given.filter(|path| crate::pool_file::name_of(path).as_deref() == Some(name));
                let found = || Registry::open().map(|registry| registry.find(name));
                match given {
                    Some(path) => Ok(Place::File(path)),
                    None => found()?.map(Place::File).ok_or_else(|| unknown(name)),
                }
            }
            (None, Some(pool)) => find(pool).map(Place::File),
            (None, None) => sole().map(Place::File),
        }
    }

    /// Runs a command against the pool and closes it, whatever came of the command.
    pub(crate) fn with<T>(
        &self,
        demand: Demand,
        run: impl FnOnce(&mut Reach) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut reach = Reach::connect(&self.place()?, &self.others, self.engine, demand)?;
        let result = self.check_name(&mut reach).and_then(|()| run(&mut reach));
        let closed = reach.close();
        let value = result?;
        closed.map(|()| value)
    }

    fn check_name(&self, reach: &mut Reach) -> Result<(), Failure> {
        let Some(name) = &self.prefix else { return Ok(()) };
        let found = reach.status()?.pool;
        if found == *name {
            return Ok(());
        }
        let why = format!("{name}/ is not this pool, which is called {found}");
        Err(Failure::new(Code::NotFound, "nothing was done", why, "offshoot pool ls, or --pool with a path"))
    }
}

/// A name, or else a path.
fn find(pool: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = pool.to_str().filter(|text| !text.contains('/')) else { return Ok(pool.to_owned()) };
    // A file that happens to be called so is `./NAME`.
    let found = Registry::open().ok().and_then(|registry| registry.find(name));
    Ok(found.unwrap_or_else(|| pool.to_owned()))
}

fn sole() -> Result<PathBuf, Failure> {
    let all = Registry::open().map(|registry| registry.all()).unwrap_or_default();
    let refused = |why: String| {
        let next = "--pool POOL, or export OFFSHOOT_POOL=POOL, or offshoot pool create PATH --size SIZE";
        Err(Failure::new(Code::Usage, "nothing was done", why, next))
    };
    match all.as_slice() {
        [] => refused("no pool is named, and none is known here".to_owned()),
        [(_, path)] => Ok(path.clone()),
        many => {
            let names: Vec<&str> = many.iter().map(|(name, _)| name.as_str()).take(10).collect();
            refused(format!("no pool is named, and there are several: {}", names.join(", ")))
        }
    }
}

fn unknown(name: &str) -> Failure {
    let shown: String = name.chars().take(60).collect();
    let why = format!("no pool is known as {shown:?}");
    Failure::new(Code::NotFound, "nothing was done", why, "offshoot pool ls, or offshoot pool register PATH")
}

/// The pool of a daemon that holds one only.
fn only_pool(socket: &Path) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Pools {
        items: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        pool: String,
    }
    let refused = |code, why: String, next| Err(Failure::new(code, "nothing was done", why, next));
    let Some(client) = Client::connect(socket, "")? else {
        return refused(
            Code::Unreachable,
            format!("nobody answers on {}", socket.display()),
            "offshoot serve",
        );
    };
    let pools: Pools = client.get("/v1/pools")?;
    match pools.items.as_slice() {
        [one] => Ok(one.pool.clone()),
        many => {
            let names: Vec<&str> = many.iter().map(|named| named.pool.as_str()).take(10).collect();
            refused(
                Code::Usage,
                format!("no pool is named, and there are several: {}", names.join(", ")),
                "--pool NAME",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PoolChoice;
    use blockstore::Engine;

    #[test]
    fn names_have_their_pool_before_a_slash() {
        let choice = PoolChoice::new(None, None, Engine::Auto);
        let mut names = vec!["p0/desk-{1..3}".to_owned(), "p0/golden@v1".to_owned()];
        let chosen = choice.of(&mut names).expect("one pool");
        assert_eq!(chosen.prefix.as_deref(), Some("p0"));
        assert_eq!(names, ["desk-{1..3}", "golden@v1"]);
        assert_eq!(choice.of(&mut ["a".to_owned()]).expect("none").prefix, None);
        choice.of(&mut ["p0/a".to_owned(), "p1/b".to_owned()]).expect_err("two pools");
        let mut mixed = ["p0/a".to_owned(), "b".to_owned()];
        assert_eq!(choice.of(&mut mixed).expect("one pool").prefix.as_deref(), Some("p0"));
    }
}
