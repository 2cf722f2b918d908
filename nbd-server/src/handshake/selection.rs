//! The metadata contexts a client lists and selects ("Metadata querying" of the specification).

use super::Description;
use crate::contexts::{CONTEXTS_MAX, Context, finds};

/// What block status tells on this connection, once its export is opened. It counts for that export and for no other.
#[derive(Debug)]
pub(super) struct Selection {
    export: String,
    contexts: Vec<Context>,
}

/// The queries select more than one connection may have.
#[derive(Debug)]
pub(super) struct TooMany;

impl Selection {
    pub(super) fn new(export: &Description, queries: &[&str]) -> Result<Self, TooMany> {
        let contexts = found(export, |name| queries.iter().any(|query| finds(query, name, false)));
        if contexts.len() > CONTEXTS_MAX {
            return Err(TooMany);
        }
        Ok(Self { export: export.name.clone(), contexts })
    }

    pub(super) fn is_of(&self, export: &Description) -> bool {
        self.export == export.name
    }

    /// Their numbers are their places, from 1 on.
    pub(super) fn contexts(&self) -> &[Context] {
        &self.contexts
    }
}

/// What there is to select; without queries all of it.
pub(super) fn listed(export: &Description, queries: &[&str]) -> Vec<Context> {
    found(export, |name| queries.is_empty() || queries.iter().any(|query| finds(query, name, true)))
}

fn found(export: &Description, is_wanted: impl Fn(&str) -> bool) -> Vec<Context> {
    Context::all(&export.points).into_iter().filter(|context| is_wanted(&context.name())).collect()
}
