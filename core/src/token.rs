//! The look of a token, so that one in the wrong place is recognized: its id is taken, and the
//! token itself is neither stored nor shown.
//!
//! A token is a JSON Web Token in compact form (RFC 7515, 7.1): three base64url texts with dots in
//! between, of which the first two are JSON objects. A copy that lacks its header or its signature
//! counts as well, since the missing part can be guessed or was shown elsewhere. Whether a token is
//! valid is left out.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

/// What is shown in the place of a token.
const PLACEHOLDER: &str = "[token]";
/// The part that follows a JSON object has at least so many characters.
const MIN_PART_CHARS: usize = 16;
/// The longest id that a token is believed to have.
const MAX_ID_BYTES: usize = 255;

/// A text that looks like a token and has no id that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a part of a token was given in the place of an id; copy the whole token, or give its id, \
     which `token list` shows"
)]
pub struct PartOfToken;

/// Whether a token, or most of one, is in a text.
#[must_use]
pub fn looks_like_token(text: &str) -> bool {
    find(text.as_bytes(), 0).is_some()
}

/// The text with `[token]` in the place of each token.
#[must_use]
pub fn hide_tokens(text: &str) -> Cow<'_, str> {
    let Some(mut found) = find(text.as_bytes(), 0) else { return Cow::Borrowed(text) };
    let (mut shown, mut at) = (String::with_capacity(text.len()), 0);
    loop {
        // Tokens are ASCII, so their ends are ends of characters.
        shown.push_str(&text[at..found.start]);
        shown.push_str(PLACEHOLDER);
        at = found.end;
        match find(text.as_bytes(), at) {
            Some(next) => found = next,
            None => break,
        }
    }
    shown.push_str(&text[at..]);
    Cow::Owned(shown)
}

/// The whole token in a text, however it was copied: with `Bearer` before it, or broken into lines.
#[must_use]
pub fn whole_token(text: &str) -> Option<String> {
    let text: String = text.split_whitespace().collect();
    let token = &text[find(text.as_bytes(), 0)?];
    (token.split('.').count() == 3).then(|| token.to_owned())
}

/// The id of a whole token: the claim `jti`, or [`derived_token_id`] where there is none. Nothing
/// is verified.
#[must_use]
pub fn token_id(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(default)]
        jti: Option<String>,
    }
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    match claims.jti.filter(|id| !id.is_empty()) {
        Some(id) if id.len() > MAX_ID_BYTES || looks_like_token(&id) => None,
        Some(id) => Some(id),
        None => Some(derived_token_id(token)),
    }
}

/// When a whole token ends, in Unix seconds, if it says so. Nothing is verified.
#[must_use]
pub fn expires_at(token: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&payload).ok().map(|claims| claims.exp)
}

/// The id that a text names: a token's own, where the text is a token, else the text.
///
/// # Errors
/// [`PartOfToken`] where it is only a part of a token, or a token whose id cannot be read.
pub fn named_id(text: &str) -> Result<String, PartOfToken> {
    // A token that was wrapped by a terminal has ends of lines in it, and an id has no white space.
    let joined: String = text.split_whitespace().collect();
    if !looks_like_token(text) && !looks_like_token(&joined) {
        return Ok(text.to_owned());
    }
    whole_token(text).and_then(|token| token_id(&token)).ok_or(PartOfToken)
}

/// The id of a token that names none. It is derived from what is signed and not from the signature:
/// an ECDSA signature can be rewritten into another valid one, which would be a way around a
/// revocation.
#[must_use]
pub fn derived_token_id(token: &str) -> String {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    blake3::Hash::from_bytes(blake3::derive_key(
        "snowbank id of a token without jti 1",
        signed.as_bytes(),
    ))
    .to_hex()
    .as_str()[..32]
        .to_owned()
}

/// Where the first token from `start` on lies. Takes time in proportion to the text.
fn find(text: &[u8], start: usize) -> Option<Range<usize>> {
    let part_end =
        |from: usize| from + text[from..].iter().take_while(|byte| is_base64url(**byte)).count();
    let mut at = start;
    loop {
        let begin = at + text.get(at..)?.iter().position(|byte| *byte == b'e')?;
        if !begins_json_object(&text[begin..]) {
            at = begin + 1;
            continue;
        }
        let mut end = part_end(begin);
        if text.get(end) == Some(&b'.') && part_end(end + 1) > end + MIN_PART_CHARS {
            while text.get(end) == Some(&b'.') && part_end(end + 1) > end + 1 {
                end = part_end(end + 1);
            }
            return Some(begin..end);
        }
        // Another beginning in the same part would have the same end.
        at = end;
    }
}

/// Whether a text begins with the base64url form of `{"`, with white space in between or not.
fn begins_json_object(text: &[u8]) -> bool {
    let mut bytes = [0; 6];
    let decoded = text.get(..8).map(|head| BASE64_URL_SAFE_NO_PAD.decode_slice(head, &mut bytes));
    matches!(decoded, Some(Ok(_)))
        && bytes
            .strip_prefix(b"{")
            .is_some_and(|rest| rest.trim_ascii_start().first() == Some(&b'"'))
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn part(json: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(json)
    }

    fn token(payload: &str) -> String {
        format!("{}.{}.{SIGNATURE}", part(r#"{"alg":"HS256","kid":"k"}"#), part(payload))
    }

    #[test]
    fn tokens_are_found_wherever_they_are() {
        let token = token(r#"{"sub":"ci","jti":"4f2a"}"#);
        let (header, rest) = token.split_once('.').unwrap();
        for text in [
            token.clone(),
            format!("Bearer {token}"),
            format!("/api/v1/tokens/{token}/rotate"),
            format!("id={token}"),
            format!("name-{token}."),
            format!("{header}.{}", rest.split('.').next().unwrap()),
            rest.to_owned(),
            format!("{}.{rest}", part("{ \"alg\": \"HS256\" }")),
        ] {
            assert!(looks_like_token(&text), "{text}");
            let hidden = hide_tokens(&text);
            assert!(
                hidden.contains("[token]") && !looks_like_token(&hidden) && !hidden.contains("eyJ"),
                "{hidden}"
            );
        }
        assert_eq!(hide_tokens(&format!("a {token}, b {token}.")), "a [token], b [token].");
    }

    #[test]
    fn other_texts_stay() {
        for text in [
            "",
            "e",
            "4f2a7c0e9d1b4c6f8a3e5d7b9c1f2a4e",
            "repo:my-company/app:ref:refs/heads/main",
            "eyJhbGci",
            "eyJhbGciOiJIUzI1NiJ9",
            "eyJhbGciOiJIUzI1NiJ9.narinfo",
            "cache.example.org-1:dBjftJeZ4CVPmB92K27uhbUJU1p1rwW1gFWFOEjXkA==",
            "1b9p07z77phvv2hf6gm9f28syp39f1ag.narinfo",
            "the.longest.sentence-without-any-token.in-it-at-all-by-far",
        ] {
            assert!(!looks_like_token(text), "{text}");
            assert_eq!(hide_tokens(text), text);
        }
    }

    #[test]
    fn the_end_of_a_token_is_read_where_it_has_one() {
        assert_eq!(expires_at(&token(r#"{"sub":"ci","exp":1700000000}"#)), Some(1_700_000_000));
        for payload in [r#"{"sub":"ci"}"#, r#"{"exp":"soon"}"#, r#"{"exp":null}"#, "[]", "x"] {
            assert_eq!(expires_at(&token(payload)), None, "{payload}");
        }
        for text in ["", "opaque", "a.b.c", "..", "a.."] {
            assert_eq!(expires_at(text), None, "{text}");
        }
    }

    #[test]
    fn a_whole_token_has_an_id() {
        let named = token(r#"{"sub":"ci","jti":"4f2a"}"#);
        for text in [
            named.clone(),
            format!(" Bearer {named}\n"),
            format!("{}\n{}", &named[..40], &named[40..]),
        ] {
            assert_eq!(whole_token(&text).as_ref(), Some(&named), "{text}");
            assert_eq!(named_id(&text).unwrap(), "4f2a", "{text}");
        }
        let unnamed = token(r#"{"sub":"repo:app"}"#);
        assert_eq!(token_id(&unnamed), Some(derived_token_id(&unnamed)));
        for text in ["4f2a", ""] {
            assert_eq!(named_id(text).unwrap(), text);
        }
        let nested = token(&format!(r#"{{"jti":"{named}"}}"#));
        for text in [named.rsplit_once('.').unwrap().0, named.split_once('.').unwrap().1, &nested] {
            assert_eq!(named_id(text), Err(PartOfToken), "{text}");
        }
    }
}
