//! `[audit]`: how long the audit log is kept.

use serde::Deserialize;

use super::Seconds;
use super::error::Problem;

/// The section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AuditConfig {
    /// How long an entry is kept.
    pub keep: Seconds,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { keep: Seconds::new(365 * 86_400) }
    }
}

impl AuditConfig {
    /// An entry that is gone before anybody looks is none.
    pub(super) fn validate(&self) -> Result<(), Problem> {
        let allowed = 3_600..=36_500 * 86_400;
        if allowed.contains(&self.keep.get()) {
            return Ok(());
        }
        let message = format!("{} is out of bounds; allowed are 1h to 36500d", self.keep);
        Err(Problem { key: &["audit", "keep"], message })
    }
}
