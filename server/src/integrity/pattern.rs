//! Patterns for paths: `[CACHE:]PATTERN`, matched against `NAME` and `HASH-NAME`.

use std::fmt;
use std::str::FromStr;

use snowbank_core::cache_name::{CacheName, CacheNameError};
use snowbank_core::pattern::fits;

/// A pattern for the paths of one cache, or of all caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    cache: Option<CacheName>,
    pattern: String,
}

/// A text that is no pattern.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The part before the colon is no cache's name.
    #[error("`{text}`: {source}; write PATTERN or CACHE:PATTERN, with `*` for any characters")]
    Cache {
        /// The text.
        text: String,
        /// Why.
        source: CacheNameError,
    },
    /// There is no pattern.
    #[error("`{0}` names no paths; write PATTERN or CACHE:PATTERN, with `*` for any characters")]
    Empty(String),
}

impl PathPattern {
    /// Whether it matches all paths of all caches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.cache.is_none() && self.pattern.bytes().all(|byte| byte == b'*')
    }

    /// Whether it matches the path `HASH-NAME` of a cache.
    #[must_use]
    pub fn matches(&self, cache: &CacheName, base_name: &str) -> bool {
        let name = base_name.split_once('-').map_or(base_name, |(_, name)| name);
        self.cache.as_ref().is_none_or(|only| only == cache)
            && (fits(&self.pattern, name) || fits(&self.pattern, base_name))
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // No store path has a colon in its name.
        let (cache, pattern) = match text.split_once(':') {
            Some((cache, pattern)) => {
                let cache = cache
                    .parse()
                    .map_err(|source| PatternError::Cache { text: text.to_owned(), source })?;
                (Some(cache), pattern)
            }
            None => (None, text),
        };
        if pattern.is_empty() {
            return Err(PatternError::Empty(text.to_owned()));
        }
        Ok(Self { cache, pattern: pattern.to_owned() })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cache) = &self.cache {
            write!(f, "{cache}:")?;
        }
        f.write_str(&self.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_names_with_or_without_hash_and_for_one_cache_or_all() {
        let (main, team) = ("main".parse().unwrap(), "team".parse().unwrap());
        let path = "0123456789abcdfghijklmnpqrsvwxyz-hello-2.12";
        for (text, in_main, in_team) in [
            ("*", true, true),
            ("hello-*", true, true),
            ("0123*", true, true),
            ("main:hello*", true, false),
            ("team:*", false, true),
            ("2.12", false, false),
        ] {
            let pattern: PathPattern = text.parse().unwrap();
            assert_eq!(
                (pattern.matches(&main, path), pattern.matches(&team, path)),
                (in_main, in_team),
                "{text}"
            );
            assert_eq!(pattern.to_string(), text);
        }
        for bad in ["", "main:", "api:x", "a b:x"] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
    }
}
