//! The volume an import fills before it gets the version's name.

use crate::explain;
use crate::failure::Failure;
use crate::random;
use thinpool::{Command, Error, Name, Pool};

/// Marks scratch volumes, so that those of a crashed import are found.
const PROPERTY: &str = "offshoot.importing";

#[derive(Debug)]
pub(super) struct Scratch<'a> {
    pool: &'a Pool,
    name: Name,
}

impl<'a> Scratch<'a> {
    pub(super) fn create(
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
        let mark = Command::SetProperty {
            name: scratch.name.clone(),
            key: PROPERTY.to_owned(),
            value: Some("true".to_owned()),
        };
        match pool.run(mark) {
            Ok(_) => Ok(scratch),
            Err(error) => Err(scratch.abandon(explain::engine(what, &error))),
        }
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// Gives it its last size; nobody may have it open.
    pub(super) fn resize(&self, size: u64, what: &str) -> Result<(), Failure> {
        let entry = self.pool.entry(&self.name);
        if entry.is_some_and(|entry| entry.size == size) {
            return Ok(());
        }
        let resize = Command::Resize { name: self.name.clone(), size };
        self.pool.run(resize).map(drop).map_err(|error| explain::engine(what, &error))
    }

    /// The scratch volume becomes the version.
    pub(super) fn publish(self, version: &Name, what: &str) -> Result<(), Failure> {
        match self.try_publish(version) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.abandon(explain::engine(what, &error))),
        }
    }

    fn try_publish(&self, version: &Name) -> Result<(), Error> {
        let unmark = Command::SetProperty { name: self.name.clone(), key: PROPERTY.to_owned(), value: None };
        self.pool.run(unmark)?;
        self.pool.run(Command::Publish { volume: self.name.clone(), version: version.clone() })?;
        Ok(())
    }

    /// Removes the scratch volume and gives its space back. Returns the failure that led here.
    pub(super) fn abandon(self, mut failure: Failure) -> Failure {
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
    let leftovers: Vec<Name> =
        entries.filter(|entry| entry.properties.contains_key(PROPERTY)).map(|entry| entry.name).collect();
    leftovers.iter().try_for_each(|name| remove(pool, name))?;
    Ok(leftovers.len())
}

fn fresh_name(what: &str) -> Result<Name, Failure> {
    let digits: String = random::identity::<8>(what)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("importing+{digits}").parse().expect("letters, digits and a plus"))
}
