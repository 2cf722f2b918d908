//! One token bucket: requests, or bytes.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Full in the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    /// Until when what has begun is paid for.
    paid_until: Option<Instant>,
}

impl Bucket {
    /// Takes so many tokens, and says from when on whoever took them may use them. Fewer than none may be left: then others
    /// wait longer.
    pub(crate) fn take(
        &mut self,
        tokens: u64,
        per_second: NonZeroU64,
        burst: Duration,
        now: Instant,
    ) -> Instant {
        let paid_until = self.paid_until.map_or(now, |moment| moment.max(now));
        self.paid_until = paid_until.checked_add(price(tokens, per_second)).or(self.paid_until);
        now + (paid_until - now).saturating_sub(burst)
    }
}

/// How long it takes for so many tokens to come.
fn price(tokens: u64, per_second: NonZeroU64) -> Duration {
    let nanoseconds = u128::from(tokens) * 1_000_000_000 / u128::from(per_second.get());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::price;
    use std::num::NonZeroU64;
    use std::time::Duration;

    #[test]
    fn a_price_is_exact_to_the_nanosecond_and_has_an_end() {
        let price = |tokens, rate| price(tokens, NonZeroU64::new(rate).expect("a rate"));
        assert_eq!(price(1, 1), Duration::from_secs(1));
        assert_eq!(price(0, 1), Duration::ZERO);
        assert_eq!(price(32 << 20, 1 << 20), Duration::from_secs(32));
        assert_eq!(price(1, 3), Duration::from_nanos(333_333_333));
        assert_eq!(price(u64::MAX, 1), Duration::from_nanos(u64::MAX));
    }
}
