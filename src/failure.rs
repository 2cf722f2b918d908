//! What the tool says when something does not work: three lines, and an exit code that never changes its meaning.

use crate::reason::Reason;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use utoipa::ToSchema;

/// Exit codes. `pool check` has its own: 0 clean, 2 errors, 3 leaked blocks only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    Failed,
    Usage,
    NotFound,
    Conflict,
    Capacity,
    NeedsConfirmation,
    Unreachable,
    Partly,
}

impl Code {
    pub(crate) fn number(self) -> u8 {
        match self {
            Code::Failed => 1,
            Code::Usage => 2,
            Code::NotFound => 3,
            Code::Conflict => 4,
            Code::Capacity => 5,
            Code::NeedsConfirmation => 6,
            Code::Unreachable => 7,
            Code::Partly => 8,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code.number())
    }
}

/// What did not happen, why, and what to type next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// Such as `OFFSHOOT0501`: what `offshoot explain` knows more about.
    pub(crate) reason: String,
    pub(crate) what: String,
    pub(crate) why: String,
    pub(crate) next: String,
}

impl Failure {
    pub(crate) fn new(
        code: Code,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        let reason = Reason::of(code).identifier();
        Self { code, reason, what: what.into(), why: why.into(), next: next.into() }
    }

    /// With a reason that says more than the exit code.
    pub(crate) fn because(
        reason: Reason,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        let identifier = reason.identifier();
        Self { reason: identifier, ..Self::new(reason.code(), what, why, next) }
    }
}

/// The failure of one of several: where some were done before it, a part is done.
pub(crate) fn after(done: usize) -> impl FnOnce(Failure) -> Failure {
    move |failure| Failure { code: if done > 0 { Code::Partly } else { failure.code }, ..failure }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let (what, why, next) = (line(&self.what), line(&self.why), line(&self.next));
        write!(out, "error: {what} ({})\nwhy: {why}\ntry: {next}", self.reason)
    }
}

impl Error for Failure {}

/// An error and all its sources in one sentence.
pub(crate) fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Code, Failure};

    #[test]
    fn a_failure_is_three_lines_whatever_is_in_it() {
        let failure = Failure::new(Code::Failed, "a\nb", "c\u{1b}[31md", "e");
        assert_eq!(failure.to_string(), "error: a b (OFFSHOOT0100)\nwhy: c [31md\ntry: e");
    }

    #[test]
    fn exit_codes_never_change() {
        let codes = [
            Code::Failed,
            Code::Usage,
            Code::NotFound,
            Code::Conflict,
            Code::Capacity,
            Code::NeedsConfirmation,
            Code::Unreachable,
            Code::Partly,
        ];
        assert_eq!(codes.map(Code::number), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
