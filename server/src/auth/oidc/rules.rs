//! What a token's claims have to be, and what it allows then.

use serde_json::{Map, Value};
use snowbank_core::cache_name::CachePattern;

use super::super::{Permission, TrustError};
use crate::config::{OidcConfig, OidcGrant};

/// One entry of the settings.
#[derive(Debug)]
pub(super) struct Rule {
    audience: String,
    claims: Vec<(String, Vec<String>)>,
    /// What a token allows that fits.
    pub grants: Vec<(CachePattern, Vec<Permission>)>,
}

/// Why a token does not fit a rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mismatch<'a> {
    /// It is meant for somebody else.
    Audience,
    /// This claim has another value, or is not there.
    Claim(&'a str),
}

impl Rule {
    pub fn from_config(entry: &OidcConfig) -> Result<Self, TrustError> {
        let grant = |grant: &OidcGrant| {
            let permission = |word: &String| {
                word.parse().map_err(|source| TrustError::Permission {
                    place: grant.place.clone(),
                    word: word.clone(),
                    source,
                })
            };
            Ok((
                grant.caches.clone(),
                grant.permissions.iter().map(permission).collect::<Result<_, _>>()?,
            ))
        };
        Ok(Self {
            audience: entry.audience.clone(),
            claims: entry
                .claims
                .iter()
                .map(|(name, patterns)| (name.clone(), patterns.clone()))
                .collect(),
            grants: entry.permissions.iter().map(grant).collect::<Result<_, TrustError>>()?,
        })
    }

    /// Whether a token with these claims is one of those that the entry is about.
    pub fn check<'a>(&'a self, token: &Map<String, Value>) -> Result<(), Mismatch<'a>> {
        let meant_for_us = match token.get("aud") {
            Some(Value::String(audience)) => *audience == self.audience,
            Some(Value::Array(several)) => {
                several.iter().any(|one| one.as_str() == Some(&self.audience))
            }
            _ => false,
        };
        if !meant_for_us {
            return Err(Mismatch::Audience);
        }
        let fits = |(name, patterns): &&(String, Vec<String>)| {
            lookup(token, name)
                .is_some_and(|value| patterns.iter().any(|pattern| value_matches(pattern, value)))
        };
        match self.claims.iter().find(|claim| !fits(claim)) {
            Some((name, _)) => Err(Mismatch::Claim(name)),
            None => Ok(()),
        }
    }
}

/// A claim by its name, or by names with dots between them, of which each is a claim in the one
/// before.
fn lookup<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    // A name may have dots of its own, as those that are addresses do.
    claims.get(name).or_else(|| {
        name.match_indices('.')
            .find_map(|(at, _)| lookup(claims.get(&name[..at])?.as_object()?, &name[at + 1..]))
    })
}

/// Texts, numbers and booleans by their text; a list matches where one of its members does.
fn value_matches(pattern: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => matches(pattern, text),
        Value::Number(number) => matches(pattern, &number.to_string()),
        Value::Bool(truth) => matches(pattern, if *truth { "true" } else { "false" }),
        Value::Array(list) => list.iter().any(|one| !one.is_array() && value_matches(pattern, one)),
        Value::Null | Value::Object(_) => false,
    }
}

/// Whether a text is the pattern, in which each `*` stands for any characters, also none.
fn matches(pattern: &str, text: &str) -> bool {
    // Each literal part is sought as early as possible; that leaves the most room for those behind
    // it.
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_does() {
        for (pattern, text) in [
            ("main", "main"),
            ("*", ""),
            ("refs/heads/*", "refs/heads/"),
            ("refs/*/main", "refs/heads/x/main"),
            ("a*a", "aa"),
            ("*b*", "abc"),
            ("a.c", "a.c"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("main", "Main"),
            ("main", "main2"),
            ("", "x"),
            ("a*a", "a"),
            ("refs/heads/*", "refs/tags/refs/heads/x"),
            ("a.c", "abc"),
            ("*main", "main\n"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn claims_are_found_by_name_and_compared_by_text() {
        let claims = json!({
            "ref": "refs/heads/main", "run": 17, "protected": true, "none": null, "list": ["a", 2],
            "deep": {"er": {"x": "y"}}, "https://x.example/claim": "v", "a.b": "flat",
            "a": {"b": "nested"},
        });
        let Value::Object(claims) = claims else { panic!() };
        let fits = |name: &str, pattern: &str| {
            lookup(&claims, name).is_some_and(|value| value_matches(pattern, value))
        };
        for (name, pattern) in [
            ("ref", "refs/*"),
            ("run", "17"),
            ("protected", "true"),
            ("list", "a"),
            ("list", "2"),
            ("deep.er.x", "y"),
            ("https://x.example/claim", "v"),
            ("a.b", "flat"),
        ] {
            assert!(fits(name, pattern), "{name} {pattern}");
        }
        for (name, pattern) in [
            ("ref", "refs"),
            ("run", "1"),
            ("none", "*"),
            ("deep", "*"),
            ("deep.er", "*"),
            ("absent", "*"),
            ("a.b", "nested"),
        ] {
            assert!(!fits(name, pattern), "{name} {pattern}");
        }
    }
}
