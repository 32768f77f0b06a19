//! `[gc]`: for how long things are kept, how much may be kept, and when what is not kept is taken
//! away.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use snowbank_core::units::Limit;

use super::error::Problem;
use super::{Seconds, Size};

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;
/// A pack is at most this long, and is rewritten as a whole.
const PACK: Size = Size::from_mib(16);

/// The section; every value is within its bounds once a `Config` is loaded.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GcConfig {
    /// How long after a collection the server begins the next one; `None`: it never begins one by
    /// itself.
    #[serde(deserialize_with = "time_or_never")]
    pub interval: Option<Seconds>,
    /// How long what nothing needs is left alone, so that a push under way finds what it has sent.
    pub grace: Seconds,
    /// How long a path is kept that nobody pushes or reads, in caches that do not say it
    /// themselves; `None`: for ever.
    #[serde(deserialize_with = "time_or_never")]
    pub retention: Option<Seconds>,
    /// How much all caches together may hold; `None`: any amount.
    #[serde(deserialize_with = "size_or_none")]
    pub max_size: Option<Size>,
    /// What was pushed or read within this time never goes because of a size limit.
    pub min_age: Seconds,
    /// Bytes of packs that one collection rewrites at most; 0: none.
    pub compact_budget: Size,
    /// Bytes per second that rewriting reads at most.
    pub compact_rate: Size,
}

impl Default for GcConfig {
    fn default() -> Self {
        Self {
            interval: Some(Seconds::new(6 * 3_600)),
            grace: Seconds::new(DAY),
            retention: None,
            max_size: None,
            min_age: Seconds::new(DAY),
            compact_budget: Size::from_mib(4 << 10),
            compact_rate: Size::from_mib(32),
        }
    }
}

impl GcConfig {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        let problem = |key, message| Err(Problem { key, message });
        if let Some(interval) =
            self.interval.filter(|time| !(MINUTE..=365 * DAY).contains(&time.get()))
        {
            let message =
                format!("{interval} is out of bounds; allowed are 1m to 365d, and \"never\"");
            return problem(&["gc", "interval"], message);
        }
        if self.grace.get() > 365 * DAY {
            let message = format!("{} is out of bounds; allowed are 0s to 365d", self.grace);
            return problem(&["gc", "grace"], message);
        }
        if let Some(retention) =
            self.retention.filter(|time| !(1..=36_500 * DAY).contains(&time.get()))
        {
            let message = format!(
                "{retention} is out of bounds; allowed are 1s to 36500d, and \"never\" (all is \
                 kept)"
            );
            return problem(&["gc", "retention"], message);
        }
        if let Some(size) = self.max_size.filter(|size| *size < PACK) {
            let message =
                format!("{size} is too little; allowed is {PACK} or more, and \"none\" (no limit)");
            return problem(&["gc", "max-size"], message);
        }
        if self.min_age.get() > 36_500 * DAY {
            let message = format!("{} is out of bounds; allowed are 0s to 36500d", self.min_age);
            return problem(&["gc", "min-age"], message);
        }
        if !self.compact_budget.is_empty() && self.compact_budget < PACK {
            let message = format!(
                "{} is less than a pack; allowed are 0B (none) and {PACK} or more",
                self.compact_budget
            );
            return problem(&["gc", "compact-budget"], message);
        }
        if self.compact_rate < Size::from_mib(1) {
            let message = format!("{} is too slow; allowed is 1MiB or more", self.compact_rate);
            return problem(&["gc", "compact-rate"], message);
        }
        Ok(())
    }
}

fn time_or_never<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Seconds>, D::Error> {
    optional(deserializer, "never")
}

fn size_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Size>, D::Error> {
    optional(deserializer, "none")
}

/// A quantity, or a word for none. `default` is for caches: here is what it stands for.
fn optional<'de, D, T>(deserializer: D, word: &str) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    let text = String::deserialize(deserializer)?;
    match text.parse::<Limit<T>>() {
        Ok(Limit::Some(value)) => Ok(Some(value)),
        Ok(Limit::None) => Ok(None),
        Ok(Limit::Default) => Err(D::Error::custom(format!(
            "`default` says nothing here; write a value, or \"{word}\""
        ))),
        Err(error) => Err(D::Error::custom(format!("{error}, or \"{word}\""))),
    }
}
