//! Sealing: XChaCha20-Poly1305 under the server key, with what the secret is for as associated data.
//!
//! A sealed secret is the version byte 1, a random nonce of 24 bytes, and the ciphertext with its tag of 16. A nonce of
//! that length can be drawn at random for ever. Bound to its purpose and name, a sealed key cannot be passed off as another.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use snowbank_core::signing::SecretKey;
use zeroize::Zeroizing;

use super::file::write_secret_file_if_absent;
use super::{DataDir, SecretError, SecretString, random, read_secret_file};
use crate::db::keys::SealedSigningKey;

const VERSION: u8 = 1;
const NONCE_LEN: usize = 24;

/// Seals secrets, and opens what it has sealed.
#[derive(Clone)]
pub struct Sealer(Arc<XChaCha20Poly1305>);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// A sealer for this key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Arc::new(XChaCha20Poly1305::new(key.into())))
    }

    /// Reads the server key; draws and writes it first where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written, lets others read it, or holds no key.
    pub fn load_or_create(data_dir: &DataDir) -> Result<Self, SecretError> {
        if !data_dir.server_key().exists() {
            let key = Zeroizing::new(random::<32>()?);
            let text = SecretString::new(BASE64_STANDARD.encode(key.as_slice()));
            // When another process was quicker, its key counts.
            write_secret_file_if_absent(&data_dir.server_key(), &text)?;
        }
        Self::load(data_dir)
    }

    /// Reads the server key.
    ///
    /// # Errors
    /// When the file cannot be read, lets others read it, or holds no key.
    pub fn load(data_dir: &DataDir) -> Result<Self, SecretError> {
        let path = data_dir.server_key();
        let text = read_secret_file(&path)?;
        let bytes = BASE64_STANDARD.decode(text.expose()).map(Zeroizing::new).unwrap_or_default();
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(SecretError::BadServerKey(path));
        }
        key.copy_from_slice(&bytes);
        Ok(Self::new(&key))
    }

    /// Seals a secret for `purpose`, such as `token key 1a2b`.
    ///
    /// # Errors
    /// [`SecretError::Random`] when no nonce can be drawn.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SecretError> {
        let nonce = random::<NONCE_LEN>()?;
        let payload = Payload { msg: secret, aad: purpose.as_bytes() };
        // The cipher refuses only what is longer than 2^38 bytes.
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| SecretError::Sealed(purpose.to_owned()))?;
        Ok([&[VERSION][..], &nonce, &sealed].concat())
    }

    /// Opens what was sealed for this very purpose.
    ///
    /// # Errors
    /// [`SecretError::Sealed`] when it was sealed with another key or for something else, or is damaged.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let failed = || SecretError::Sealed(purpose.to_owned());
        let (version, rest) = sealed.split_first().ok_or_else(failed)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(failed)?;
        if *version != VERSION {
            return Err(failed());
        }
        let payload = Payload { msg: ciphertext, aad: purpose.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| failed())
    }

    /// Seals a cache's signing key, as the database keeps it.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_signing_key(&self, key: &SecretKey) -> Result<SealedSigningKey, SecretError> {
        let sealed_secret = self.seal(&signing_key_purpose(key.name()), key.to_nix().as_bytes())?;
        Ok(SealedSigningKey { name: key.name().to_owned(), public_key: key.public().to_string(), sealed_secret })
    }

    /// Opens a cache's signing key.
    ///
    /// # Errors
    /// As [`Sealer::open`].
    pub fn open_signing_key(&self, sealed: &SealedSigningKey) -> Result<SecretKey, SecretError> {
        let purpose = signing_key_purpose(&sealed.name);
        let text = self.open(&purpose, &sealed.sealed_secret)?;
        let key = std::str::from_utf8(&text).ok().and_then(|text| SecretKey::parse(text).ok());
        key.filter(|key| key.name() == sealed.name).ok_or(SecretError::Sealed(purpose))
    }
}

fn signing_key_purpose(name: &str) -> String {
    format!("signing key {name}")
}
