//! Long work of a daemon, as it is shown.

use super::Answer;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One piece of long work.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct JobView {
    pub(crate) id: String,
    pub(crate) pool: String,
    /// The command, such as `image import`.
    pub(crate) command: String,
    /// Who asked: a user number.
    pub(crate) user: u32,
    pub(crate) state: JobState,
    /// Bytes or blocks done.
    pub(crate) done: u64,
    /// Of so many; 0 where that is not known.
    pub(crate) total: u64,
    /// RFC 3339, UTC.
    pub(crate) started: String,
    pub(crate) ended: Option<String>,
    /// What came of it, once it is done.
    #[schema(value_type = Option<Object>)]
    pub(crate) answer: Option<Answer>,
    /// Why it failed or was cancelled.
    pub(crate) failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobState {
    Running,
    Done,
    Failed,
    Cancelled,
}

impl JobState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct JobList {
    pub(crate) items: Vec<JobView>,
}
