//! Sizes (`"128MiB"`) and lengths of time (`"30s"`) as people write them, in config files, flags
//! and messages.
//!
//! The unit is always there, so that nobody has to guess it.
//!
//! ```
//! use snowbank_core::units::{Limit, Seconds, Size};
//!
//! assert_eq!("128MiB".parse(), Ok(Size::from_mib(128)));
//! assert_eq!("90d".parse(), Ok(Limit::Some(Seconds::new(90 * 86_400))));
//! assert!("128".parse::<Size>().is_err());
//! ```

use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written `"64KiB"`, `"128MiB"`, `"1GiB"` or `"512B"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// By size: the first that divides a number of bytes is the one that it is shown in.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl Size {
    /// A size of so many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of so many mebibytes.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory (saturating where addresses are narrower than 64
    /// bits).
    #[must_use]
    pub fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Whether it is zero bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A text that is no size or no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct UnitError {
    text: String,
    expected: &'static str,
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text, &SIZE_UNITS)
            .map(Self)
            .ok_or_else(|| UnitError { text: text.to_owned(), expected: Self::EXPECTED })
    }
}

impl UnitText for Size {
    const EXPECTED: &'static str = "a size: write a whole number and one of B, KiB, MiB, GiB, TiB, \
        kB, MB, GB, TB, such as \"128MiB\"";
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(UnitTextVisitor(PhantomData))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = SIZE_UNITS
            .into_iter()
            .find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit))
            .unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// A length of time in whole seconds, written `"30s"`, `"5m"`, `"12h"` or `"90d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u64);

const TIME_UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

impl Seconds {
    /// So many seconds.
    #[must_use]
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The number of seconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same as the standard library's type.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Seconds {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text, &TIME_UNITS)
            .map(Self)
            .ok_or_else(|| UnitError { text: text.to_owned(), expected: Self::EXPECTED })
    }
}

impl UnitText for Seconds {
    const EXPECTED: &'static str =
        "a length of time: write a whole number and one of s, m, h, d, such as \"30s\" or \"90d\"";
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(UnitTextVisitor(PhantomData))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = TIME_UNITS
            .into_iter()
            .find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit))
            .unwrap_or(("s", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// A quantity whose text has a unit.
trait UnitText: FromStr<Err = UnitError> {
    /// How such a text looks, for error messages.
    const EXPECTED: &'static str;
}

/// Reads a quantity. The error for a bare number says how to write it with a unit.
struct UnitTextVisitor<T>(PhantomData<T>);

impl<T: UnitText> Visitor<'_> for UnitTextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A value that may be switched off: `"never"`, or what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit<T> {
    /// What the server's configuration says.
    Default,
    /// No limit.
    None,
    /// This one.
    Some(T),
}

impl<T: FromStr> FromStr for Limit<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        match text {
            "default" => Ok(Self::Default),
            "none" | "never" => Ok(Self::None),
            text => text.parse().map(Self::Some),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Limit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::None => f.write_str("none"),
            Self::Some(value) => value.fmt(f),
        }
    }
}

impl<T: fmt::Display> Serialize for Limit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T> Deserialize<'de> for Limit<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A number of bytes as people read it: `0 B`, `17.3 KiB`, `1.20 GiB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let decimals = if value < 10.0 { 2 } else { 1 };
        let mut text = String::new();
        write!(text, "{value:.decimals$} {}", UNITS[unit])?;
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(17_715), "17.3 KiB");
        assert_eq!(shown(1 << 20), "1.00 MiB");
        assert_eq!(shown((1 << 30) - 1), "1.00 GiB");
        assert_eq!(shown(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn limits_are_written_as_words_or_values() {
        assert_eq!("90d".parse(), Ok(Limit::Some(Seconds::new(90 * 86_400))));
        assert_eq!("never".parse::<Limit<Seconds>>(), Ok(Limit::None));
        assert_eq!("default".parse::<Limit<Size>>(), Ok(Limit::Default));
        assert_eq!("200GB".parse(), Ok(Limit::Some(Size::from_bytes(200_000_000_000))));
        assert_eq!("200GB".parse::<Size>().unwrap().to_string(), "200GB");
        assert_eq!("2048KiB".parse::<Size>().unwrap().to_string(), "2MiB");
        assert!("200".parse::<Limit<Size>>().is_err());
    }
}
