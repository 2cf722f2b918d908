//! What is wrong with a pool's space, by the thresholds it has. The monitor with its history, hysteresis
//! and sinks is something else.

use crate::wire::StatusView;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Warning,
    Critical,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Alert {
    pub(crate) level: Level,
    pub(crate) text: String,
}

/// Percent of `used` in `used + free`, rounded up: a threshold is reached, never just missed.
pub(crate) fn percent(used: u64, free: u64) -> u64 {
    let (used, total) = (u128::from(used), u128::from(used) + u128::from(free));
    u64::try_from((used * 100).div_ceil(total.max(1))).unwrap_or(100)
}

/// What of the data space is taken: mapped, promised to requests in flight, or freed and not yet reusable.
pub(crate) fn data_percent(status: &StatusView) -> u64 {
    percent(status.mapped + status.reserved + status.quarantined, status.free)
}

pub(crate) fn alerts(status: &StatusView) -> Vec<Alert> {
    let thresholds = &status.thresholds;
    let mut found = Vec::new();
    let mut raise = |level, text: String| found.push(Alert { level, text });
    if status.poisoned {
        raise(
            Level::Critical,
            "a flush of the pool's device failed; the pool takes no more writes".to_owned(),
        );
    }
    let data = data_percent(status);
    let metadata = percent(status.metadata_used, status.metadata_free);
    for (what, used) in [("data space", data), ("metadata space", metadata)] {
        if used >= u64::from(thresholds.critical_percent) {
            let limit = thresholds.critical_percent;
            raise(Level::Critical, format!("{what} is {used} % used; critical is {limit} %"));
        } else if used >= u64::from(thresholds.warn_percent) {
            let limit = thresholds.warn_percent;
            raise(Level::Warning, format!("{what} is {used} % used; the warning is at {limit} %"));
        }
    }
    if status.waiting_writes > 0 {
        let text = format!("the pool is full; writes that wait for space: {}", status.waiting_writes);
        raise(Level::Critical, text);
    }
    if status.discard_failures > 0 {
        let text = format!(
            "{} discards failed: what is free in the pool still takes space below it",
            status.discard_failures
        );
        raise(Level::Warning, text);
    }
    if status.overcommit > thresholds.overcommit_max {
        let (ratio, max) = (status.overcommit, thresholds.overcommit_max);
        let text = format!("overcommit is {ratio:.1}x; the most allowed is {max:.1}x");
        raise(Level::Critical, text);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Level, alerts, percent};
    use crate::wire::{OnFull, StatusView, Thresholds};

    fn status(mapped: u64, free: u64) -> StatusView {
        StatusView {
            pool: "p".into(),
            pool_id: String::new(),
            generation: 1,
            capacity: mapped + free,
            provisioned: 0,
            mapped,
            free,
            quarantined: 0,
            kept: 0,
            reserved: 0,
            waiting_writes: 0,
            metadata_used: 1,
            metadata_free: 99,
            volumes: 0,
            snapshots: 0,
            versions: 0,
            layers: 0,
            reclaiming: 0,
            discard_failures: 0,
            poisoned: false,
            read_only: false,
            overcommit: 0.0,
            nbd: Vec::new(),
            thresholds: Thresholds::default(),
            on_full: OnFull::default(),
            devices: Vec::new(),
        }
    }

    #[test]
    fn a_threshold_is_reached_at_its_exact_figure() {
        let levels = |mapped| -> Vec<Level> {
            alerts(&status(mapped, 1000 - mapped)).iter().map(|alert| alert.level).collect()
        };
        assert_eq!(levels(0), []);
        assert_eq!(levels(840), []);
        assert_eq!(levels(850), [Level::Warning]);
        assert_eq!(levels(950), [Level::Critical]);
        assert_eq!(levels(1000), [Level::Critical]);
    }

    #[test]
    fn overcommit_and_a_failed_flush_are_critical() {
        let mut status = status(0, 100);
        status.overcommit = 8.0;
        assert_eq!(alerts(&status), []);
        status.overcommit = 8.1;
        status.poisoned = true;
        assert_eq!(alerts(&status).len(), 2);
    }

    #[test]
    fn failed_discards_are_worth_a_warning() {
        let mut status = status(0, 100);
        status.discard_failures = 3;
        let found = alerts(&status);
        assert!(
            matches!(found.as_slice(), [alert] if alert.level == Level::Warning && alert.text.starts_with("3 "))
        );
    }

    #[test]
    fn an_empty_pool_divides_by_nothing() {
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(u64::MAX, u64::MAX), 50);
    }
}
