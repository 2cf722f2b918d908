//! Where this door looks at a clock: to know how long it has spun, and how long requests take.

use std::time::Instant;

/// Monotonic time since it was made.
#[derive(Debug)]
pub(crate) struct Clock(Instant);

/// When something was. Two of them can be compared when one clock has told both.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    nanoseconds: u64,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "how long a guest waits is a matter of real time")]
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// The moment itself, to be told to others.
    pub(crate) fn instant(&self) -> Instant {
        self.0 + self.0.elapsed()
    }

    pub(crate) fn now(&self) -> Moment {
        Moment { nanoseconds: u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX) }
    }
}

impl Moment {
    /// Zero when the other one is later.
    pub(crate) fn nanoseconds_since(self, earlier: Moment) -> u64 {
        self.nanoseconds.saturating_sub(earlier.nanoseconds)
    }
}
