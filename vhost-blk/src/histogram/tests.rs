use super::{BUCKETS, Histogram, LONGEST_LOG2, Latencies, bucket_of, end_of};
use proptest::prelude::{any, prop_oneof, proptest};
use std::time::Duration;

fn latencies(nanoseconds: &[u64]) -> Latencies {
    let histogram = Histogram::default();
    nanoseconds.iter().for_each(|one| histogram.note(*one));
    let mut latencies = Latencies::default();
    latencies.add(&histogram);
    latencies
}

#[test]
fn buckets_follow_each_other_without_gap_and_are_an_eighth_wide_at_most() {
    let mut first = 0;
    for bucket in 0..BUCKETS - 1 {
        let last = end_of(bucket);
        assert_eq!((bucket_of(first), bucket_of(last)), (bucket, bucket));
        assert!(last - first <= first / 8 + 1, "{first} to {last}");
        first = last + 1;
    }
    assert_eq!(first, (1 << LONGEST_LOG2) + 1);
    assert_eq!((bucket_of(first), bucket_of(u64::MAX)), (BUCKETS - 1, BUCKETS - 1));
}

#[test]
fn a_bound_counts_what_is_as_long_as_itself_and_not_what_is_longer() {
    for power in super::BOUNDS_LOG2 {
        let bound = 1_u64 << power;
        let all = latencies(&[bound, bound + 1]);
        let counts: Vec<(Duration, u64)> = all.cumulative().collect();
        let at = counts.iter().find(|(end, _)| *end == Duration::from_nanos(bound)).expect("a bound");
        assert_eq!(at.1, 1, "{bound} ns");
        assert!(counts.is_sorted_by_key(|(_, count)| *count));
    }
    assert_eq!(latencies(&[0, u64::MAX]).cumulative().map(|(_, count)| count).max(), Some(1));
}

#[test]
fn nothing_has_no_percentiles() {
    let none = Latencies::default();
    assert_eq!((none.percentile(50), none.max(), none.count()), (None, None, 0));
    assert!(none.cumulative().all(|(_, count)| count == 0));
}

#[test]
fn what_is_full_stays_full() {
    let longest = latencies(&[u64::MAX, u64::MAX]);
    assert_eq!(longest.sum(), Duration::from_nanos(u64::MAX));
    assert_eq!(longest.max(), Some(Duration::from_nanos(u64::MAX)));
    assert_eq!(longest.percentile(99), longest.max());
    let full = Histogram::default();
    full.buckets[5].store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
    full.note(6);
    let mut twice = Latencies::default();
    twice.add(&full);
    twice.add(&full);
    assert_eq!(twice.count(), u64::MAX);
    assert_eq!(twice.percentile(99), Some(Duration::from_nanos(6)));
}

proptest! {
    #[test]
    fn percentiles_are_those_of_the_sorted_values_and_an_eighth_more_at_most(
        values in proptest::collection::vec(
            prop_oneof![0..40_u64, 0..100_000_u64, 0..1_u64 << LONGEST_LOG2, any::<u64>()],
            1..200,
        ),
        cut in 0..200_usize,
    ) {
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let max = Duration::from_nanos(sorted[sorted.len() - 1]);
        // As two rings would have counted it.
        let (one, other) = values.split_at(cut.min(values.len()));
        let (first, second) = (Histogram::default(), Histogram::default());
        one.iter().for_each(|value| first.note(*value));
        other.iter().for_each(|value| second.note(*value));
        let mut all = Latencies::default();
        all.add(&first);
        all.add(&second);
        assert_eq!(&all, &latencies(&values));
        for percent in [1, 50, 90, 99, 100] {
            let rank = (sorted.len() * usize::from(percent)).div_ceil(100).max(1);
            // The first bucket has both 0 and 1.
            let exact = Duration::from_nanos(sorted[rank - 1].max(1)).min(max);
            let told = all.percentile(percent).expect("there are some");
            let most = if sorted[rank - 1] > 1 << LONGEST_LOG2 { max } else { exact + exact / 8 };
            assert!(exact <= told && told <= most.min(max), "{exact:?} {told:?} {max:?}");
        }
        assert_eq!(all.max(), Some(max));
    }
}
