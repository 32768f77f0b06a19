//! Sealing: XChaCha20-Poly1305 under the server key, with what the secret is for as associated
//! data.
//!
//! A sealed secret is the version byte 1, a random nonce of 24 bytes, and the ciphertext with its
//! tag of 16. A nonce of that length can be drawn at random for ever. Bound to its purpose and
//! name, a sealed key cannot be passed off as another.

use std::fmt;
use std::path::{Path, PathBuf};
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
const ID_LEN: usize = 8;

/// What a server key's id is derived under.
const ID_CONTEXT: &str = "snowbank server key id 1";

/// Seals secrets, and opens what it has sealed.
#[derive(Clone)]
pub struct Sealer(Arc<Key>);

struct Key {
    cipher: XChaCha20Poly1305,
    id: String,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// A sealer for this key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let hash = blake3::Hash::from_bytes(blake3::derive_key(ID_CONTEXT, key));
        let id = hash.to_hex()[..2 * ID_LEN].to_owned();
        Self(Arc::new(Key { cipher: XChaCha20Poly1305::new(key.into()), id }))
    }

    /// What tells server keys apart, and says nothing else about them: 8 bytes in hexadecimal.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.0.id
    }

    /// A server's key: the configured file, or the data folder's, which is made where it is not
    /// there.
    ///
    /// # Errors
    /// As [`Sealer::load_or_create`]; [`SecretError::NoServerKey`] when the configured file is not
    /// there.
    pub fn for_server(configured: Option<&Path>, data_dir: &DataDir) -> Result<Self, SecretError> {
        configured.map_or_else(|| Self::load_or_create(data_dir), Self::load_configured)
    }

    /// The key for a command beside a server: the configured file, or that of the data folder. With
    /// a configured file the data folder may be anything.
    ///
    /// # Errors
    /// As [`Sealer::load`]; [`SecretError::NoDataDir`] when there is no data folder and no
    /// configured file.
    pub fn for_command(configured: Option<&Path>, data_dir: &Path) -> Result<Self, SecretError> {
        configured.map_or_else(|| Self::load(&DataDir::existing(data_dir)?), Self::load_configured)
    }

    fn load_configured(path: &Path) -> Result<Self, SecretError> {
        if path.exists() {
            Self::read(path.to_owned())
        } else {
            Err(SecretError::NoServerKey(path.to_owned()))
        }
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
        Self::read(data_dir.server_key())
    }

    fn read(path: PathBuf) -> Result<Self, SecretError> {
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
        let sealed = self
            .0
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| SecretError::Sealed(purpose.to_owned()))?;
        Ok([&[VERSION][..], &nonce, &sealed].concat())
    }

    /// Opens what was sealed for this very purpose.
    ///
    /// # Errors
    /// [`SecretError::Sealed`] when it was sealed with another key or for something else, or is
    /// damaged.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let failed = || SecretError::Sealed(purpose.to_owned());
        let (version, rest) = sealed.split_first().ok_or_else(failed)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(failed)?;
        if *version != VERSION {
            return Err(failed());
        }
        let payload = Payload { msg: ciphertext, aad: purpose.as_bytes() };
        self.0
            .cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| failed())
    }

    /// Seals a cache's signing key, as the database keeps it.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_signing_key(&self, key: &SecretKey) -> Result<SealedSigningKey, SecretError> {
        let sealed_secret = self.seal(&signing_key_purpose(key.name()), key.to_nix().as_bytes())?;
        Ok(SealedSigningKey {
            name: key.name().to_owned(),
            public_key: key.public().to_string(),
            sealed_secret,
        })
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
