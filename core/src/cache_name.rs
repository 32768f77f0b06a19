//! Names of caches, and the patterns by which tokens name several.
//!
//! A cache's name is the first part of its URLs, so words that are routes are refused for ever.
//! Names are case-sensitive. Which caches exist and who may do what in them is left out.

use std::fmt;
use std::str::FromStr;

use crate::hash::{excerpt, serde_as_text};

/// The longest name of a cache, in characters.
pub const MAX_CACHE_NAME_LEN: usize = 50;

/// What stands, or may come to stand, in a URL where a cache's name would.
const RESERVED: [&str; 28] = [
    "admin",
    "api",
    "assets",
    "auth",
    "build-trace-v2",
    "cache",
    "caches",
    "debuginfo",
    "docs",
    "favicon",
    "health",
    "healthz",
    "log",
    "login",
    "logout",
    "metrics",
    "nar",
    "nix-cache-info",
    "oidc",
    "pins",
    "readyz",
    "realisations",
    "robots",
    "serve",
    "static",
    "status",
    "tokens",
    "version",
];

/// Why a text is not a cache's name or a pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheNameError {
    /// The text has a character or a length that no cache's name has.
    #[error(
        "`{0}` is not a cache name: it must be 1 to 50 characters of A-Z, a-z, 0-9, `_`, `+` and \
         `-`, the first a letter or digit"
    )]
    BadName(String),
    /// The word is one of the server's own.
    #[error(
        "`{0}` cannot be the name of a cache: the server keeps this word for itself; choose another"
    )]
    Reserved(String),
    /// The text has a character or a length that no pattern has.
    #[error(
        "`{0}` is not a pattern of cache names: it must be 1 to 50 characters of A-Z, a-z, 0-9, \
         `_`, `+`, `-` and the wildcard `*`, the first a letter, a digit or `*`"
    )]
    BadPattern(String),
}

/// The name of a cache: `[A-Za-z0-9][A-Za-z0-9_+-]{0,49}`, and no reserved word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheName(String);

impl CacheName {
    /// Takes a name.
    ///
    /// # Errors
    /// [`CacheNameError::BadName`] or [`CacheNameError::Reserved`].
    pub fn new(name: &str) -> Result<Self, CacheNameError> {
        if !is_well_formed(name, |_| false) {
            Err(CacheNameError::BadName(excerpt(name)))
        } else if RESERVED.contains(&name) {
            Err(CacheNameError::Reserved(name.to_owned()))
        } else {
            Ok(Self(name.to_owned()))
        }
    }

    /// `main`, the cache that a server makes at its first start.
    #[must_use]
    pub fn main() -> Self {
        Self("main".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The form of names, and of patterns where `is_wildcard` allows one more character.
fn is_well_formed(text: &str, is_wildcard: fn(u8) -> bool) -> bool {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || is_wildcard(byte);
    let other = |byte: u8| first(byte) || b"_+-".contains(&byte);
    text.len() <= MAX_CACHE_NAME_LEN
        && text.bytes().next().is_some_and(first)
        && text.bytes().all(other)
}

impl FromStr for CacheName {
    type Err = CacheNameError;

    fn from_str(text: &str) -> Result<Self, CacheNameError> {
        Self::new(text)
    }
}

impl fmt::Display for CacheName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cache's name in which each `*` stands for any characters, also none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CachePattern(String);

impl CachePattern {
    /// Takes a pattern. Without a `*` it must be the name of a cache.
    ///
    /// # Errors
    /// [`CacheNameError::BadPattern`], or as [`CacheName::new`] where there is no `*`.
    pub fn new(pattern: &str) -> Result<Self, CacheNameError> {
        if !pattern.contains('*') {
            return CacheName::new(pattern).map(|name| Self(name.0));
        }
        if is_well_formed(pattern, |byte| byte == b'*') {
            Ok(Self(pattern.to_owned()))
        } else {
            Err(CacheNameError::BadPattern(excerpt(pattern)))
        }
    }

    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern is for the cache of this name.
    #[must_use]
    pub fn matches(&self, name: &CacheName) -> bool {
        // Each literal part is sought as early as possible; that leaves the most room for those
        // behind it.
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.0.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl FromStr for CachePattern {
    type Err = CacheNameError;

    fn from_str(text: &str) -> Result<Self, CacheNameError> {
        Self::new(text)
    }
}

impl fmt::Display for CachePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text! {
    CacheName: "the name of a cache",
    CachePattern: "a pattern of cache names",
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<CachePattern>().unwrap().matches(&name.parse().unwrap())
    }

    #[test]
    fn names_have_one_form() {
        for name in ["main", "0", "Team_A+b-c", "API", &"x".repeat(50)] {
            assert_eq!(name.parse::<CacheName>().unwrap().as_str(), name);
        }
        for name in ["", "-a", "_a", "+a", "a.b", "a/b", "a b", "é", "a*", &"x".repeat(51)] {
            assert!(matches!(name.parse::<CacheName>(), Err(CacheNameError::BadName(_))), "{name}");
        }
    }

    #[test]
    fn words_of_the_server_are_reserved() {
        for name in RESERVED {
            assert_eq!(name.parse::<CacheName>(), Err(CacheNameError::Reserved(name.to_owned())));
            assert!(name.parse::<CachePattern>().is_err());
        }
    }

    #[test]
    fn patterns_match_as_a_whole() {
        for (pattern, name) in [
            ("*", "main"),
            ("main", "main"),
            ("ma*", "main"),
            ("*in", "main"),
            ("m*n", "main"),
            ("m**n", "main"),
            ("main*", "main"),
            ("*main", "main"),
            ("a*b*c", "aXbXbXc"),
            ("*a*", "banana"),
            ("a*a", "aa"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("main", "main2"),
            ("ma*", "team"),
            ("*in", "ins"),
            ("Main", "main"),
            ("a*a", "a"),
            ("ab*bc", "abc"),
            ("a*b*c", "acb"),
            ("*a*b*", "ba"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        for pattern in ["", "-*", "a.*", "*/*", "?*", &"*".repeat(51)] {
            assert!(pattern.parse::<CachePattern>().is_err(), "{pattern}");
        }
    }

    /// The definition, character by character.
    fn matches_slowly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => {
                (0..=name.len()).any(|skipped| matches_slowly(rest, &name[skipped..]))
            }
            [first, rest @ ..] => name.first() == Some(first) && matches_slowly(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_defined(pattern in "[ab*]{1,7}", name in "[ab]{1,9}") {
            let wanted = matches_slowly(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(&pattern, &name), wanted);
        }
    }
}
