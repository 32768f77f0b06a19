//! What a token key is made of, for each algorithm: made, read from a file, and as it is sealed.
//!
//! Sealed, a key for HS256 is its secret alone. Any other begins with a byte that says what
//! follows: 1 for a private key in PKCS #8 (version 1), 2 for a public key as signatures are
//! verified with it, which is the key's 32 bytes for Ed25519, an uncompressed point for P-256, and
//! `RSAPublicKey` of RFC 8017 for RSA.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use zeroize::Zeroizing;

use super::AuthError;
use super::key_file_error::MIN_SECRET_BYTES;
use crate::config::TokenAlgorithm;
use crate::secrets::random;

const PRIVATE: u8 = 1;
const PUBLIC: u8 = 2;

/// What a public key in PEM begins with, before the 32 bytes of Ed25519 (RFC 8410) and before an
/// uncompressed point of P-256 (RFC 5480).
const ED25519_PREFIX: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
const P256_PREFIX: [u8; 26] =
    *b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// A key: one half or both.
#[derive(Clone)]
pub(super) enum Material {
    Secret(Zeroizing<Vec<u8>>),
    Private { algorithm: TokenAlgorithm, pkcs8: Zeroizing<Vec<u8>>, public: Vec<u8> },
    Public { algorithm: TokenAlgorithm, public: Vec<u8> },
}

impl Material {
    /// A new key: 256 bits, and 3,072 for RSA, which are as hard to break as 128 bits.
    pub fn generate(algorithm: TokenAlgorithm) -> Result<Self, AuthError> {
        let generated = match algorithm {
            TokenAlgorithm::Hs256 => {
                return Ok(Self::Secret(Zeroizing::new(random::<32>()?.to_vec())));
            }
            TokenAlgorithm::EdDsa => Ed25519KeyPair::generate().map(|pair| Self::of_ed25519(&pair)),
            TokenAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .map(|pair| Self::of_p256(&pair)),
            TokenAlgorithm::Rs256 => {
                rsa::KeyPair::generate(rsa::KeySize::Rsa3072).map(|pair| Self::of_rsa(&pair))
            }
        };
        generated.ok().flatten().ok_or(AuthError::Generate)
    }

    fn of_ed25519(pair: &Ed25519KeyPair) -> Option<Self> {
        Some(Self::private(
            TokenAlgorithm::EdDsa,
            pair.to_pkcs8v1().ok()?.as_ref(),
            pair.public_key().as_ref(),
        ))
    }

    fn of_p256(pair: &EcdsaKeyPair) -> Option<Self> {
        Some(Self::private(
            TokenAlgorithm::Es256,
            pair.to_pkcs8v1().ok()?.as_ref(),
            pair.public_key().as_ref(),
        ))
    }

    fn of_rsa(pair: &rsa::KeyPair) -> Option<Self> {
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().ok()?;
        Some(Self::private(TokenAlgorithm::Rs256, pkcs8.as_ref(), pair.public_key().as_ref()))
    }

    fn private(algorithm: TokenAlgorithm, pkcs8: &[u8], public: &[u8]) -> Self {
        Self::Private { algorithm, pkcs8: Zeroizing::new(pkcs8.to_vec()), public: public.to_vec() }
    }

    /// The algorithm that it is for.
    pub fn algorithm(&self) -> TokenAlgorithm {
        match self {
            Self::Secret(_) => TokenAlgorithm::Hs256,
            Self::Private { algorithm, .. } | Self::Public { algorithm, .. } => *algorithm,
        }
    }

    /// A private or public key in PEM, or anything else as a secret for HS256: base64 where it
    /// reads as such, else as it is.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Self::parse_private(bytes).or_else(|| Self::parse_public(bytes));
        }
        let text = bytes.trim_ascii();
        let decoded = BASE64_STANDARD.decode(text).map(Zeroizing::new).ok();
        // White space at the ends of a text is the editor's; bytes that are no text are taken as
        // they are.
        let raw = if std::str::from_utf8(bytes).is_ok() { text } else { bytes };
        let long = |secret: &Zeroizing<Vec<u8>>| secret.len() >= MIN_SECRET_BYTES;
        decoded
            .filter(long)
            .or_else(|| Some(Zeroizing::new(raw.to_vec())).filter(long))
            .map(Self::Secret)
    }

    /// A key as attic's settings have it: base64 of a secret of HS256, or of a private or public key
    /// in PEM. PEM itself is read as well; text that is no base64 is no secret.
    pub fn parse_base64(bytes: &[u8]) -> Option<Self> {
        let in_pem = |text: &[u8]| text.trim_ascii_start().starts_with(b"-----BEGIN ");
        let parse_pem = |pem: &[u8]| {
            Self::parse_private(pem)
                .or_else(|| Self::parse_public(pem))
                .or_else(|| Self::parse_rsa_public(pem))
        };
        if in_pem(bytes) {
            return parse_pem(bytes);
        }
        let text: Zeroizing<Vec<u8>> = Zeroizing::new(
            bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect(),
        );
        let decoded = BASE64_STANDARD.decode(&*text).map(Zeroizing::new).ok()?;
        if in_pem(&decoded) {
            return parse_pem(&decoded);
        }
        (decoded.len() >= MIN_SECRET_BYTES).then_some(Self::Secret(decoded))
    }

    /// `RSAPublicKey` of RFC 8017 in PEM.
    fn parse_rsa_public(pem: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(pem).ok()?.trim();
        let body = text
            .strip_prefix("-----BEGIN RSA PUBLIC KEY-----")?
            .strip_suffix("-----END RSA PUBLIC KEY-----")?;
        let base64: String = body.split_whitespace().collect();
        Self::public(TokenAlgorithm::Rs256, BASE64_STANDARD.decode(base64).ok()?)
    }

    fn parse_private(pem: &[u8]) -> Option<Self> {
        match PrivateKeyDer::from_pem_slice(pem).ok()? {
            PrivateKeyDer::Pkcs8(key) => Self::parse_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => {
                Self::of_rsa(&rsa::KeyPair::from_der(key.secret_pkcs1_der()).ok()?)
            }
            PrivateKeyDer::Sec1(key) => {
                let der = key.secret_sec1_der();
                Self::of_p256(
                    &EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                        .ok()?,
                )
            }
            _ => None,
        }
    }

    fn parse_pkcs8(der: &[u8]) -> Option<Self> {
        let ed25519 = || Self::of_ed25519(&Ed25519KeyPair::from_pkcs8(der).ok()?);
        let p256 = || {
            Self::of_p256(&EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?)
        };
        let rsa = || Self::of_rsa(&rsa::KeyPair::from_pkcs8(der).ok()?);
        ed25519().or_else(p256).or_else(rsa)
    }

    fn parse_public(pem: &[u8]) -> Option<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        let (algorithm, public) = if let Some(key) = der.strip_prefix(&ED25519_PREFIX) {
            (TokenAlgorithm::EdDsa, key.to_vec())
        } else if let Some(point) = der.strip_prefix(&P256_PREFIX) {
            (TokenAlgorithm::Es256, point.to_vec())
        } else {
            (TokenAlgorithm::Rs256, rsa::PublicKey::from_der(&der).ok()?.as_ref().to_vec())
        };
        Self::public(algorithm, public)
    }

    fn public(algorithm: TokenAlgorithm, public: Vec<u8>) -> Option<Self> {
        match algorithm {
            TokenAlgorithm::Hs256 => return None,
            TokenAlgorithm::EdDsa => ParsedPublicKey::new(&ED25519, &public).ok()?,
            TokenAlgorithm::Es256 => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &public).ok()?
            }
            TokenAlgorithm::Rs256 => {
                ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public).ok()?
            }
        };
        Some(Self::Public { algorithm, public })
    }

    /// As it is sealed.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Secret(secret) => secret.clone(),
            Self::Private { pkcs8, .. } => Zeroizing::new([&[PRIVATE][..], pkcs8].concat()),
            Self::Public { public, .. } => Zeroizing::new([&[PUBLIC][..], public].concat()),
        }
    }

    /// The opposite of [`Self::encode`]; `None` when it is no key for this algorithm.
    pub fn decode(algorithm: TokenAlgorithm, bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        if algorithm == TokenAlgorithm::Hs256 {
            return Some(Self::Secret(bytes));
        }
        let material = match bytes.split_first()? {
            (&PRIVATE, pkcs8) => Self::parse_pkcs8(pkcs8)?,
            (&PUBLIC, public) => Self::public(algorithm, public.to_vec())?,
            _ => return None,
        };
        (material.algorithm() == algorithm).then_some(material)
    }

    /// What verifies.
    pub fn decoding_key(&self) -> DecodingKey {
        match self {
            Self::Secret(secret) => DecodingKey::from_secret(secret),
            Self::Private { algorithm, public, .. } | Self::Public { algorithm, public } => {
                match algorithm {
                    TokenAlgorithm::EdDsa => DecodingKey::from_ed_der(public),
                    TokenAlgorithm::Es256 => DecodingKey::from_ec_der(public),
                    TokenAlgorithm::Rs256 | TokenAlgorithm::Hs256 => {
                        DecodingKey::from_rsa_der(public)
                    }
                }
            }
        }
    }

    /// What signs, unless it is a public key.
    pub fn encoding_key(&self) -> Option<EncodingKey> {
        match self {
            Self::Secret(secret) => Some(EncodingKey::from_secret(secret)),
            Self::Public { .. } => None,
            Self::Private { algorithm, pkcs8, .. } => match algorithm {
                TokenAlgorithm::EdDsa => Some(EncodingKey::from_ed_der(pkcs8)),
                TokenAlgorithm::Es256 => Some(EncodingKey::from_ec_der(pkcs8)),
                // The library takes an RSA key out of its PKCS #8 wrapping in this form only.
                TokenAlgorithm::Rs256 | TokenAlgorithm::Hs256 => {
                    EncodingKey::from_rsa_pem(pem(pkcs8).as_bytes()).ok()
                }
            },
        }
    }
}

fn pem(pkcs8: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(BASE64_STANDARD.encode(pkcs8));
    let mut text = Zeroizing::new(String::from("-----BEGIN PRIVATE KEY-----\n"));
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}
