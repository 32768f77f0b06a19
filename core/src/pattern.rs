//! Patterns for names of paths, as people write them: `*` stands for any characters, also none.

/// Whether `text` as a whole fits a pattern.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    // Each part is sought as early as possible; that leaves the most room for those behind it.
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

/// What every text that fits a pattern begins with: all of it up to the first `*`.
#[must_use]
pub fn literal_prefix(pattern: &str) -> &str {
    pattern.split('*').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_a_whole() {
        for (pattern, text, expected) in [
            ("hello", "hello", true),
            ("hello*", "hello-2.12", true),
            ("*-2.12", "hello-2.12", true),
            ("h*o*2", "hello-2.12", true),
            ("*", "", true),
            ("hello", "hello-2.12", false),
            ("*-2.1", "hello-2.12", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
