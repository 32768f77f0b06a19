//! What may stand in the audit log: texts of bounded length, and nothing that looks like a token.

/// Characters of a name, an address or an outcome.
pub(super) const MAX_FIELD_CHARS: usize = 250;
/// Characters of what an entry says in particular.
pub(super) const MAX_DETAIL_CHARS: usize = 1_000;

/// What every JSON Web Token begins with: `{"` in base64.
const TOKEN_START: &str = "eyJ";
/// Shorter ones are names.
const MIN_TOKEN_CHARS: usize = 20;
const REDACTED: &str = "(a token)";

/// The beginning of a text, without what looks like a token or a part of one.
pub(super) fn bounded(text: &str, max_chars: usize) -> String {
    // What is cut off is not looked at; a token that the cut goes through is still known by its
    // beginning.
    let end = text.char_indices().nth(max_chars).map(|(end, _)| end);
    let mut out = redacted(end.map_or(text, |end| &text[..end]));
    if end.is_some() {
        out.push('…');
    }
    out
}

fn redacted(text: &str) -> String {
    let is_of_token =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '+' | '/');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(TOKEN_START) {
        let token = &rest[begin..];
        let len = token.find(|c| !is_of_token(c)).unwrap_or(token.len());
        out.push_str(&rest[..begin]);
        out.push_str(if len >= MIN_TOKEN_CHARS { REDACTED } else { &token[..len] });
        rest = &token[len..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_is_written_down() {
        let token =
            "eyJhbGciOiJIUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJjaSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg";
        for text in [
            format!("id={token}"),
            format!("id={token} id={token}, and more"),
            format!("https://user:{token}@cache.example.org/"),
            token[..30].to_owned(),
        ] {
            let said = bounded(&text, MAX_DETAIL_CHARS);
            assert!(
                !said.contains("hbGci") && !said.contains("c2lnb") && said.contains(REDACTED),
                "{said}"
            );
        }
        let long = format!("{} {token}", "x".repeat(40));
        assert!(!bounded(&long, 70).contains("hbGci"), "nor a part of one");
        for text in ["id=4e493e15002a0ebf83e98ec5d6081244 grace=1d", "eyJack", "a…b", ""] {
            assert_eq!(bounded(text, MAX_DETAIL_CHARS), text);
        }
    }

    #[test]
    fn a_text_is_bounded_in_characters() {
        assert_eq!(bounded(&"ä".repeat(10), 4), "ääää…");
        assert_eq!(bounded("ääää", 4), "ääää");
    }
}
