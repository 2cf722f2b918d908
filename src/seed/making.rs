//! Makes seeds, all or none.

use super::contents::{Contents, meta_data, refuse_host_name};
use super::image::{BYTES, image};
use super::{PROPERTY, name_of, remove};
use crate::calls::Calls;
use crate::explain;
use crate::failure::{Code, Failure};
use crate::handler::parse_name;
use crate::import::{Fate, Scratch, compare};
use crate::random;
use crate::wire::SeedOrder;
use blockstore::{Buffer, Durability};
use thinpool::{Access, Action, Name, Pool};

/// Seeds that can be made: nothing of the order is left that could be refused.
#[derive(Debug)]
pub(crate) struct Seeds<'a> {
    /// The clones, and what their seeds are called.
    names: Vec<(&'a Name, Name)>,
    contents: Contents<'a>,
}

/// Seeds that are there, until their clones are.
#[derive(Debug)]
pub(crate) struct Made<'a> {
    pool: &'a Pool,
    seeds: Vec<Name>,
}

impl<'a> Seeds<'a> {
    /// `what` is the first line of the failure.
    pub(crate) fn check(order: &'a SeedOrder, clones: &'a [Name], what: &str) -> Result<Self, Failure> {
        let contents = Contents::check(order, what)?;
        let named = |clone: &'a Name| {
            let text = clone.to_string();
            refuse_host_name(&text, what)?;
            Ok((clone, parse_name(&name_of(&text), what)?))
        };
        Ok(Self { names: clones.iter().map(named).collect::<Result<_, _>>()?, contents })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.names.iter().map(|(_, seed)| seed.to_string()).collect()
    }

    pub(crate) fn make<'p>(&self, pool: &'p Pool, what: &str) -> Result<Made<'p>, Failure> {
        let mut made = Made { pool, seeds: Vec::with_capacity(self.names.len()) };
        for (clone, seed) in &self.names {
            match self.make_one(pool, clone, seed, what) {
                Ok(()) => made.seeds.push(seed.clone()),
                Err(failure) => return Err(made.abandon(failure)),
            }
        }
        Ok(made)
    }

    fn make_one(&self, pool: &Pool, clone: &Name, seed: &Name, what: &str) -> Result<(), Failure> {
        let meta_data = meta_data(&clone.to_string(), u128::from_le_bytes(random::identity(what)?));
        let bytes = image(&self.contents.files(&meta_data))
            .map_err(|error| Failure::new(Code::Failed, what, error.to_string(), "shorter user data"))?;
        let scratch = Scratch::create(pool, None, BYTES, what)?;
        match fill(pool, scratch.name(), &bytes, what) {
            Ok(()) => scratch.rename(seed, PROPERTY, clone, what),
            Err(failure) => Err(scratch.abandon(failure)),
        }
    }
}

impl Made<'_> {
    /// Removes them. Returns the failure that led here.
    pub(crate) fn abandon(self, mut failure: Failure) -> Failure {
        for seed in &self.seeds {
            if let Err(error) = remove(self.pool, seed) {
                failure.why.push_str(&format!("; {seed} stays behind: {error}"));
            }
        }
        failure
    }
}

/// Durable on return; zeros are not stored.
fn fill(pool: &Pool, volume: &Name, bytes: &[u8], what: &str) -> Result<(), Failure> {
    let attachment = pool.attach(volume, Access::ReadWrite).map_err(|error| explain::engine(what, &error))?;
    let mut calls = Calls::new(pool, attachment, what)?;
    let writes =
        compare(bytes, None).into_iter().filter(|(fate, _)| *fate == Fate::Write).map(|(_, range)| {
            let offset = u64::try_from(range.start).expect("an offset in a mebibyte");
            let buffer = Buffer::from_slice(&bytes[range]);
            Action::Write { offset, buffer, durability: Durability::Cached }
        });
    calls.call(writes.collect())?;
    calls.call(vec![Action::Flush]).map(drop)
}
