//! `[compression]`: the zstd level that clients are told to use for new caches.

use serde::{Deserialize, Deserializer, de};

/// The section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CompressionConfig {
    /// The zstd level, 1 (fast) to 19 (small), that a cache created from now on asks of its
    /// clients.
    #[serde(deserialize_with = "level")]
    pub level: i32,
}

impl Default for CompressionConfig {
    fn default() -> Self {
        Self { level: 3 }
    }
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let level = i32::deserialize(deserializer)?;
    if (1..=19).contains(&level) {
        return Ok(level);
    }
    Err(de::Error::custom(format_args!(
        "{level} is out of bounds; allowed are 1 (fast) to 19 (small)"
    )))
}
