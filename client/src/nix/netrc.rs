//! Reading a netrc file, from which Nix takes tokens: an entry per host, the first that fits counts.
//!
//! Source: curl's manual on `.netrc`; a host stands there without port.

/// The password of the first entry for `host`: a secret.
#[must_use]
pub fn password<'t>(text: &'t str, host: &str) -> Option<&'t str> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words = lines.flat_map(str::split_whitespace);
    let mut fits = false;
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" if fits => return None,
            "machine" => fits = words.next() == Some(host),
            "default" => fits = true,
            "password" if fits => return words.next(),
            "login" | "password" | "account" => drop(words.next()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_that_fits_counts() {
        let text = "# machine h password no\nmachine a login x password 1\nmachine h\n  login machine\n  password 2\n\
                    machine h login y password 3\ndefault login z password 4\n";
        assert_eq!(password(text, "h"), Some("2"));
        assert_eq!(password(text, "a"), Some("1"));
        assert_eq!(password(text, "b"), Some("4"));
        assert_eq!(password("machine h login x\nmachine b password 1\n", "h"), None);
        assert_eq!(password("", "h"), None);
    }
}
