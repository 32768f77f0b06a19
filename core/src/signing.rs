//! Signing and checking in Nix's key format: ed25519 keys and signatures as `name:base64`.
//!
//! A signature counts for a key only if it names that key. Verification is strict: it refuses
//! signatures and keys that other implementations might judge otherwise (small-order points,
//! non-canonical scalars, base64 with stray bits), so that a signature that is valid here is valid
//! in Nix. Secrets are wiped from memory when dropped, and never shown by `Debug` or in an error.
//! The caller draws the seed and chooses the text.
//!
//! ```
//! use snowbank_core::signing::{PublicKey, SecretKey};
//!
//! let secret = SecretKey::from_seed("cache.example.org-1", [1; 32])?;
//! let signature = secret.sign(b"a text");
//! let key: PublicKey =
//!     "cache.example.org-1:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=".parse()?;
//! assert!(key.verify(b"a text", &signature));
//! assert!(!key.verify(b"another text", &signature));
//! # Ok::<(), snowbank_core::signing::KeyError>(())
//! ```
//!
//! Source: Nix, `libutil/signature/local-keys.cc` (a secret key is libsodium's: 32 bytes of seed,
//! 32 of public key).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use zeroize::{Zeroize as _, Zeroizing};

use crate::hash::{excerpt, serde_as_text};

/// The longest name of a key, in bytes.
pub const MAX_KEY_NAME_LEN: usize = 255;
/// The longest signature, in bytes. The longest in sight, of ML-DSA-87, has 4,627.
pub const MAX_SIGNATURE_LEN: usize = 8 << 10;
/// The length of an ed25519 signature, in bytes.
const ED25519_LEN: usize = 64;

/// Why a text is not a key or a signature. Never holds any part of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name of a key is empty, too long, or has a `:`, white space or a control character in
    /// it.
    #[error(
        "`{0}` is not a key name: it must be 1 to 255 bytes without `:`, white space or control \
         characters"
    )]
    BadName(String),
    /// There is no `:`.
    #[error("{0} must be written as `name:base64`, and there is no `:` in it")]
    NoName(&'static str),
    /// What stands behind the name is not canonical base64 of a signature.
    #[error(
        "a signature of `{name}` is damaged: expected canonical base64 of 1 to {MAX_SIGNATURE_LEN} \
         bytes behind the `:`"
    )]
    BadSignature {
        /// The name of its key.
        name: String,
    },
    /// What stands behind the name is not canonical base64 of the right number of bytes.
    #[error(
        "{what} of `{name}` is damaged: expected canonical base64 of {bytes} bytes behind the `:`"
    )]
    BadBase64 {
        /// What is damaged.
        what: &'static str,
        /// The name of its key.
        name: String,
        /// How many bytes there should be.
        bytes: usize,
    },
    /// The bytes are no ed25519 key, or one that verifies anything.
    #[error("the public key of `{0}` is not a usable ed25519 key")]
    BadPublicKey(String),
    /// A secret key's second half is not the public key of its first.
    #[error(
        "the secret key of `{0}` is damaged: its public half does not belong to its secret half"
    )]
    HalvesDiffer(String),
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let forbidden = |c: char| c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > MAX_KEY_NAME_LEN || name.contains(forbidden) {
        return Err(KeyError::BadName(excerpt(name)));
    }
    Ok(())
}

/// Splits `name:base64` and decodes exactly `N` bytes into a buffer that is wiped when dropped.
fn parse<'a, const N: usize>(
    what: &'static str,
    text: &'a str,
) -> Result<(&'a str, Zeroizing<[u8; N]>), KeyError> {
    let (name, encoded) = text.split_once(':').ok_or(KeyError::NoName(what))?;
    check_name(name)?;
    let damaged = || KeyError::BadBase64 { what, name: name.to_owned(), bytes: N };
    if encoded.len() != N.div_ceil(3) * 4 {
        return Err(damaged());
    }
    let decoded = Zeroizing::new(BASE64.decode(encoded).map_err(|_| damaged())?);
    let mut bytes = Zeroizing::new([0; N]);
    if decoded.len() != N {
        return Err(damaged());
    }
    bytes.copy_from_slice(&decoded);
    Ok((name, bytes))
}

/// A named ed25519 key that signs.
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    /// The key of this 32-byte seed, which must come from a cryptographic source of randomness.
    ///
    /// # Errors
    /// [`KeyError::BadName`].
    pub fn from_seed(name: &str, mut seed: [u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        Ok(Self { name: name.to_owned(), key })
    }

    /// Reads `name:base64` of 64 bytes, as `nix key generate-secret` writes it; no white space
    /// around it.
    ///
    /// # Errors
    /// [`KeyError`], without any part of the secret.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, pair) = parse::<64>("a secret key", text)?;
        let key = SigningKey::from_keypair_bytes(&pair)
            .map_err(|_| KeyError::HalvesDiffer(name.to_owned()))?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// The key as `name:base64` of 64 bytes, as Nix reads it.
    #[must_use]
    pub fn to_nix(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(self.key.to_keypair_bytes());
        let encoded = Zeroizing::new(BASE64.encode(pair.as_slice()));
        Zeroizing::new(format!("{}:{}", self.name, *encoded))
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs `message`; the same message always gets the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        let bytes = Box::new(self.key.sign(message).to_bytes());
        Signature { name: self.name.clone(), bytes }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A named ed25519 key that verifies; its text is `name:base64` of 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `signature` names this key and is its signature of `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let Ok(bytes) = <&[u8; ED25519_LEN]>::try_from(&*signature.bytes) else { return false };
        let bytes = ed25519_dalek::Signature::from_bytes(bytes);
        signature.name == self.name && self.key.verify_strict(message, &bytes).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = parse::<32>("a public key", text)?;
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self { name: name.to_owned(), key }),
            _ => Err(KeyError::BadPublicKey(name.to_owned())),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A signature with the name of the key that made it; its text is `name:base64`. It may be of
/// anything. One that is not as long as ed25519's is of a kind that this version does not know: it
/// is kept and shown, and no [`PublicKey`] verifies it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature {
    name: String,
    bytes: Box<[u8]>,
}

impl Signature {
    /// The name of the key that is said to have signed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of the signature: 1 to [`MAX_SIGNATURE_LEN`], and 64 of ed25519.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromStr for Signature {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, encoded) = text.split_once(':').ok_or(KeyError::NoName("a signature"))?;
        check_name(name)?;
        let damaged = || KeyError::BadSignature { name: name.to_owned() };
        if encoded.is_empty() || encoded.len() > MAX_SIGNATURE_LEN.div_ceil(3) * 4 {
            return Err(damaged());
        }
        let bytes = BASE64.decode(encoded).map_err(|_| damaged())?;
        if bytes.len() > MAX_SIGNATURE_LEN {
            return Err(damaged());
        }
        Ok(Self { name: name.to_owned(), bytes: bytes.into_boxed_slice() })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(&self.bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text! {
    PublicKey: "a public key `name:base64`",
    Signature: "a signature `name:base64`",
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SecretKey {
        SecretKey::from_seed(name, [7; 32]).unwrap()
    }

    #[test]
    fn a_key_verifies_only_its_own_signature_of_that_message() {
        let signature = key("a-1").sign(b"text");
        assert!(key("a-1").public().verify(b"text", &signature));
        assert!(!key("a-1").public().verify(b"texu", &signature));
        assert!(!key("a-2").public().verify(b"text", &signature), "another name");
        let other = SecretKey::from_seed("a-1", [8; 32]).unwrap();
        assert!(!other.public().verify(b"text", &signature), "another key of that name");
    }

    #[test]
    fn texts_are_read_back() {
        let secret = key("cache.example.org-1");
        assert_eq!(*SecretKey::parse(&secret.to_nix()).unwrap().to_nix(), *secret.to_nix());
        assert_eq!(secret.public().to_string().parse(), Ok(secret.public()));
        let signature = secret.sign(b"");
        assert_eq!(signature.to_string().parse(), Ok(signature.clone()));
        let json = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
    }

    #[test]
    fn a_signature_of_another_kind_is_kept_and_verifies_nothing() {
        let own = key("k").sign(b"text");
        for len in [1, 63, 65, 3_309, MAX_SIGNATURE_LEN] {
            let text = format!("k:{}", BASE64.encode(vec![7; len]));
            let signature: Signature = text.parse().unwrap();
            assert_eq!(signature.to_string(), text);
            assert!(!key("k").public().verify(b"text", &signature));
            assert_ne!(signature, own);
        }
        for text in
            ["k:".to_owned(), format!("k:{}", BASE64.encode(vec![7; MAX_SIGNATURE_LEN + 1]))]
        {
            assert_eq!(
                text.parse::<Signature>(),
                Err(KeyError::BadSignature { name: "k".to_owned() })
            );
        }
    }

    #[test]
    fn no_text_about_a_secret_key_shows_it() {
        let secret = key("k");
        assert_eq!(format!("{secret:?}"), "SecretKey { name: \"k\", .. }");
        let text = secret.to_nix();
        let swapped = BASE64.encode([7; 64]);
        for damaged in
            [&text[..text.len() - 4], &text[2..], &format!("k:{swapped}"), &format!("{}=", *text)]
        {
            let error = SecretKey::parse(damaged).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&text[2..20]), "{error}");
        }
        assert_eq!(
            SecretKey::parse(&format!("k:{swapped}")).unwrap_err(),
            KeyError::HalvesDiffer("k".to_owned())
        );
    }

    #[test]
    fn names_have_no_colon_and_no_white_space() {
        for name in ["", "a b", "a\n", "a\u{a0}", "a\0", &"x".repeat(256)] {
            assert!(
                matches!(SecretKey::from_seed(name, [0; 32]), Err(KeyError::BadName(_))),
                "{name:?}"
            );
            let text = format!("{name}:{}", BASE64.encode([0; 64]));
            assert!(matches!(text.parse::<Signature>(), Err(KeyError::BadName(_))), "{name:?}");
        }
        assert!(SecretKey::from_seed("a:b", [0; 32]).is_err());
    }

    #[test]
    fn damaged_and_weak_keys_are_refused() {
        let good = key("k").public().to_string();
        for text in [
            "",
            "k",
            "k:",
            &good[1..],
            &format!("{good}\n"),
            &format!(" {good}"),
            &good.replace('=', ""),
            &format!("k:{}", BASE64.encode([0; 31])),
            &format!("k:{}", BASE64.encode([0; 33])),
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
        let identity = std::array::from_fn::<u8, 32, _>(|at| u8::from(at == 0));
        for bytes in [identity, [0; 32]] {
            let text = format!("k:{}", BASE64.encode(bytes));
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::BadPublicKey("k".to_owned())));
        }
    }

    #[test]
    fn a_signature_with_a_non_canonical_scalar_is_refused() {
        // s + L verifies wherever the scalar is not checked; L is the order of ed25519's base
        // point.
        const L: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut signature = key("k").sign(b"text");
        let mut carry = 0;
        for (byte, added) in signature.bytes[32..].iter_mut().zip(L) {
            let sum = u16::from(*byte) + u16::from(added) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert!(!key("k").public().verify(b"text", &signature));
    }
}
