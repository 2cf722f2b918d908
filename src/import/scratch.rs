//! The volume that is filled before it gets its name: an import's, which becomes a version, and a seed.

use crate::explain;
use crate::failure::Failure;
use crate::random;
use thinpool::{Command, Entry, Error, Name, Pool};

/// Marks scratch volumes, so that those of a crashed import are found.
const PROPERTY: &str = "offshoot.importing";
/// What their names begin with.
const PREFIX: &str = "importing+";

#[derive(Debug)]
pub(crate) struct Scratch<'a> {
    pool: &'a Pool,
    name: Name,
}

impl<'a> Scratch<'a> {
    pub(crate) fn create(
        pool: &'a Pool,
        base: Option<&Name>,
        size: u64,
        what: &str,
    ) -> Result<Self, Failure> {
        let name = fresh_name(what)?;
        let create = match base {
            Some(base) => {
                Command::Clone { source: base.clone(), names: vec![name.clone()], size: Some(size) }
            }
            None => Command::CreateVolume { name: name.clone(), size },
        };
        pool.run(create).map_err(|error| explain::engine(what, &error))?;
        let scratch = Self { pool, name };
        match scratch.set(PROPERTY, Some("true".to_owned())) {
            Ok(()) => Ok(scratch),
            Err(error) => Err(scratch.abandon(explain::engine(what, &error))),
        }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Gives it its last size; nobody may have it open.
    pub(crate) fn resize(&self, size: u64, what: &str) -> Result<(), Failure> {
        let entry = self.pool.entry(&self.name);
        if entry.is_some_and(|entry| entry.size == size) {
            return Ok(());
        }
        let resize = Command::Resize { name: self.name.clone(), size };
        self.pool.run(resize).map(drop).map_err(|error| explain::engine(what, &error))
    }

    /// The scratch volume becomes the version.
    pub(crate) fn publish(self, version: &Name, what: &str) -> Result<(), Failure> {
        match self.try_publish(version) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.abandon(explain::engine(what, &error))),
        }
    }

    fn try_publish(&self, version: &Name) -> Result<(), Error> {
        self.set(PROPERTY, None)?;
        self.pool.run(Command::Publish { volume: self.name.clone(), version: version.clone() })?;
        Ok(())
    }

    /// The scratch volume becomes a volume with this property. It has the property before it loses its mark: at no moment is
    /// there neither.
    pub(crate) fn rename(self, to: &Name, property: &str, value: &Name, what: &str) -> Result<(), Failure> {
        match self.try_rename(to, property, value) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.abandon(explain::engine(what, &error))),
        }
    }

    fn try_rename(&self, to: &Name, property: &str, value: &Name) -> Result<(), Error> {
        self.set(property, Some(value.to_string()))?;
        self.set(PROPERTY, None)?;
        self.pool.run(Command::Rename { from: self.name.clone(), to: to.clone() })?;
        Ok(())
    }

    fn set(&self, key: &str, value: Option<String>) -> Result<(), Error> {
        let names = vec![self.name.clone()];
        self.pool.run(Command::SetProperty { names, key: key.to_owned(), value }).map(drop)
    }

    /// Removes the scratch volume and gives its space back. Returns the failure that led here.
    pub(crate) fn abandon(self, mut failure: Failure) -> Failure {
        let removed = remove(self.pool, &self.name).and_then(|()| self.pool.run(Command::Settle).map(drop));
        if let Err(error) = removed {
            failure.why.push_str(&format!("; its scratch volume {} stays behind: {error}", self.name));
        }
        failure
    }
}

fn remove(pool: &Pool, name: &Name) -> Result<(), Error> {
    pool.run(Command::Remove { name: name.clone(), recursive: false }).map(drop)
}

/// Removes what imports that crashed left behind; returns how many there were. Call before anything else imports.
pub(crate) fn remove_leftovers(pool: &Pool) -> Result<usize, Error> {
    let entries = pool.entries().into_iter();
    let leftovers: Vec<Name> = entries.filter(is_leftover).map(|entry| entry.name).collect();
    leftovers.iter().try_for_each(|name| remove(pool, name))?;
    Ok(leftovers.len())
}

/// Also one that was not marked yet: it has such a name, and nothing else.
fn is_leftover(entry: &Entry) -> bool {
    let is_digits = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_name = entry.name.to_string().strip_prefix(PREFIX).is_some_and(is_digits);
    let is_bare = entry.owned == 0 && entry.properties.is_empty();
    entry.properties.contains_key(PROPERTY) || has_name && is_bare
}

fn fresh_name(what: &str) -> Result<Name, Failure> {
    let digits: String = random::identity::<8>(what)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{PREFIX}{digits}").parse().expect("letters, digits and a plus"))
}
