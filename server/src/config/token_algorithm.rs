//! What tokens are signed with, and what their keys are called.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The longest key id.
const MAX_KID_LEN: usize = 64;

/// An algorithm that a token key can be for (RFC 7518 and RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256: who verifies can sign.
    Hs256,
    /// RSA (PKCS #1, version 1.5) with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl TokenAlgorithm {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// Its name in a token's header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no algorithm of a token key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no algorithm of a token key; there are HS256, RS256, ES256 and EdDSA")]
pub struct UnknownAlgorithm(String);

impl FromStr for TokenAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named =
            Self::ALL.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(text));
        named.ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

impl TryFrom<String> for TokenAlgorithm {
    type Error = UnknownAlgorithm;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A text that cannot be a key's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key id: it must be 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`")]
pub struct BadKid(String);

/// A token key's id, as it stands in the headers of its tokens.
///
/// # Errors
/// [`BadKid`] where it has another length or other characters.
pub fn parse_kid(text: &str) -> Result<String, BadKid> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let good = (1..=MAX_KID_LEN).contains(&text.len()) && text.bytes().all(plain);
    if good { Ok(text.to_owned()) } else { Err(BadKid(text.chars().take(MAX_KID_LEN).collect())) }
}
