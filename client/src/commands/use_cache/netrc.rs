//! Editing a netrc file, from which Nix takes the token for a private cache: one line per host is ours.
//!
//! Ours is known by its form, `machine HOST login snowbank password TOKEN`, on one line. An entry for the host in any
//! other form is somebody else's and stays; curl takes the first that fits, so ours would not count beside it.
//! Source: curl's manual on `.netrc`; a host stands there without port.

use zeroize::Zeroizing;

use crate::config::Secret;

/// What became of the entry.
#[derive(PartialEq, Eq)]
pub(super) enum Edited {
    /// The new text of the file: a secret.
    Text(Zeroizing<String>),
    /// The file already says so, or has nothing to take out.
    Same,
    /// The host has an entry that is not ours.
    Foreign,
}

/// `text` with our entry for `host`.
pub(super) fn with_entry(text: &str, host: &str, token: &Secret) -> Edited {
    let line = Zeroizing::new(format!("machine {host} login snowbank password {}", token.expose()));
    let mut new = Zeroizing::new(String::with_capacity(text.len() + line.len() + 2));
    let mut placed = false;
    for old in text.split_inclusive('\n') {
        if !is_ours(old, host) {
            new.push_str(old);
        } else if !placed {
            new.push_str(&line);
            new.push('\n');
            placed = true;
        }
    }
    if !placed {
        if has_entry(text, host) {
            return Edited::Foreign;
        }
        if !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        new.push_str(&line);
        new.push('\n');
    }
    if *new == text { Edited::Same } else { Edited::Text(new) }
}

/// `text` without our entry for `host`.
pub(super) fn without_entry(text: &str, host: &str) -> Edited {
    let kept = text.split_inclusive('\n').filter(|line| !is_ours(line, host));
    let mut new = Zeroizing::new(String::with_capacity(text.len()));
    kept.for_each(|line| new.push_str(line));
    if *new == text { Edited::Same } else { Edited::Text(new) }
}

fn is_ours(line: &str, host: &str) -> bool {
    let mut words = line.split_whitespace();
    let start = ["machine", host, "login", "snowbank", "password"];
    start.iter().all(|word| words.next() == Some(word)) && words.next().is_some() && words.next().is_none()
}

fn has_entry(text: &str, host: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).any(|pair| pair == ["machine", host]) || words.contains(&"default")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, token: &str) -> Edited {
        with_entry(text, "cache.example.org", &Secret::from_text(token).unwrap())
    }

    fn text(edited: &Edited) -> &str {
        match edited {
            Edited::Text(text) => text,
            Edited::Same => "same",
            Edited::Foreign => "foreign",
        }
    }

    #[test]
    fn an_entry_comes_changes_and_goes() {
        let others = "machine a\n  login me\n  password x\n# note\n";
        let one = with(others, "t1");
        assert_eq!(text(&one), format!("{others}machine cache.example.org login snowbank password t1\n"));
        assert_eq!(text(&with(text(&one), "t1")), "same");
        let two = with(text(&one), "t2");
        assert_eq!(text(&two), text(&one).replace("t1", "t2"));
        assert_eq!(text(&without_entry(text(&two), "cache.example.org")), others);
        assert_eq!(text(&without_entry(others, "cache.example.org")), "same");
        assert_eq!(text(&with("x", "t")), "x\nmachine cache.example.org login snowbank password t\n");
    }

    #[test]
    fn somebody_elses_entry_stays() {
        for others in ["machine cache.example.org login me password x\n", "default login a password b\n"] {
            assert_eq!(text(&with(others, "t1")), "foreign");
            assert_eq!(text(&without_entry(others, "cache.example.org")), "same");
        }
    }
}
