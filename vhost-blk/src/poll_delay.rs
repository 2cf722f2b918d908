//! How long to sleep before looking for a disk's answer: hybrid polling, with a delay that is learned from the answers.
//!
//! A halted processor takes 15 to 50 us to wake. Who is awake when the answer comes saves that, and who has slept until shortly before
//! pays little for it. The delay goes a step down with each answer that comes before the middle of the time that is spent awake, and a
//! step up with each that comes later ("Frugal Streaming for Estimating Quantiles", Ma, Muthukrishnan and Sandler 2013): one number,
//! which a single late answer hardly moves.

use std::time::Duration;

/// The end of all delays: of an answer that takes longer, it hardly matters how soon it is noticed.
pub(crate) const DELAY_MAX: Duration = Duration::from_millis(1);
/// For less it is not worth setting a timer.
const DELAY_MIN: Duration = Duration::from_micros(30);
const STEP_MIN: Duration = Duration::from_micros(1);
/// The part of the delay that a step is.
const STEP_PART: u32 = 16;

#[derive(Debug)]
pub(crate) struct PollDelay {
    delay: Duration,
    /// How long an answer is looked for after the delay. Zero: never.
    spin: Duration,
}

impl PollDelay {
    pub(crate) fn new(spin: Duration) -> Self {
        Self { delay: Duration::ZERO, spin }
    }

    /// Zero: look at once. Nothing: sleep until the answer.
    pub(crate) fn get(&self) -> Option<Duration> {
        let is_worth_it = !self.spin.is_zero() && self.delay < DELAY_MAX;
        is_worth_it.then_some(if self.sleeps() { self.delay } else { Duration::ZERO })
    }

    /// Moves the delay a step for an answer that came so long after its end. Zero: before it.
    pub(crate) fn learn(&mut self, later: Duration) {
        let step = STEP_MIN.max((self.delay / STEP_PART).min(self.spin / 8));
        let shorter = self.delay.saturating_sub(step);
        self.delay = if !self.sleeps() {
            if later <= self.spin { shorter } else { self.delay + step }
        } else if later.is_zero() {
            shorter
        } else if later < self.spin / 2 {
            shorter.max(DELAY_MIN)
        } else {
            DELAY_MAX.min(self.delay + step)
        };
    }

    fn sleeps(&self) -> bool {
        self.delay >= DELAY_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::{DELAY_MAX, PollDelay};
    use std::time::Duration;

    const SPIN: Duration = Duration::from_micros(50);
    /// What a timer is late by, and what it takes to wake.
    const LATE: Duration = Duration::from_micros(20);
    const WAKE: Duration = Duration::from_micros(35);
    const WAITS: usize = 400;

    /// Waits for an answer as a worker does; whether it was awake when the answer came.
    fn wait(delay: &mut PollDelay, microseconds: u64) -> bool {
        let waited = Duration::from_micros(microseconds);
        let asleep = delay.get().unwrap_or(DELAY_MAX);
        let awake = if asleep.is_zero() { asleep } else { asleep + LATE };
        let is_met = delay.get().is_some() && awake <= waited && waited <= awake + delay.spin;
        delay.learn(match delay.get() {
            _ if is_met => waited - awake,
            Some(_) if waited < awake => Duration::ZERO,
            _ => (waited + WAKE).saturating_sub(asleep),
        });
        is_met
    }

    /// Of the later half of many waits, the part that is met awake.
    fn met(delay: &mut PollDelay, microseconds: impl Fn(usize) -> u64) -> f64 {
        let is_met = |number| wait(delay, microseconds(number));
        let met = (0..WAITS).map(is_met).collect::<Vec<_>>();
        let later = &met[WAITS / 2..];
        f64::from(u32::try_from(later.iter().filter(|met| **met).count()).expect("few"))
            / f64::from(u32::try_from(later.len()).expect("few"))
    }

    #[test]
    fn answers_are_looked_for_when_they_are_due() {
        let mut delay = PollDelay::new(SPIN);
        assert_eq!(delay.get(), Some(Duration::ZERO), "nothing is known");
        for microseconds in [20, 45, 55, 60, 75, 100, 300, 900, 150, 40] {
            let met = met(&mut delay, |_| microseconds);
            assert!(met > 0.9, "{met} of {microseconds} us with {delay:?}");
        }
        assert_eq!(delay.get(), Some(Duration::ZERO), "a fast disk is not slept for");
    }

    #[test]
    fn some_answers_that_are_late_do_not_change_when_the_others_are_due() {
        let met = met(&mut PollDelay::new(SPIN), |number| if number % 8 == 0 { 20_000 } else { 200 });
        assert!(met > 0.8, "{met}");
    }

    #[test]
    fn a_slow_disk_is_slept_for_until_it_is_faster() {
        let mut delay = PollDelay::new(SPIN);
        assert!(met(&mut delay, |_| 5_000) <= 0.0 && delay.get().is_none(), "{delay:?}");
        assert!(met(&mut delay, |_| 400) > 0.9, "{delay:?}");
    }

    #[test]
    fn who_may_spin_for_longer_looks_for_what_takes_longer() {
        let mut delay = PollDelay::new(Duration::from_millis(10));
        assert!(met(&mut delay, |_| 7_000) > 0.9, "{delay:?}");
        assert!(met(&mut PollDelay::new(Duration::ZERO), |_| 20) <= 0.0, "and who may not, for nothing");
    }
}
