//! Editing a netrc file, from which Nix takes the token for a private cache: one line per host is
//! ours.
//!
//! Ours is known by its form, `machine HOST login snowbank password TOKEN`, on one line outside of
//! macros. An entry for the host in any other form is somebody else's and stays. After an edit,
//! curl's rules ([`nix::netrc`](crate::nix::netrc)) say whether the token is the one that counts;
//! where another entry hides it at the end of the file, it goes to the top.

use zeroize::Zeroizing;

use crate::config::Secret;
use crate::nix::netrc::{UnclosedQuote, entry, lines_in_macros};

/// The result of an edit.
#[derive(PartialEq, Eq)]
pub(crate) enum NetrcEdit {
    /// The new text of the file: a secret.
    Text(Zeroizing<String>),
    /// The file already says so, or has nothing to take out.
    Same,
    /// The host has an entry that is not ours, and that counts before one of ours.
    Foreign,
}

/// `text` with our entry for `host`.
///
/// # Errors
/// A file that curl does not read.
pub(crate) fn with_entry(
    text: &str,
    host: &str,
    token: &Secret,
) -> Result<NetrcEdit, UnclosedQuote> {
    with_password(text, host, token.expose())
}

fn with_password(text: &str, host: &str, password: &str) -> Result<NetrcEdit, UnclosedQuote> {
    let line = Zeroizing::new(format!("machine {host} login snowbank password {password}\n"));
    let counts = |text: &str| -> Result<bool, UnclosedQuote> {
        Ok(entry(text, host)?.is_some_and(|entry| entry.password.as_str() == password))
    };
    let replaced = edit(text, host, Some(&line));
    if replaced.contains(line.as_str()) && counts(&replaced)? {
        return Ok(if *replaced == text { NetrcEdit::Same } else { NetrcEdit::Text(replaced) });
    }
    let others = edit(text, host, None);
    let theirs = entry(&others, host)?.filter(|entry| entry.is_own);
    if theirs.as_ref().is_some_and(|theirs| theirs.password.as_str() == password) {
        return Ok(NetrcEdit::Foreign);
    }
    let gap = if others.is_empty() || others.ends_with('\n') { "" } else { "\n" };
    let below = Zeroizing::new([others.as_str(), gap, &line].concat());
    if counts(&below)? {
        return Ok(NetrcEdit::Text(below));
    }
    if theirs.is_some() {
        return Ok(NetrcEdit::Foreign);
    }
    // An entry for every host hides those behind it, as does a macro or an entry without its end.
    Ok(NetrcEdit::Text(Zeroizing::new([line.as_str(), &others].concat())))
}

/// Whether an entry of ours would not count for `host` beside one of somebody else's.
///
/// # Errors
/// A file that curl does not read.
pub(super) fn is_foreign(text: &str, host: &str) -> Result<bool, UnclosedQuote> {
    Ok(with_password(text, host, "any")? == NetrcEdit::Foreign)
}

/// `text` without our entry for `host`.
pub(crate) fn without_entry(text: &str, host: &str) -> NetrcEdit {
    let new = edit(text, host, None);
    if *new == text { NetrcEdit::Same } else { NetrcEdit::Text(new) }
}

/// `text` with `line` in the place of our first entry for `host`, and without our others.
fn edit(text: &str, host: &str, line: Option<&str>) -> Zeroizing<String> {
    let mut new = Zeroizing::new(String::with_capacity(text.len() + line.map_or(0, str::len)));
    let mut line = line;
    for (old, is_in_macro) in text.split_inclusive('\n').zip(lines_in_macros(text, host)) {
        if is_in_macro || !is_ours(old, host) {
            new.push_str(old);
        } else if let Some(line) = line.take() {
            new.push_str(line);
        }
    }
    new
}

fn is_ours(line: &str, host: &str) -> bool {
    let mut words = line.split_whitespace();
    let start = ["machine", host, "login", "snowbank", "password"];
    start.iter().all(|word| words.next() == Some(word))
        && words.next().is_some()
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "cache.example.org";

    fn with(text: &str, token: &str) -> NetrcEdit {
        with_entry(text, HOST, &Secret::from_text(token).unwrap()).unwrap()
    }

    fn text(edited: &NetrcEdit) -> &str {
        match edited {
            NetrcEdit::Text(text) => text,
            NetrcEdit::Same => "same",
            NetrcEdit::Foreign => "foreign",
        }
    }

    #[test]
    fn an_entry_comes_changes_and_goes() {
        let others = "machine a\n  login me\n  password x\n# note\n";
        let one = with(others, "t1");
        assert_eq!(
            text(&one),
            format!("{others}machine cache.example.org login snowbank password t1\n")
        );
        assert_eq!(text(&with(text(&one), "t1")), "same");
        let two = with(text(&one), "t2");
        assert_eq!(text(&two), text(&one).replace("t1", "t2"));
        assert_eq!(text(&without_entry(text(&two), HOST)), others);
        assert_eq!(text(&without_entry(others, HOST)), "same");
        assert_eq!(
            text(&with("# x", "t")),
            "# x\nmachine cache.example.org login snowbank password t\n"
        );
    }

    #[test]
    fn somebody_elses_entry_stays() {
        for others in [
            "machine cache.example.org login me password t1\n",
            "machine cache.example.org login me password x\n",
            "MACHINE Cache.Example.ORG password x",
        ] {
            assert_eq!(text(&with(others, "t1")), "foreign", "{others}");
            assert_eq!(text(&without_entry(others, HOST)), "same");
        }
        let behind = "machine cache.example.org login snowbank password t1\nmachine \
            cache.example.org password x\n";
        assert_eq!(
            text(&with(behind, "t2")),
            behind.replace("t1", "t2"),
            "ours stands first, and counts"
        );
    }

    #[test]
    fn the_entry_goes_where_it_counts() {
        let line = "machine cache.example.org login snowbank password t1\n";
        for others in [
            "default login a password b\n",
            "machine a login b password \"c d\"\nmacdef init\ncd /\n",
            "machine a login x password default\nlogin b password c\n",
            "machine",
        ] {
            let new = with(others, "t1");
            assert_eq!(text(&new), format!("{line}{others}"));
            assert_eq!(text(&without_entry(text(&new), HOST)), others);
        }
        for others in [
            "# machine cache.example.org login a password b\n",
            "machine a login b password c",
            "machine a login b password \"machine cache.example.org\"\n",
            "macdef x\nmachine cache.example.org login snowbank password old\n\n",
        ] {
            let gap = if others.ends_with('\n') { "" } else { "\n" };
            assert_eq!(text(&with(others, "t1")), format!("{others}{gap}{line}"));
        }
        assert!(
            with_entry("machine a login \"b\n", HOST, &Secret::from_text("t").unwrap()).is_err()
        );
    }

    #[test]
    fn whatever_the_file_the_entry_counts_and_leaves_no_trace() {
        let pieces = [
            "machine",
            "MACHINE a",
            "cache.example.org",
            "default",
            "login",
            "password",
            "x",
            "macdef init",
            "\"a b\"",
            "#",
            " ",
            "\n",
            "\n\n",
            "\t",
            "\r\n",
        ];
        let token = Secret::from_text("t1").unwrap();
        let mut number = 0x5eed_u64;
        let mut below = |end: usize| {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            usize::try_from(number % end as u64).unwrap()
        };
        let mut edited = 0;
        for _ in 0..20_000 {
            let words: Vec<&str> =
                (0..below(24)).flat_map(|_| [pieces[below(pieces.len())], " "]).collect();
            let old = words.concat();
            match with_entry(&old, HOST, &token).unwrap() {
                NetrcEdit::Text(new) => {
                    edited += 1;
                    assert_eq!(
                        entry(&new, HOST).unwrap().unwrap().password.as_str(),
                        "t1",
                        "{old:?}"
                    );
                    assert!(with_entry(&new, HOST, &token).unwrap() == NetrcEdit::Same, "{old:?}");
                    let left = without_entry(&new, HOST);
                    assert_eq!(
                        text(&left).trim_end_matches('\n'),
                        old.trim_end_matches('\n'),
                        "{old:?}"
                    );
                }
                NetrcEdit::Foreign => {
                    assert!(entry(&old, HOST).unwrap().unwrap().is_own, "{old:?}");
                }
                NetrcEdit::Same => panic!("{old:?}"),
            }
        }
        assert!(edited > 10_000, "{edited}");
    }
}
