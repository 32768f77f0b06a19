//! Names of pins.
//!
//! A pin's name is the last part of its address, and what a deployment asks for: `latest`,
//! `blog-production`, `v2.1`. Names are case-sensitive. What a pin stands for is left out.

use std::fmt;
use std::str::FromStr;

use crate::hash::{excerpt, serde_as_text};
use crate::token::looks_like_token;

/// The longest name of a pin, in characters.
pub const MAX_PIN_NAME_LEN: usize = 100;

/// A text that is not a pin's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a pin's name: it must be 1 to 100 characters of A-Z, a-z, 0-9, `.`, `_`, `+` and \
     `-`, the first a letter or digit"
)]
pub struct PinNameError(String);

/// The name of a pin: `[A-Za-z0-9][A-Za-z0-9._+-]{0,99}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PinName(String);

impl PinName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PinName {
    type Err = PinNameError;

    fn from_str(text: &str) -> Result<Self, PinNameError> {
        let other = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        let is_name = text.len() <= MAX_PIN_NAME_LEN
            && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && text.bytes().all(other)
            && !looks_like_token(text);
        if is_name { Ok(Self(text.to_owned())) } else { Err(PinNameError(excerpt(text))) }
    }
}

impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text! {
    PinName: "the name of a pin",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for name in ["latest", "0", "v2.1", "Team_A+b-c.d", &"x".repeat(100)] {
            assert_eq!(name.parse::<PinName>().unwrap().as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            "-a",
            "_a",
            "+a",
            ".a",
            "a/b",
            "a b",
            "é",
            "a*",
            "a\n",
            &"x".repeat(101),
        ] {
            assert!(name.parse::<PinName>().is_err(), "{name}");
        }
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiI0ZjJhIn0.dBjftJeZ4CVPmB92K27uhbUJU1p1rwW1";
        assert!(
            !token.parse::<PinName>().unwrap_err().to_string().contains("eyJ"),
            "a token is neither taken nor shown"
        );
    }
}
