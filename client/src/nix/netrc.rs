//! Reading a netrc file, from which Nix takes tokens, by the rules of curl, which reads it for Nix.
//!
//! - Spaces, tabs and ends of lines separate words. Keywords and hosts are compared without regard
//!   to case.
//! - `#` where a word could begin makes the rest of the line a comment.
//! - A word in double quotes ends on the same line, else curl refuses the file. In quotes `\n`,
//!   `\r` and `\t` are those characters, and a backslash before any other character stands for that
//!   character.
//! - `machine HOST` begins the entry of a host, and `default` one for every host. In an entry that
//!   fits, `login` and `password` take the next word; any other word is passed over, and the word
//!   behind it may be a keyword again (`account login`).
//! - Outside such an entry all words up to the next `machine`, `default` or `macdef` are passed
//!   over. A value of another host's entry that is one of these words counts as the keyword.
//! - `macdef` begins a macro, which ends at the next empty line.
//! - The first entry with a password counts. One with a login alone counts where none follows.
//! - A host stands there without port, an IPv6 address without brackets.
//!
//! Source: curl's manual on `.netrc`, and the behavior of curl 7.88, with which a test compares
//! this reader. Releases before 8.11 pass over a password without a login where another entry
//! follows, and some take blanks and a carriage return at the end of a line, and an empty line
//! between a keyword and its value, for an empty word.

use zeroize::Zeroizing;

/// A quotation mark without its end, for which curl refuses the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} has a double quote that does not end on that line, and curl refuses the whole \
     file for it"
)]
pub struct UnclosedQuote {
    /// Counted from 1.
    pub line: usize,
}

/// What a file says for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A secret; empty where the entry has a login alone.
    pub password: Zeroizing<String>,
    /// Whether the entry is the host's own, and no `default`.
    pub is_own: bool,
}

/// What curl takes from the file for `host`.
///
/// # Errors
/// [`UnclosedQuote`], if curl gets as far as that.
pub fn entry(text: &str, host: &str) -> Result<Option<Entry>, UnclosedQuote> {
    let mut reader = Reader::new(host);
    for (index, line) in text.split_terminator('\n').enumerate() {
        reader.read_line(line).map_err(|()| UnclosedQuote { line: index + 1 })?;
        if reader.is_done {
            break;
        }
    }
    let has_any = reader.login.is_some() || reader.password.is_some();
    let password = reader.password.unwrap_or_default();
    Ok(has_any.then_some(Entry { password, is_own: reader.is_own }))
}

/// The password of the entry for `host`, where curl takes one.
///
/// # Errors
/// As [`entry`].
pub fn password(text: &str, host: &str) -> Result<Option<Zeroizing<String>>, UnclosedQuote> {
    Ok(entry(text, host)?.map(|entry| entry.password).filter(|password| !password.is_empty()))
}

/// For each line of the file, whether it belongs to a macro for someone who looks for `host`.
#[must_use]
pub fn lines_in_macros(text: &str, host: &str) -> Vec<bool> {
    let mut reader = Reader { goes_on: true, ..Reader::new(host) };
    let is_in_macro = |line: &str| {
        let before = reader.state == State::Macro;
        // What follows a quotation mark without its end is not read by curl either.
        let _ = reader.read_line(line);
        before && reader.state == State::Macro
    };
    text.split_terminator('\n').map(is_in_macro).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Up to the next keyword.
    Outside,
    Macro,
    /// After `machine`.
    Host,
    /// In an entry that fits.
    Entry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Login,
    Password,
}

struct Reader<'h> {
    host: &'h str,
    state: State,
    /// What the next word of the entry is.
    value: Option<Value>,
    login: Option<Zeroizing<String>>,
    password: Option<Zeroizing<String>>,
    is_own: bool,
    is_done: bool,
    /// Whether to read on behind the entry that counts.
    goes_on: bool,
}

impl<'h> Reader<'h> {
    const fn new(host: &'h str) -> Self {
        Self {
            host,
            state: State::Outside,
            value: None,
            login: None,
            password: None,
            is_own: false,
            is_done: false,
            goes_on: false,
        }
    }

    /// Reads a line, given without its end. An error is a quotation mark without its end.
    fn read_line(&mut self, line: &str) -> Result<(), ()> {
        let bytes = line.as_bytes();
        let mut at = 0;
        while !self.is_done {
            if self.state == State::Macro && (at == bytes.len() || bytes.get(at) == Some(&b'\r')) {
                self.state = State::Outside;
            }
            while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r')) {
                at += 1;
            }
            if matches!(bytes.get(at), None | Some(b'#')) {
                break;
            }
            let (word, end) = word(bytes, at).ok_or(())?;
            self.take(word);
            // The character behind a word is passed over, whatever it is.
            at = end + 1;
        }
        Ok(())
    }

    fn take(&mut self, word: Zeroizing<String>) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        match (self.state, self.value.take()) {
            (State::Outside, _) if is("macdef") => self.state = State::Macro,
            (State::Outside, _) if is("machine") => self.state = State::Host,
            (State::Host, _) if is(self.host) => self.begin(true),
            (State::Host, _) => self.state = State::Outside,
            (State::Entry, Some(Value::Login)) => self.login = Some(word),
            (State::Entry, Some(Value::Password)) => self.password = Some(word),
            (State::Entry, None) if is("login") => self.value = Some(Value::Login),
            (State::Entry, None) if is("password") => self.value = Some(Value::Password),
            (State::Entry, None)
                if (is("machine") || is("default")) && self.password.is_some() && !self.goes_on =>
            {
                self.is_done = true;
            }
            (State::Entry, None) if is("machine") => {
                (self.login, self.password) = (None, None);
                self.state = State::Host;
            }
            (State::Outside, _) | (State::Entry, None) if is("default") => self.begin(false),
            (State::Outside | State::Macro, _) | (State::Entry, None) => {}
        }
        if self.login.is_some() && self.password.is_some() {
            if self.goes_on {
                self.state = State::Outside;
                (self.login, self.password) = (None, None);
            } else {
                self.is_done = true;
            }
        }
    }

    fn begin(&mut self, is_own: bool) {
        self.state = State::Entry;
        self.is_own = is_own;
        (self.login, self.password) = (None, None);
    }
}

/// The word that begins at `start`, and where it ends; `None` for a quotation mark without its end.
fn word(line: &[u8], start: usize) -> Option<(Zeroizing<String>, usize)> {
    let mut word = Zeroizing::new(Vec::with_capacity(line.len() - start));
    let mut at = start;
    if line[at] == b'"' {
        loop {
            at += 1;
            match *line.get(at)? {
                b'"' => break,
                b'\\' => {
                    at += 1;
                    word.push(match *line.get(at)? {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        other => other,
                    });
                }
                byte => word.push(byte),
            }
        }
        at += 1;
    } else {
        let length = line[at..]
            .iter()
            .take_while(|byte| !byte.is_ascii_whitespace() && **byte != 0x0b)
            .count();
        word.extend(&line[at..at + length]);
        at += length;
    }
    Some((Zeroizing::new(String::from_utf8_lossy(&word).into_owned()), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        password(text, "h").unwrap().map(|password| password.to_string())
    }

    #[test]
    fn the_first_entry_that_fits_counts() {
        for (text, expected) in [
            ("", None),
            ("machine h login y password z\n", Some("z")),
            ("machine h\n\n  login y\n\tpassword z", Some("z")),
            ("machine h login y password z\r\n", Some("z")),
            ("MACHINE H LogIn y PASSWORD z\n", Some("z")),
            ("machine h login y password z\nmachine h login p password q\n", Some("z")),
            ("machine a login x password 1\nmachine h password 2\n", Some("2")),
            ("machine h login y\nmachine b login q password w\n", None),
            ("machine h login y\nmachine h login q password w\n", Some("w")),
            (
                "machine b login q password w\ndefault login d password e\nmachine h login y \
                 password z\n",
                Some("e"),
            ),
            ("default login d\nmachine h login y password z\n", Some("z")),
            ("machine h login password password z\n", Some("z")),
            ("machine hh login y password z\n", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text:?}");
        }
        assert!(!entry("default login a password b", "h").unwrap().unwrap().is_own);
        assert!(entry("machine h login a password b", "h").unwrap().unwrap().is_own);
        assert_eq!(
            password("machine ::1 login y password z\n", "::1").unwrap().unwrap().as_str(),
            "z"
        );
    }

    #[test]
    fn comments_quotes_and_macros_are_those_of_curl() {
        for (text, expected) in [
            ("# machine h login y password no\nmachine h login y password z\n", Some("z")),
            (
                "  # machine h password no\nmachine h login y # password no\n password z\n",
                Some("z"),
            ),
            ("machine h login y password \"a b\\\"c\\t\"\n", Some("a b\"c\t")),
            ("machine \"h\" login \"\" password z\n", Some("z")),
            (
                "macdef init\nmachine h login m password n\n\nmachine h login y password z\n",
                Some("z"),
            ),
            ("macdef init\nmachine h login m password n\n", None),
            (
                "machine a login x password y macdef i\nmachine h password n\n\nmachine h login y \
                 password z",
                Some("z"),
            ),
            ("machine h account login login y password z\n", Some("z")),
            ("machine h login y account password password z\n", Some("password")),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text:?}");
        }
        // A value that is a keyword is one to curl.
        let taken = "machine a login x password default\n login q password w\nmachine h login y \
            password z\n";
        assert_eq!(read(taken).as_deref(), Some("w"));
        assert_eq!(
            read("machine a login x password default\nmachine h login y password z\n").as_deref(),
            Some("z")
        );
    }

    #[test]
    fn a_quote_without_its_end_is_named_where_curl_gets_as_far() {
        let text = "machine h login y password z\nmachine a login \"x\n";
        assert_eq!(read(text).as_deref(), Some("z"));
        assert_eq!(entry(text, "b"), Err(UnclosedQuote { line: 2 }));
    }

    #[test]
    fn lines_of_macros_are_known() {
        let text = "machine a login b password c\nmacdef x\none\ntwo\n\nmachine b\n";
        for host in ["a", "b"] {
            assert_eq!(
                lines_in_macros(text, host),
                [false, false, true, true, false, false],
                "{host}"
            );
        }
        // In the host's own entry the word is passed over.
        assert_eq!(lines_in_macros("machine a\nmacdef x\none\n", "a"), [false, false, false]);
    }
}
