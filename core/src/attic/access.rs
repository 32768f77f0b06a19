//! What a token of attic allows: rights by pattern of cache names, in their order.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::cache_name::{CacheName, CacheNameError, CachePattern};

/// The claim that holds an [`Access`].
pub const CLAIM: &str = "https://jwt.attic.rs/v1";

/// Something that a token of attic can allow on a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// `r`: reading.
    Pull,
    /// `w`: adding paths.
    Push,
    /// `d`: removing paths.
    Delete,
    /// `cc`: creating the cache.
    Create,
    /// `cr`: changing its settings.
    Configure,
    /// `cq`: changing for how long it keeps paths.
    Retention,
    /// `cd`: destroying it.
    Destroy,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Pull,
        Self::Push,
        Self::Delete,
        Self::Create,
        Self::Configure,
        Self::Retention,
        Self::Destroy,
    ];

    /// Its name in a token.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "r",
            Self::Push => "w",
            Self::Delete => "d",
            Self::Create => "cc",
            Self::Configure => "cr",
            Self::Retention => "cq",
            Self::Destroy => "cd",
        }
    }
}

/// The claim of a token.
///
/// ```
/// use snowbank_core::attic::{Access, Right};
///
/// let access: Access = serde_json::from_str(
///     r#"{"caches": {"team-*": {"r": 1, "w": 1}, "team-private": {}, "*": {"r": 1}}}"#,
/// )?;
/// assert_eq!(access.rights(&"team-a".parse()?), [Right::Pull, Right::Push]);
/// // The exact name counts, wherever it stands.
/// assert!(access.rights(&"team-private".parse()?).is_empty());
/// assert_eq!(access.rights(&"other".parse()?), [Right::Pull]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Access {
    #[serde(deserialize_with = "in_order")]
    caches: Vec<(CachePattern, Vec<Right>)>,
}

impl Access {
    /// What is allowed on a cache: by the entry of exactly this name, else by the first pattern that
    /// matches. Sorted, each right once.
    #[must_use]
    pub fn rights(&self, cache: &CacheName) -> &[Right] {
        let exact = self.caches.iter().find(|(pattern, _)| pattern.as_str() == cache.as_str());
        let found =
            exact.or_else(|| self.caches.iter().find(|(pattern, _)| pattern.matches(cache)));
        found.map_or(&[], |(_, rights)| rights)
    }

    /// Every pattern with its rights, in the token's order.
    pub fn entries(&self) -> impl Iterator<Item = (&CachePattern, &[Right])> {
        self.caches.iter().map(|(pattern, rights)| (pattern, &rights[..]))
    }
}

/// The rights of one entry; a right that is absent is not given.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "so a token has them")]
struct Entry {
    #[serde(deserialize_with = "flag")]
    r: bool,
    #[serde(deserialize_with = "flag")]
    w: bool,
    #[serde(deserialize_with = "flag")]
    d: bool,
    #[serde(deserialize_with = "flag")]
    cc: bool,
    #[serde(deserialize_with = "flag")]
    cr: bool,
    #[serde(deserialize_with = "flag")]
    cq: bool,
    #[serde(deserialize_with = "flag")]
    cd: bool,
}

impl Entry {
    fn rights(&self) -> Vec<Right> {
        let has = |right: &Right| match right {
            Right::Pull => self.r,
            Right::Push => self.w,
            Right::Delete => self.d,
            Right::Create => self.cc,
            Right::Configure => self.cr,
            Right::Retention => self.cq,
            Right::Destroy => self.cd,
        };
        Right::ALL.into_iter().filter(has).collect()
    }
}

/// 0 or 1, as attic writes it, or a boolean. Anything else is refused: it might have meant no.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Flag;

    impl Visitor<'_> for Flag {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("0 or 1")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<bool, E> {
            match value {
                0 => Ok(false),
                1 => Ok(true),
                other => Err(E::invalid_value(de::Unexpected::Unsigned(other), &self)),
            }
        }
    }

    deserializer.deserialize_any(Flag)
}

/// Of entries with the same pattern the last one counts, in the place of the first.
fn in_order<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(CachePattern, Vec<Right>)>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(CachePattern, Vec<Right>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("rights by pattern of cache names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries: Self::Value = Vec::new();
            while let Some((text, entry)) = map.next_entry::<String, Entry>()? {
                let pattern = match CachePattern::new(&text) {
                    Ok(pattern) => pattern,
                    // attic has such a cache, and this server can have none of this name.
                    Err(CacheNameError::Reserved(_)) => continue,
                    Err(error) => return Err(de::Error::custom(error)),
                };
                let rights = entry.rights();
                match entries.iter_mut().find(|(other, _)| *other == pattern) {
                    Some((_, before)) => *before = rights,
                    None => entries.push((pattern, rights)),
                }
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_map(Entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn access(text: &str) -> Access {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn each_letter_is_its_right_and_nothing_else_is() {
        for right in Right::ALL {
            let caches = format!(r#"{{"caches": {{"a": {{"{}": 1, "x": 1}}}}}}"#, right.as_str());
            let access = access(&caches);
            assert_eq!(access.rights(&"a".parse().unwrap()), [right]);
            assert!(access.rights(&"b".parse().unwrap()).is_empty());
        }
    }

    #[test]
    fn a_name_that_this_server_keeps_for_itself_is_passed_over() {
        let access = access(r#"{"caches": {"cache": {"r": 1}, "*": {"w": 1}}}"#);
        assert_eq!(access.entries().count(), 1);
        assert_eq!(access.rights(&"main".parse().unwrap()), [Right::Push]);
    }

    #[test]
    fn a_claim_that_is_not_understood_is_refused() {
        for caches in [
            json!({}),
            json!({"caches": []}),
            json!({"caches": {"a": {"r": 2}}}),
            json!({"caches": {"a": {"r": -1}}}),
            json!({"caches": {"a": {"r": "1"}}}),
            json!({"caches": {"a": {"r": 1.0}}}),
            json!({"caches": {"a": {"r": null}}}),
            json!({"caches": {"a": 1}}),
            json!({"caches": {"-a": {"r": 1}}}),
            json!({"caches": {"a b*": {"r": 1}}}),
        ] {
            let text = caches.to_string();
            assert!(serde_json::from_str::<Access>(&text).is_err(), "{text}");
        }
    }

    /// Whether `pattern` matches, by trying every length for each `*`.
    fn matches(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
            [byte, rest @ ..] => name.first() == Some(byte) && matches(rest, &name[1..]),
        }
    }

    proptest! {
        /// The rule as attic documents it, on the JSON itself.
        #[test]
        fn the_exact_name_counts_and_else_the_first_pattern(
            entries in prop::collection::vec(
                ("[ab*][ab*]{0,3}", prop::collection::btree_set(0_usize..7, 0..4)), 0..6),
            name in "[ab]{1,4}",
        ) {
            let mut distinct: Vec<(String, Vec<Right>)> = Vec::new();
            for (pattern, rights) in entries {
                if !distinct.iter().any(|(other, _)| *other == pattern) {
                    distinct.push((pattern, rights.into_iter().map(|at| Right::ALL[at]).collect()));
                }
            }
            let entry = |(pattern, rights): &(String, Vec<Right>)| {
                let flags: Vec<String> =
                    rights.iter().map(|right| format!("\"{}\":1", right.as_str())).collect();
                format!("\"{pattern}\":{{{}}}", flags.join(","))
            };
            let text: Vec<String> = distinct.iter().map(entry).collect();
            let access = access(&format!("{{\"caches\":{{{}}}}}", text.join(",")));
            let expected = distinct
                .iter()
                .find(|(pattern, _)| *pattern == name)
                .or_else(|| distinct.iter()
                    .find(|(pattern, _)| matches(pattern.as_bytes(), name.as_bytes())))
                .map_or(Vec::new(), |(_, rights)| rights.clone());
            prop_assert_eq!(access.rights(&name.parse().unwrap()), &expected[..]);
        }

        #[test]
        fn no_json_breaks_it(text in r#"\{"caches":\{("[a*+-]{0,3}":\{("(r|w|cd)":[0-3]){0,2}\},?){0,3}\}\}"#) {
            if let Ok(access) = serde_json::from_str::<Access>(&text) {
                let value: Value = serde_json::from_str(&text).unwrap();
                let granted = value["caches"].as_object().unwrap().values().any(|entry| {
                    entry.as_object().unwrap().values().any(|flag| flag == &json!(1))
                });
                let any = access.entries().any(|(_, rights)| !rights.is_empty());
                prop_assert!(granted || !any);
            }
        }
    }
}
