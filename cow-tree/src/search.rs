//! Where a key belongs among sorted ones.
//!
//! A binary search waits for one cache line after the other, since which key it reads next depends on the last one it has read. Where
//! the keys are in no cache, that is most of what a way down the tree takes. Here every sixteenth key is compared first, whose lines
//! are fetched side by side, and then those of one stride, which is two lines.

const STRIDE: usize = 16;

/// How many of the sorted keys are `key` or less.
pub(crate) fn count_up_to(keys: &[u64], key: u64) -> usize {
    let strides = keys.iter().step_by(STRIDE).filter(|first| **first <= key).count();
    let Some(last) = strides.checked_sub(1) else { return 0 };
    let before = last * STRIDE;
    let stride = &keys[before..keys.len().min(before + STRIDE)];
    before + stride.partition_point(|candidate| *candidate <= key)
}

#[cfg(test)]
mod tests {
    use super::count_up_to;

    #[test]
    fn it_counts_as_a_binary_search_does() {
        for length in 0..200 {
            let keys: Vec<u64> = (0..length).map(|index| 10 + index * 3).collect();
            for key in 0..20 + length * 3 {
                assert_eq!(count_up_to(&keys, key), keys.partition_point(|candidate| *candidate <= key));
            }
            assert_eq!(count_up_to(&keys, u64::MAX), keys.len());
        }
    }
}
