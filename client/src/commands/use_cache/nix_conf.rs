//! Editing `nix.conf`: a block per cache and one of settings, each between two comments; everything
//! else is left as it is.
//!
//! ```text
//! # snowbank: https://cache.example.org/main (`snowbank use --remove` takes this out)
//! extra-substituters = https://cache.example.org/main
//! extra-trusted-public-keys = cache.example.org-main-1:…
//! # snowbank: end
//! ```
//!
//! The block of settings is called `settings` and has plain `name = value` lines; it goes with the
//! last cache's block.
//!
//! Nix (since 2.4) adds every `extra-` line to what was there before it, so a block at the end of
//! the file works whatever stands above. Writing a block that is there replaces it; taking it out
//! leaves the text that was there before.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const BEGIN: &str = "# snowbank: ";
const BEGIN_NOTE: &str = " (`snowbank use --remove` takes this out)";
const END: &str = "# snowbank: end";
/// What the block of settings is called where others have their substituter.
const SETTINGS: &str = "settings";

/// A parameter of a substituter, which is the first.
const PRIORITY: &str = "priority=";

/// A block's lines, without its comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The substituter's address, by which the block is known.
    pub substituter: String,
    /// Its rank among substituters, where it is not to be the cache's own.
    pub priority: Option<u32>,
    /// The certificate that Nix shows there, and its key, by their absolute paths.
    pub client_certificate: Option<(String, String)>,
    /// Its public keys, `name:base64`.
    pub public_keys: Vec<String>,
    /// The netrc file to name.
    pub netrc_file: Option<String>,
}

impl Block {
    /// The cache's address as Nix has it.
    pub(super) fn address(&self) -> String {
        let mut parameters: Vec<String> =
            self.priority.iter().map(|priority| format!("{PRIORITY}{priority}")).collect();
        if let Some((certificate, key)) = &self.client_certificate {
            parameters.push(format!("tls-certificate={}", percent_encoded(certificate)));
            parameters.push(format!("tls-private-key={}", percent_encoded(key)));
        }
        if parameters.is_empty() {
            return self.substituter.clone();
        }
        format!("{}?{}", self.substituter, parameters.join("&"))
    }

    /// The block as text, comments included.
    pub(super) fn text(&self) -> String {
        let netrc = self
            .netrc_file
            .as_ref()
            .map_or_else(String::new, |file| format!("netrc-file = {file}\n"));
        format!(
            "{BEGIN}{}{BEGIN_NOTE}\nextra-substituters = {}\nextra-trusted-public-keys = \
             {}\n{netrc}{END}\n",
            self.substituter,
            self.address(),
            self.public_keys.join(" ")
        )
    }
}

/// A path as the value of a parameter.
fn percent_encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Settings and their values, by name.
pub(super) type Settings = BTreeMap<String, String>;

/// The block of settings as text.
pub(super) fn settings_text(settings: &Settings) -> String {
    let mut lines = String::new();
    for (name, value) in settings {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{name} = {value}");
    }
    format!("{BEGIN}{SETTINGS}{BEGIN_NOTE}\n{lines}{END}\n")
}

/// A block whose end is missing: where it begins, counted from 1. A person has to look at it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "line {line} begins a block of `snowbank use` that does not end; mend or delete it by hand"
)]
pub(crate) struct UnclosedBlock {
    line: usize,
}

/// `text` with `block`, in the place of an older one for the same substituter, else at the end.
pub(crate) fn with_block(text: &str, block: &Block) -> Result<String, UnclosedBlock> {
    let priority = block.priority.or(priority(text, &block.substituter)?);
    put(text, &block.substituter, &Block { priority, ..block.clone() }.text())
}

/// `text` with `settings` in its block of settings; those that it has already and that are not
/// among them stay.
pub(super) fn with_settings(text: &str, settings: &Settings) -> Result<String, UnclosedBlock> {
    if settings.is_empty() {
        return Ok(text.to_owned());
    }
    let old = find(text, SETTINGS)?.map_or("", |range| &text[range]);
    let old = old.lines().filter_map(|line| line.split_once(" = "));
    let mut all: Settings =
        old.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect();
    all.extend(settings.clone());
    put(text, SETTINGS, &settings_text(&all))
}

/// `text` with `block` in the place of the one called `name`, else at the end.
fn put(text: &str, name: &str, block: &str) -> Result<String, UnclosedBlock> {
    match find(text, name)? {
        Some(range) => Ok(format!("{}{block}{}", &text[..range.start], &text[range.end..])),
        None if text.is_empty() || text.ends_with('\n') => Ok(format!("{text}{block}")),
        // The line break stays when the block is taken out.
        None => Ok(format!("{text}\n{block}")),
    }
}

/// The rank that the block of `substituter` gives it.
fn priority(text: &str, substituter: &str) -> Result<Option<u32>, UnclosedBlock> {
    let Some(range) = find(text, substituter)? else { return Ok(None) };
    let line = text[range].lines().find_map(|line| line.strip_prefix("extra-substituters = "));
    let value = line.and_then(|url| url.split_once('?')?.1.trim_end().strip_prefix(PRIORITY));
    Ok(value.and_then(|value| value.split('&').next()?.parse().ok()))
}

/// `text` without the block of `substituter`, and without the block of settings if that was the
/// last one; `None` when there is none.
pub(crate) fn without_block(
    text: &str,
    substituter: &str,
) -> Result<Option<String>, UnclosedBlock> {
    let Some(left) = cut(text, substituter)? else { return Ok(None) };
    if !substituters(&left).is_empty() {
        return Ok(Some(left));
    }
    Ok(Some(cut(&left, SETTINGS)?.unwrap_or(left)))
}

fn cut(text: &str, name: &str) -> Result<Option<String>, UnclosedBlock> {
    Ok(find(text, name)?.map(|range| format!("{}{}", &text[..range.start], &text[range.end..])))
}

/// The substituters of all blocks.
pub(crate) fn substituters(text: &str) -> Vec<&str> {
    text.lines().filter_map(begins).filter(|name| *name != SETTINGS).collect()
}

/// `text` without all blocks: the lines that are somebody else's.
pub(super) fn outside_blocks(text: &str) -> String {
    let mut is_in_block = false;
    let mut left = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if begins(line).is_some() {
            is_in_block = true;
        }
        if !is_in_block {
            left.push_str(line);
        } else if line.trim_end() == END {
            is_in_block = false;
        }
    }
    left
}

/// The substituter whose block `line` begins.
fn begins(line: &str) -> Option<&str> {
    line.strip_prefix(BEGIN)?.trim_end().strip_suffix(BEGIN_NOTE)
}

/// The bytes of the block called `substituter`, from its first comment to the end of its last.
fn find(text: &str, substituter: &str) -> Result<Option<std::ops::Range<usize>>, UnclosedBlock> {
    let mut at = 0;
    let mut start = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        match start {
            None if begins(bare) == Some(substituter) => start = Some((at, index + 1)),
            Some((start, _)) if bare == END => return Ok(Some(start..at + line.len())),
            Some((_, line)) if begins(bare).is_some() => return Err(UnclosedBlock { line }),
            _ => {}
        }
        at += line.len();
    }
    match start {
        Some((_, line)) => Err(UnclosedBlock { line }),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, key: &str) -> Block {
        let substituter = format!("http://h/{name}");
        let public_keys = vec![key.to_owned()];
        Block {
            substituter,
            priority: None,
            client_certificate: None,
            public_keys,
            netrc_file: None,
        }
    }

    #[test]
    fn a_block_comes_and_goes_without_a_trace() {
        for text in [
            "",
            "# mine\nsubstituters = https://cache.nixos.org  # the usual\n\n",
            "sandbox = false\r\n",
        ] {
            let with = with_block(text, &block("main", "k:1")).unwrap();
            assert!(
                with.starts_with(text) && with.contains("\nextra-substituters = http://h/main\n"),
                "{with}"
            );
            assert_eq!(
                with_block(&with, &block("main", "k:1")).unwrap(),
                with,
                "again changes nothing"
            );
            assert_eq!(without_block(&with, "http://h/main").unwrap().unwrap(), text);
            assert_eq!(without_block(text, "http://h/main").unwrap(), None);
        }
    }

    #[test]
    fn a_last_line_without_a_break_is_not_joined() {
        let with = with_block("sandbox = false", &block("main", "k:1")).unwrap();
        assert!(with.starts_with("sandbox = false\n# snowbank"));
        assert_eq!(without_block(&with, "http://h/main").unwrap().unwrap(), "sandbox = false\n");
    }

    #[test]
    fn a_new_key_replaces_the_old_in_its_place() {
        let one = with_block("a = b\n", &block("one", "k:1")).unwrap();
        let two = with_block(&one, &block("two", "k:2")).unwrap();
        let new = with_block(&two, &block("one", "k:3")).unwrap();
        assert_eq!(new, two.replace("k:1", "k:3"));
        assert_eq!(substituters(&new), ["http://h/one", "http://h/two"]);
        assert_eq!(
            without_block(&new, "http://h/two").unwrap().unwrap(),
            one.replace("k:1", "k:3")
        );
    }

    #[test]
    fn a_priority_stays_until_another_is_given() {
        let mut ranked = block("main", "k:1");
        ranked.priority = Some(30);
        let text = with_block("", &ranked).unwrap();
        assert!(text.contains("\nextra-substituters = http://h/main?priority=30\n"), "{text}");
        assert_eq!(with_block(&text, &block("main", "k:1")).unwrap(), text);
        ranked.priority = Some(5);
        assert!(with_block(&text, &ranked).unwrap().contains("?priority=5\n"));
        assert_eq!(without_block(&text, "http://h/main").unwrap().unwrap(), "");
    }

    #[test]
    fn a_client_certificate_stands_behind_the_priority() {
        let mut own = block("main", "k:1");
        own.client_certificate = Some(("/c/my cert.pem".to_owned(), "/c/k&y".to_owned()));
        let parameters = "tls-certificate=/c/my%20cert.pem&tls-private-key=/c/k%26y";
        assert_eq!(own.address(), format!("http://h/main?{parameters}"));
        own.priority = Some(7);
        let text = with_block("", &own).unwrap();
        assert!(text.contains(&format!("http://h/main?priority=7&{parameters}\n")), "{text}");
        own.priority = None;
        assert_eq!(with_block(&text, &own).unwrap(), text, "the priority stays");
    }

    #[test]
    fn settings_are_merged_and_go_with_the_last_cache() {
        let set = |text: &str, settings: &[(&str, &str)]| {
            let settings = settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            with_settings(text, &settings).unwrap()
        };
        let before = "fallback = false\n";
        let one = with_block(before, &block("one", "k:1")).unwrap();
        assert_eq!(set(&one, &[]), one);
        let first = set(&one, &[("fallback", "true"), ("connect-timeout", "5")]);
        assert!(
            first.contains("\nconnect-timeout = 5\nfallback = true\n# snowbank: end\n"),
            "{first}"
        );
        let second = set(&first, &[("connect-timeout", "9"), ("narinfo-cache-negative-ttl", "60")]);
        assert!(
            second.contains(
                "\nconnect-timeout = 9\nfallback = true\nnarinfo-cache-negative-ttl = 60\n"
            ),
            "{second}"
        );
        assert_eq!(second.matches("connect-timeout").count(), 1);
        assert_eq!(substituters(&second), ["http://h/one"]);

        let two = with_block(&second, &block("two", "k:2")).unwrap();
        let left = without_block(&two, "http://h/one").unwrap().unwrap();
        assert!(left.contains("narinfo-cache-negative-ttl"), "{left}");
        assert_eq!(without_block(&left, "http://h/two").unwrap().unwrap(), before);
    }

    #[test]
    fn only_the_cache_that_is_meant_is_touched() {
        let text = with_block("", &block("main2", "k:1")).unwrap();
        assert_eq!(without_block(&text, "http://h/main").unwrap(), None);
    }

    #[test]
    fn a_block_without_an_end_is_left_to_a_person() {
        let text = with_block("x = y\n", &block("main", "k:1")).unwrap();
        let cut = text.strip_suffix(&format!("{END}\n")).unwrap();
        let more = with_block(cut, &block("two", "k:2")).unwrap();
        for text in [cut, &more] {
            assert_eq!(with_block(text, &block("main", "k:1")), Err(UnclosedBlock { line: 2 }));
            assert!(without_block(text, "http://h/main").is_err());
        }
    }

    #[test]
    fn the_lines_of_others_are_told_from_ours() {
        let before = "netrc-file = /old\nextra-x = 1\n";
        let one = with_block(before, &block("main", "k:1")).unwrap();
        let text = with_block(&format!("{one}netrc-file = /new\n"), &block("two", "k:2")).unwrap();
        assert_eq!(outside_blocks(&text), format!("{before}netrc-file = /new\n"));
    }
}
