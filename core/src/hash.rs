//! SHA-256 digests as Nix writes them: `sha256:` with nix32, hex or base64, and the SRI form
//! `sha256-` with base64.
//!
//! The digest of a NAR and the digest of a served file are different types, so that the one can
//! never stand in the place of the other. A text that is not the one spelling of its digest is
//! refused: base64 with stray bits, nix32 with bits beyond the 256th.
//!
//! ```
//! use snowbank_core::hash::{NarHash, Sha256};
//!
//! let digest = Sha256::of(b"");
//! let text = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
//! assert_eq!(digest.to_string(), text);
//! assert_eq!(digest.to_sri(), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
//! assert_eq!(digest.to_sri().parse(), Ok(digest));
//! assert_eq!(text.parse(), Ok(NarHash::from(digest)));
//! ```
//!
//! Other algorithms are left out: Nix uses none of them in a binary cache.
//!
//! Source: Nix, `libutil/hash.cc`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::Digest as _;

use crate::token::hide_tokens;

/// Length of a digest in bytes.
const LEN: usize = 32;
/// Length of a digest's text in nix32.
const NIX32_LEN: usize = 52;

/// Why a text is not a SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The text does not begin with `sha256:` or `sha256-`.
    #[error("`{0}` is not a SHA-256 hash: it must begin with `sha256:` or `sha256-`")]
    NoPrefix(String),
    /// What stands behind the prefix is not a digest in any accepted base.
    #[error("`{0}` is not a SHA-256 hash: expected 52 nix32, 64 hex or 44 base64 characters")]
    BadDigest(String),
}

/// A SHA-256 digest; its text is `sha256:` and 52 nix32 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; LEN]);

impl Sha256 {
    /// Takes the 32 bytes of a digest.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// The digest of `data`.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        Self(sha2::Sha256::digest(data).into())
    }

    /// Reads 52 nix32 characters without a prefix, as they stand in the file name of a NAR.
    ///
    /// # Errors
    /// [`HashError::BadDigest`] for any other text.
    pub fn from_nix32(text: &str) -> Result<Self, HashError> {
        decode_nix32(text).map(Self).ok_or_else(|| HashError::BadDigest(excerpt(text)))
    }

    /// The digest as 52 nix32 characters, without a prefix.
    #[must_use]
    pub fn to_nix32(&self) -> String {
        nix_base32::to_nix_base32(&self.0)
    }

    /// The digest as 64 lower-case hex characters, without a prefix.
    #[must_use]
    pub fn to_hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
            .collect()
    }

    /// The digest as `sha256-` and 44 base64 characters.
    #[must_use]
    pub fn to_sri(&self) -> String {
        format!("sha256-{}", BASE64.encode(self.0))
    }
}

impl FromStr for Sha256 {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let bytes = if let Some(digest) = text.strip_prefix("sha256:") {
            match digest.len() {
                NIX32_LEN => decode_nix32(digest),
                64 => decode_hex(digest),
                _ => decode_base64(digest),
            }
        } else if let Some(digest) = text.strip_prefix("sha256-") {
            decode_base64(digest)
        } else {
            return Err(HashError::NoPrefix(excerpt(text)));
        };
        bytes.map(Self).ok_or_else(|| HashError::BadDigest(excerpt(text)))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_nix32())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn decode_nix32(text: &str) -> Option<[u8; LEN]> {
    if text.len() != NIX32_LEN {
        return None;
    }
    nix_base32::from_nix_base32(text)?.try_into().ok()
}

fn decode_hex(text: &str) -> Option<[u8; LEN]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; LEN];
    if pairs.len() != LEN || !rest.is_empty() {
        return None;
    }
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

fn decode_base64(text: &str) -> Option<[u8; LEN]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

/// The beginning of a text from outside, short enough for an error message, and without tokens.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 120;
    let text = &*hide_tokens(text);
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
    .replace(char::is_control, "\u{fffd}")
}

/// SHA-256 over a stream.
#[derive(Clone, Default)]
pub struct Sha256Hasher(sha2::Sha256);

impl Sha256Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all bytes taken.
    #[must_use]
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

/// Implements serde for types whose wire form is the text of their `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($($type:ty: $expected:literal),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    )+};
}
pub(crate) use serde_as_text;

macro_rules! digest_of {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Sha256);

        impl $name {
            /// Takes the 32 bytes of the digest.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(Sha256::from_bytes(bytes))
            }

            /// The 32 bytes of the digest.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }

            /// Reads 52 nix32 characters without a prefix.
            ///
            /// # Errors
            /// [`HashError::BadDigest`] for any other text.
            pub fn from_nix32(text: &str) -> Result<Self, HashError> {
                Sha256::from_nix32(text).map(Self)
            }

            /// The digest as 52 nix32 characters, without a prefix.
            #[must_use]
            pub fn to_nix32(&self) -> String {
                self.0.to_nix32()
            }

            /// The digest, without what it is of.
            #[must_use]
            pub const fn sha256(&self) -> Sha256 {
                self.0
            }
        }

        impl From<Sha256> for $name {
            fn from(digest: Sha256) -> Self {
                Self(digest)
            }
        }

        impl FromStr for $name {
            type Err = HashError;

            fn from_str(text: &str) -> Result<Self, HashError> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )+};
}

digest_of! {
    /// The SHA-256 of a store path's NAR, uncompressed: what the path's content is.
    NarHash;
    /// The SHA-256 of the file that a narinfo's URL gives, compressed as it is served.
    FileHash;
}

serde_as_text! {
    Sha256: "a SHA-256 hash such as `sha256:` and 52 nix32 characters",
    NarHash: "a NAR's SHA-256 hash such as `sha256:` and 52 nix32 characters",
    FileHash: "a file's SHA-256 hash such as `sha256:` and 52 nix32 characters",
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `nix hash file --type sha256 --base32` and its siblings over the three bytes `abc`.
    const ABC_NIX32: &str = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
    const ABC_HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const ABC_SRI: &str = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

    #[test]
    fn every_spelling_of_a_digest_is_read() {
        let digest = Sha256::of(b"abc");
        assert_eq!((digest.to_nix32().as_str(), digest.to_hex().as_str()), (ABC_NIX32, ABC_HEX));
        assert_eq!(digest.to_sri(), ABC_SRI);
        assert_eq!(digest.to_string(), format!("sha256:{ABC_NIX32}"));
        let base64 = ABC_SRI.replacen('-', ":", 1);
        for text in [
            format!("sha256:{ABC_NIX32}"),
            format!("sha256:{ABC_HEX}"),
            format!("sha256:{}", ABC_HEX.to_uppercase()),
            base64,
            ABC_SRI.to_owned(),
        ] {
            assert_eq!(text.parse(), Ok(digest), "{text}");
        }
        assert_eq!(NarHash::from_nix32(ABC_NIX32).unwrap().sha256(), digest);
    }

    #[test]
    fn other_texts_are_refused() {
        // The last: its first character stands for bits beyond the 256th.
        for text in [
            "",
            "sha256:",
            ABC_NIX32,
            "sha1:kpcd173cq987hw957sx6m0868wv3x6d9",
            "sha512:00",
            "sha256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa1=",
            "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
            &format!("sha256-{ABC_HEX}"),
            &format!("sha256:{}", ABC_NIX32.to_uppercase()),
            &format!("sha256:{}é", &ABC_HEX[..62]),
            &format!("sha256:2{}", &ABC_NIX32[1..]),
        ] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_quotes_only_the_beginning() {
        let error = "x\n".repeat(100_000).parse::<Sha256>().unwrap_err().to_string();
        assert!(error.len() < 500 && !error.contains('\n'), "{error}");
    }

    #[test]
    fn json_is_the_text() {
        let hash = NarHash::from(Sha256::of(b"abc"));
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json, format!("\"sha256:{ABC_NIX32}\""));
        assert_eq!(serde_json::from_str::<NarHash>(&json).unwrap(), hash);
        assert!(serde_json::from_str::<NarHash>("\"sha256:x\"").is_err());
    }

    #[test]
    fn a_stream_hashes_like_its_bytes() {
        let mut hasher = Sha256Hasher::new();
        hasher.update(b"a");
        hasher.update(b"");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), Sha256::of(b"abc"));
    }
}
