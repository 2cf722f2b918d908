//! When a pool is short of space. Kept with the pool, so that everybody who looks at it says the same.

use super::OnFull;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The pool's property that has them.
pub(crate) const PROPERTY: &str = "offshoot.thresholds";

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct Thresholds {
    /// Percent used that raises a warning.
    pub(crate) warn_percent: u8,
    /// Percent used that raises a critical alert.
    pub(crate) critical_percent: u8,
    /// Most that may be promised, as a multiple of the capacity; above it the alert is critical.
    pub(crate) overcommit_max: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { warn_percent: 85, critical_percent: 95, overcommit_max: 8.0 }
    }
}

/// What is to be different of a pool; what is not given stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolOrder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warn_percent: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) critical_percent: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) overcommit_max: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) on_full: Option<OnFull>,
}

impl PoolOrder {
    /// Whether it asks for other thresholds.
    pub(crate) fn has_thresholds(&self) -> bool {
        *self != Self { on_full: self.on_full, ..Self::default() }
    }

    /// What it has changed, for people.
    pub(crate) fn words(&self, thresholds: &Thresholds) -> String {
        let alerts = self.has_thresholds().then(|| thresholds.words());
        let parts: Vec<String> = alerts.into_iter().chain(self.on_full.map(OnFull::words)).collect();
        parts.join("; ")
    }
}

impl Thresholds {
    /// Those of the pool with these properties. A pool may come from anybody: what makes no sense does not count.
    pub(crate) fn of(properties: &BTreeMap<String, String>) -> Self {
        let noted = properties.get(PROPERTY).and_then(|text| serde_json::from_str::<Self>(text).ok());
        noted.filter(|noted| noted.refusal().is_none()).unwrap_or_default()
    }

    pub(crate) fn with(self, order: &PoolOrder) -> Self {
        Self {
            warn_percent: order.warn_percent.unwrap_or(self.warn_percent),
            critical_percent: order.critical_percent.unwrap_or(self.critical_percent),
            overcommit_max: order.overcommit_max.unwrap_or(self.overcommit_max),
        }
    }

    /// Why no pool can have them.
    pub(crate) fn refusal(&self) -> Option<String> {
        let Self { warn_percent, critical_percent, overcommit_max } = *self;
        if critical_percent > 100 {
            return Some(format!("{critical_percent} % are more than there is"));
        }
        if warn_percent > critical_percent {
            return Some(format!(
                "a warning at {warn_percent} % comes after what is critical at {critical_percent} %"
            ));
        }
        let is_ratio = overcommit_max.is_finite() && overcommit_max > 0.0;
        (!is_ratio).then(|| "an overcommit is a number above 0, such as 4 or 2.5".to_owned())
    }

    /// For people.
    pub(crate) fn words(&self) -> String {
        let Self { warn_percent, critical_percent, overcommit_max } = self;
        format!(
            "warning at {warn_percent} %, critical at {critical_percent} % or above an overcommit of {overcommit_max:.1}x"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{PROPERTY, PoolOrder, Thresholds};
    use std::collections::BTreeMap;

    fn noted(text: &str) -> Thresholds {
        Thresholds::of(&BTreeMap::from([(PROPERTY.to_owned(), text.to_owned())]))
    }

    #[test]
    fn what_a_pool_notes_counts_if_it_makes_sense() {
        let usual = Thresholds::default();
        let strict = PoolOrder { warn_percent: Some(70), critical_percent: Some(80), ..PoolOrder::default() };
        assert_eq!(noted("{\"warn_percent\": 70, \"critical_percent\": 80}"), usual.with(&strict));
        assert_eq!(noted("{\"warn_percent\": 96}"), usual, "after what is critical");
        for text in ["", "[]", "{\"critical_percent\": 101}", "{\"overcommit_max\": -1.0}"] {
            assert_eq!(noted(text), usual, "{text}");
        }
    }
}
