//! Which store paths are left out of a push: by name and by size.
//!
//! A pattern is searched for in the name of a store path, the part after the hash. It is a regular
//! expression of the crate `regex`, without Unicode classes, since names are ASCII. Its time is
//! linear in the name, and [`MAX_COMPILED_BYTES`] bounds its memory.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use snowbank_core::store_path::StorePath;
use snowbank_core::units::{Bytes, Size};

/// Most bytes of a compiled pattern, and of the states that it makes while it runs.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// A regular expression, and the flag or key that gave it.
#[derive(Debug, Clone)]
pub struct NamePattern {
    regex: Regex,
    /// Such as `--exclude` or `servers.work.only`.
    origin: String,
}

/// A pattern that is no regular expression, or too large a one.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {pattern:?} cannot be used: {reason}; {next_step}")]
pub struct PatternError {
    origin: String,
    pattern: String,
    reason: String,
    next_step: &'static str,
}

impl NamePattern {
    /// Compiles the pattern that `origin` gave.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(pattern: &str, origin: &str) -> Result<Self, PatternError> {
        let compiled = RegexBuilder::new(pattern)
            .unicode(false)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_COMPILED_BYTES)
            .build();
        let failed = |reason: String, next_step| PatternError {
            origin: origin.to_owned(),
            pattern: pattern.to_owned(),
            reason,
            next_step,
        };
        match compiled {
            Ok(regex) => Ok(Self { regex, origin: origin.to_owned() }),
            Err(regex::Error::CompiledTooBig(limit)) => Err(failed(
                format!("it takes more than {} of memory", Bytes(limit as u64)),
                "use smaller repetition counts, or several patterns",
            )),
            Err(error) => {
                // The crate draws the pattern over several lines, and ends with the reason.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Err(failed(
                    reason.to_owned(),
                    "write a regular expression for the name after the hash, such as '^linux-' or \
                     '\\.iso$'",
                ))
            }
        }
    }

    fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name.as_bytes())
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.origin, self.regex.as_str())
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        (self.regex.as_str(), &self.origin) == (other.regex.as_str(), &other.origin)
    }
}

impl Eq for NamePattern {}

/// The paths that a push leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathFilter {
    /// Paths whose name has one of these are left out.
    pub exclude: Vec<NamePattern>,
    /// If there are any, paths whose name has none of these are left out.
    pub only: Vec<NamePattern>,
    /// Paths with a larger NAR are left out.
    pub max_path_size: Option<Size>,
}

impl PathFilter {
    /// The filter that leaves out nothing.
    pub const NONE: Self = Self { exclude: Vec::new(), only: Vec::new(), max_path_size: None };

    /// This filter with `above` over it, which adds to `exclude` and replaces the rest.
    #[must_use]
    pub fn with(&self, above: &Self) -> Self {
        let only = if above.only.is_empty() { &self.only } else { &above.only };
        Self {
            exclude: self.exclude.iter().chain(&above.exclude).cloned().collect(),
            only: only.clone(),
            max_path_size: above.max_path_size.or(self.max_path_size),
        }
    }

    /// The reason why a path is left out, if it is.
    #[must_use]
    pub fn reason(&self, path: &StorePath, nar_size: u64) -> Option<String> {
        let name = path.name();
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.matches(name)) {
            return Some(format!("its name matches {pattern}"));
        }
        if !self.only.is_empty() && !self.only.iter().any(|pattern| pattern.matches(name)) {
            let patterns: Vec<String> = self.only.iter().map(NamePattern::to_string).collect();
            return Some(format!("its name does not match {}", patterns.join(" or ")));
        }
        let max = self.max_path_size.filter(|max| nar_size > max.bytes())?;
        Some(format!("its NAR has {}, and max-path-size is {max}", Bytes(nar_size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(patterns: &[&str], origin: &str) -> Vec<NamePattern> {
        patterns.iter().map(|pattern| NamePattern::new(pattern, origin).unwrap()).collect()
    }

    fn filter(exclude: &[&str], only: &[&str], max: Option<&str>) -> PathFilter {
        PathFilter {
            exclude: patterns(exclude, "--exclude"),
            only: patterns(only, "--only"),
            max_path_size: max.map(|max| max.parse().unwrap()),
        }
    }

    fn reason(filter: &PathFilter, name: &str, nar_size: u64) -> Option<String> {
        let path = StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap();
        filter.reason(&path, nar_size)
    }

    #[test]
    fn patterns_are_searched_for_in_the_name_alone() {
        let zeros = filter(&["^0", r"\.iso$"], &[], None);
        assert_eq!(reason(&zeros, "hello", 1), None);
        let why = reason(&zeros, "nixos.iso", 1).unwrap();
        assert!(why.contains(r"--exclude \.iso$"), "{why}");
    }

    #[test]
    fn only_needs_one_match_and_exclude_goes_before_it() {
        let filter = filter(&["secret"], &["^a", "^b"], None);
        assert_eq!(reason(&filter, "b-1", 1), None);
        assert!(reason(&filter, "c", 1).unwrap().contains("--only ^a or --only ^b"));
        assert!(reason(&filter, "a-secret", 1).unwrap().contains("--exclude secret"));
    }

    #[test]
    fn a_nar_of_exactly_the_maximum_is_pushed() {
        let filter = filter(&[], &[], Some("1KiB"));
        assert_eq!(reason(&filter, "a", 1024), None);
        assert!(reason(&filter, "a", 1025).unwrap().contains("max-path-size is 1KiB"));
    }

    #[test]
    fn the_filter_above_adds_to_exclude_and_replaces_the_rest() {
        let below = filter(&["a"], &["b"], Some("1B"));
        assert_eq!(below.with(&PathFilter::NONE), below);
        let above = filter(&["c"], &["d"], Some("2B"));
        assert_eq!(below.with(&above), filter(&["a", "c"], &["d"], Some("2B")));
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_origin_the_reason_and_the_next_step() {
        let error = NamePattern::new("[a", "--only").unwrap_err().to_string();
        assert_eq!(
            error,
            "--only: \"[a\" cannot be used: unclosed character class; write a regular expression \
             for the name after the hash, such as '^linux-' or '\\.iso$'"
        );
        let error = NamePattern::new("(a{999}){999}", "--exclude").unwrap_err().to_string();
        assert!(error.contains("more than 1.00 MiB") && error.contains("smaller"), "{error}");
    }
}
