//! What a change would do: shown by `--dry-run`, and before a confirmation.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The effect of a change that was not made. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PlanView {
    /// One sentence.
    pub(crate) summary: String,
    /// The names it makes, changes or removes.
    pub(crate) names: Vec<String>,
    /// Whether something is lost that is not elsewhere.
    pub(crate) destroys: bool,
    /// Given back to the pool; null where that is not known without a walk.
    pub(crate) frees: Option<u64>,
    /// Added to what the pool has promised.
    pub(crate) provisions: u64,
    /// Exports that end.
    pub(crate) stops_exports: Vec<String>,
    /// Clones that were made from what is removed; they live on.
    pub(crate) clones: Vec<String>,
}

impl PlanView {
    /// A plan that destroys nothing.
    pub(crate) fn quiet(summary: String, names: &[String]) -> Self {
        Self {
            summary,
            names: names.to_vec(),
            destroys: false,
            frees: Some(0),
            provisions: 0,
            stops_exports: Vec::new(),
            clones: Vec::new(),
        }
    }
}
