//! A block status under way: what each context tells comes from the engine one after the other.

use crate::contexts::Context;
use crate::reply::Described;
use crate::request::{Descriptors, Range};
use crate::status;
use std::collections::VecDeque;
use thinpool::Payload;

/// What is told already, in the order of the connection's contexts.
#[derive(Debug)]
pub(crate) struct Survey {
    range: Range,
    descriptors: Descriptors,
    described: Vec<Described>,
}

impl Survey {
    pub(crate) fn new(range: Range, descriptors: Descriptors) -> Self {
        Self { range, descriptors, described: Vec::new() }
    }

    pub(crate) fn range(&self) -> Range {
        self.range
    }

    /// Notes what the engine says; extents say it for all contexts that are made of them. How many are told now, or
    /// `None` when it said nothing.
    pub(crate) fn take(&mut self, contexts: &[Context], payload: &Payload) -> Option<usize> {
        for context in &contexts[self.described.len()..] {
            let descriptors = match (payload, context) {
                (Payload::Extents(extents), Context::Allocation | Context::Depth | Context::Shared) => {
                    status::of_extents(extents, context, self.range, self.descriptors)?
                }
                (Payload::Changes(changes), Context::Since(_)) => {
                    status::of_changes(changes, self.range, self.descriptors)?
                }
                _ => break,
            };
            let context = u32::try_from(self.described.len() + 1).expect("few contexts");
            self.described.push(Described { context, descriptors });
            if matches!(payload, Payload::Changes(_)) {
                break;
            }
        }
        Some(self.described.len())
    }

    pub(crate) fn described(&mut self) -> VecDeque<Described> {
        std::mem::take(&mut self.described).into()
    }
}
