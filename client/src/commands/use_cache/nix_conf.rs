//! Editing `nix.conf`: a block per cache between two comments, everything else left as it is.
//!
//! ```text
//! # snowbank: https://cache.example.org/main (`snowbank use --remove` takes this out)
//! extra-substituters = https://cache.example.org/main
//! extra-trusted-public-keys = cache.example.org-main-1:…
//! # snowbank: end
//! ```
//!
//! Nix (since 2.4) adds every `extra-` line to what was there before it, so a block at the end of the file works
//! whatever stands above. Writing a block that is there replaces it; taking it out leaves the text that was there before.

const BEGIN: &str = "# snowbank: ";
const BEGIN_NOTE: &str = " (`snowbank use --remove` takes this out)";
const END: &str = "# snowbank: end";

/// A block's lines, without its comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// The substituter's address, by which the block is known.
    pub substituter: String,
    /// Its public keys, `name:base64`.
    pub public_keys: Vec<String>,
    /// The netrc file to name.
    pub netrc_file: Option<String>,
}

impl Block {
    /// The block as text, comments included.
    pub(super) fn text(&self) -> String {
        let netrc = self.netrc_file.as_ref().map_or_else(String::new, |file| format!("netrc-file = {file}\n"));
        format!(
            "{BEGIN}{0}{BEGIN_NOTE}\nextra-substituters = {0}\nextra-trusted-public-keys = {1}\n{netrc}{END}\n",
            self.substituter,
            self.public_keys.join(" ")
        )
    }
}

/// A block whose end is missing: where it begins, counted from 1. A person has to look at it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} begins a block of `snowbank use` that does not end; mend or delete it by hand")]
pub(super) struct Unfinished {
    line: usize,
}

/// `text` with `block`, in the place of an older one for the same substituter, else at the end.
pub(super) fn with_block(text: &str, block: &Block) -> Result<String, Unfinished> {
    match find(text, &block.substituter)? {
        Some(range) => Ok(format!("{}{}{}", &text[..range.start], block.text(), &text[range.end..])),
        None if text.is_empty() || text.ends_with('\n') => Ok(format!("{text}{}", block.text())),
        // The line break belongs to the block: taking the block out takes it out too.
        None => Ok(format!("{text}\n{}", block.text())),
    }
}

/// `text` without the block of `substituter`; `None` when there is none.
pub(super) fn without_block(text: &str, substituter: &str) -> Result<Option<String>, Unfinished> {
    Ok(find(text, substituter)?.map(|range| format!("{}{}", &text[..range.start], &text[range.end..])))
}

/// The substituters of all blocks.
pub(super) fn substituters(text: &str) -> Vec<&str> {
    text.lines().filter_map(begins).collect()
}

/// The last value of `name` that is set outside of all blocks, as Nix reads it.
pub(super) fn setting<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut in_block = false;
    let mut found = None;
    for line in text.lines() {
        if begins(line).is_some() {
            in_block = true;
        } else if line.trim_end() == END {
            in_block = false;
        } else if !in_block {
            let line = line.split('#').next().unwrap_or_default();
            if let Some((key, value)) = line.split_once('=')
                && key.trim() == name
            {
                found = Some(value.trim());
            }
        }
    }
    found
}

/// The substituter whose block `line` begins.
fn begins(line: &str) -> Option<&str> {
    line.strip_prefix(BEGIN)?.trim_end().strip_suffix(BEGIN_NOTE)
}

/// The bytes of the block of `substituter`, from its first comment to the end of its last.
fn find(text: &str, substituter: &str) -> Result<Option<std::ops::Range<usize>>, Unfinished> {
    let mut at = 0;
    let mut start = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        match start {
            None if begins(bare) == Some(substituter) => start = Some((at, index + 1)),
            Some((start, _)) if bare == END => return Ok(Some(start..at + line.len())),
            Some((_, line)) if begins(bare).is_some() => return Err(Unfinished { line }),
            _ => {}
        }
        at += line.len();
    }
    match start {
        Some((_, line)) => Err(Unfinished { line }),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, key: &str) -> Block {
        Block { substituter: format!("http://h/{name}"), public_keys: vec![key.to_owned()], netrc_file: None }
    }

    #[test]
    fn a_block_comes_and_goes_without_a_trace() {
        for text in ["", "# mine\nsubstituters = https://cache.nixos.org  # the usual\n\n", "sandbox = false\r\n"] {
            let with = with_block(text, &block("main", "k:1")).unwrap();
            assert!(with.starts_with(text) && with.contains("\nextra-substituters = http://h/main\n"), "{with}");
            assert_eq!(with_block(&with, &block("main", "k:1")).unwrap(), with, "again changes nothing");
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
        assert_eq!(without_block(&new, "http://h/two").unwrap().unwrap(), one.replace("k:1", "k:3"));
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
            assert_eq!(with_block(text, &block("main", "k:1")), Err(Unfinished { line: 2 }));
            assert!(without_block(text, "http://h/main").is_err());
        }
    }

    #[test]
    fn settings_are_read_as_nix_reads_them() {
        let mut own = block("main", "k:1");
        own.netrc_file = Some("/ours".to_owned());
        let text = "netrc-file = /old\nnetrc-file=/new # here\n#netrc-file = /no\nextra-x = 1\n";
        let text = with_block(text, &own).unwrap();
        assert_eq!(setting(&text, "netrc-file"), Some("/new"));
        assert_eq!(setting(&own.text(), "netrc-file"), None);
    }
}
