//! How long a path stays by itself.

use snowbank_core::units::{Limit, Seconds};

use super::super::ages::Ages;
use crate::db::caches::Cache;

/// Uses are written every few seconds, and those of a path that is used all the time every few
/// minutes. A path goes this much later than it could, so that no use is missed.
const SLACK_SECONDS: u64 = 360;

/// What the settings of a cache keep. Pins keep paths besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gc) struct RetentionRule {
    now: i64,
    /// Paths that were used after this instant stay; without one, all do.
    used_after: Option<i64>,
}

impl RetentionRule {
    /// The rule of a cache. While a destroyed cache can be restored, it loses nothing.
    pub(in crate::gc) fn of(cache: &Cache, default: Option<Seconds>, ages: &Ages) -> Self {
        let retention = match cache.retention {
            _ if cache.destroyed.is_some() => None,
            Limit::Default => default,
            Limit::None => None,
            Limit::Some(retention) => Some(retention),
        };
        let with_slack = |time: Seconds| {
            Seconds::new(time.get().saturating_add(SLACK_SECONDS.min(time.get() / 8)))
        };
        let now = if cache.destroyed.is_some() { i64::MIN } else { ages.now() };
        Self { now, used_after: retention.map(|retention| ages.cutoff(with_slack(retention))) }
    }

    /// Whether a path stays that was used last, and expires, at these instants.
    pub(in crate::gc) fn keeps(self, used_at: i64, expires_at: Option<i64>) -> bool {
        match expires_at {
            Some(expires_at) => self.now < expires_at,
            None => self.used_after.is_none_or(|used_after| used_at > used_after),
        }
    }
}
