use super::{BURST_MIN, Cost, RateLimiter, RateLimits};
use proptest::prelude::{any, prop, proptest};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const BURST: Duration = Duration::from_millis(100);

fn limits(iops: u64, bytes_per_second: u64) -> RateLimits {
    let rate = NonZeroU64::new;
    RateLimits { iops: rate(iops), bytes_per_second: rate(bytes_per_second), burst: BURST }
}

fn request(bytes: u64) -> Cost {
    Cost { requests: 1, bytes }
}

#[expect(clippy::disallowed_methods, reason = "a moment to begin with; the rest is counted from it")]
fn beginning() -> Instant {
    Instant::now()
}

/// When each of some requests begins, that are all there from the beginning, in milliseconds.
fn begin(limiter: &RateLimiter, costs: &[Cost]) -> Vec<u128> {
    let now = beginning();
    let due = |cost: &Cost| limiter.reserve(*cost, now).map_or(now, |turn| turn.due());
    costs.iter().map(|cost| (due(cost) - now).as_millis()).collect()
}

#[test]
fn requests_wait_until_those_before_them_are_paid_for_but_for_the_burst() {
    // A burst of 100 ms has 2 requests, and a third begins because the second is paid for by then.
    let limiter = RateLimiter::new(limits(20, 0));
    assert_eq!(begin(&limiter, &[request(1 << 40); 6]), [0, 0, 0, 50, 100, 150]);
    let limiter = RateLimiter::new(limits(0, 10 * MIB));
    assert_eq!(begin(&limiter, &[request(MIB / 2); 5]), [0, 0, 0, 50, 100]);
}

#[test]
fn a_request_larger_than_the_burst_begins_and_the_next_one_waits_for_it() {
    let limiter = RateLimiter::new(limits(0, MIB));
    assert_eq!(begin(&limiter, &[request(32 * MIB), request(MIB), request(1)]), [0, 31_900, 32_900]);
}

#[test]
fn the_stricter_limit_counts_and_what_has_no_bytes_does_not_wait_for_them() {
    let limiter = RateLimiter::new(limits(1000, MIB));
    let costs = [request(MIB), request(0), request(MIB), Cost { requests: 0, bytes: 1 }];
    assert_eq!(begin(&limiter, &costs), [0, 0, 900, 1900]);
}

#[test]
fn a_pause_brings_back_the_burst_and_no_more() {
    let limiter = RateLimiter::new(limits(100, 0));
    let start = beginning();
    for later in [Duration::ZERO, Duration::from_secs(3600)] {
        let begins_at_once = |_: &usize| limiter.reserve(request(0), start + later).is_none();
        assert_eq!((0..100).take_while(begins_at_once).count(), 11);
    }
}

#[test]
fn a_change_counts_for_those_who_wait_and_gives_the_bucket_back_full() {
    let limiter = RateLimiter::new(limits(1, 0));
    let now = beginning();
    assert!(limiter.reserve(request(0), now).is_none());
    let turn = limiter.reserve(request(0), now).expect("one a second");
    assert_eq!(limiter.renew(turn, request(0), now), Some(turn), "nothing has changed");
    assert_eq!(limiter.renew(turn, request(0), turn.due()), None, "it is due");
    limiter.set(limits(10, 0));
    assert_eq!(limiter.renew(turn, request(0), now), None);
    let second = limiter.reserve(request(0), now);
    assert_eq!(second, None, "the first is paid for by the burst");
    let third = limiter.reserve(request(0), now).expect("ten a second");
    assert_eq!(third.due() - now, Duration::from_millis(100));
    limiter.set(RateLimits::NONE);
    assert_eq!(limiter.renew(third, request(0), now), None);
    assert!(!limiter.is_limiting());
}

proptest! {
    /// Q1 and Q2, with requests that come at any time; and no time is lost.
    #[test]
    fn nothing_begins_sooner_than_the_rate_allows_nor_later(
        arrivals in prop::collection::vec((0_u64..50, 1_u64..100_000), 1..100),
        rate in 1_000_u64..10_000_000, is_bursty in any::<bool>(),
    ) {
        let burst = if is_bursty { Duration::from_secs(1) } else { BURST_MIN };
        let limiter = RateLimiter::new(RateLimits { burst, ..limits(0, rate) });
        let mut now = beginning();
        let mut begun: Vec<(Instant, Instant, u64)> = Vec::new();
        for (pause, bytes) in arrivals {
            now += Duration::from_millis(pause);
            let due = limiter.reserve(request(bytes), now).map_or(now, |turn| turn.due());
            begun.push((now, due, bytes));
        }
        assert!(begun.windows(2).all(|pair| pair[0].1 <= pair[1].1), "in the order of asking");
        let slack = Duration::from_micros(1);
        for (last, (asked, due, _)) in begun.iter().enumerate() {
            let (mut bytes, mut latest) = (0, *asked);
            for (earlier_asked, earlier_due, more) in begun[..last].iter().rev() {
                bytes += more;
                // All before the last are paid for when it begins, but for the burst.
                let paid = Duration::from_nanos(bytes * 1_000_000_000 / rate).saturating_sub(burst);
                assert!(*due + slack >= *earlier_due + paid, "too soon by {:?}", *earlier_due + paid - *due);
                latest = latest.max(*earlier_asked + paid);
            }
            assert!(*due <= latest, "too late by {:?}", *due - latest);
        }
    }
}
