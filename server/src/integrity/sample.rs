//! Which packs a check or a repair reads: all of them, or a share that a seed draws.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A share, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(u32);

/// A text that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a share: write a percentage from 0.01% to 100%, such as 5%")]
pub struct PercentError(String);

impl Percent {
    /// Everything.
    pub const ALL: Self = Self(10_000);
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || PercentError(text.to_owned());
        let digits = text.trim().strip_suffix('%').ok_or_else(bad)?;
        let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(part) || part.len() > 2 {
            return Err(bad());
        }
        let hundredths = format!("{whole}{part:0<2}").parse().map_err(|_| bad())?;
        if (1..=10_000).contains(&hundredths) { Ok(Self(hundredths)) } else { Err(bad()) }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

/// A share of all packs, drawn by a seed, so that the same packs can be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// How many of them.
    pub share: Percent,
    /// Decides which.
    pub seed: u64,
}

/// The options of a command that draw it.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.share == Self::ALL.share {
            f.write_str("--read-data")
        } else {
            write!(f, "--read-data={} --seed {}", self.share, self.seed)
        }
    }
}

impl Sample {
    /// All of them.
    pub const ALL: Self = Self { share: Percent::ALL, seed: 0 };

    /// A share of the packs. Without a seed, other packs each time.
    ///
    /// # Errors
    /// When the system gives no random number.
    pub fn draw(share: Percent, seed: Option<u64>) -> Result<Self, getrandom::Error> {
        Ok(Self { share, seed: seed.map_or_else(getrandom::u64, Ok)? })
    }

    /// Whether the pack with this id is drawn.
    #[must_use]
    pub fn includes(&self, id: i64) -> bool {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        bytes[8..].copy_from_slice(&id.to_le_bytes());
        let hash = blake3::hash(&bytes);
        let number = hash
            .as_bytes()
            .iter()
            .take(8)
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        number % u64::from(Percent::ALL.0) < u64::from(self.share.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        for (text, shown) in [
            ("5%", "5%"),
            ("100%", "100%"),
            ("0.5%", "0.50%"),
            ("0.01%", "0.01%"),
            ("12.34%", "12.34%"),
        ] {
            assert_eq!(text.parse::<Percent>().unwrap().to_string(), shown);
        }
        for bad in ["", "5", "%", "0%", "101%", "-1%", "1.234%", "a%", ".5%"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sample_is_a_share_and_the_same_for_the_same_seed() {
        let drawn = |seed| {
            let sample = Sample { share: "5%".parse().unwrap(), seed };
            (1..=10_000).filter(|id| sample.includes(*id)).collect::<Vec<i64>>()
        };
        let first = drawn(7);
        assert!((400..600).contains(&first.len()), "{}", first.len());
        assert_eq!(first, drawn(7));
        assert_ne!(first, drawn(8));
        assert!((1..1_000).all(|id| Sample::ALL.includes(id)));
    }
}
