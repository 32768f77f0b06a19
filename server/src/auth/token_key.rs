//! A key that tokens are signed with, or only verified: made here or read from a file, and sealed
//! for the database.

use std::fmt;
use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::Serialize;

use super::key_file_error::KeyFileError;
use super::material::Material;
use super::{AuthError, Claims, SessionClaims};
use crate::config::{TokenAlgorithm, TokenKeyFile, read_key_file};
use crate::db::keys::SealedTokenKey;
use crate::secrets::{Sealer, SecretString, random_id};

/// A key for one algorithm. A public key verifies; any other signs too.
#[derive(Clone)]
pub struct TokenKey {
    kid: String,
    material: Material,
    signing: Option<EncodingKey>,
    verifying: DecodingKey,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl TokenKey {
    fn new(kid: String, material: Material) -> Self {
        Self { kid, signing: material.encoding_key(), verifying: material.decoding_key(), material }
    }

    /// A new key for HS256, under an id of its own.
    pub fn generate() -> Result<Self, AuthError> {
        Self::generate_for(TokenAlgorithm::Hs256, None)
    }

    /// A new key, under this id or one of its own.
    pub fn generate_for(algorithm: TokenAlgorithm, kid: Option<String>) -> Result<Self, AuthError> {
        Ok(Self::new(kid_or_random(kid)?, Material::generate(algorithm)?))
    }

    /// A key from a file, under this id or one of its own; for `algorithm`, or for what it is a key
    /// of.
    ///
    /// # Errors
    /// [`KeyFileError`] within [`AuthError::KeyFile`]; or when the system gives no random bytes.
    pub fn from_file(
        path: &Path,
        algorithm: Option<TokenAlgorithm>,
        kid: Option<String>,
    ) -> Result<Self, AuthError> {
        let material = Material::parse(&read_key_file(path).map_err(KeyFileError::File)?)
            .ok_or_else(|| KeyFileError::NoKey(path.to_owned()))?;
        let found = material.algorithm();
        if let Some(wanted) = algorithm.filter(|wanted| *wanted != found) {
            return Err(
                KeyFileError::OtherAlgorithm { path: path.to_owned(), wanted, found }.into()
            );
        }
        Ok(Self::new(kid_or_random(kid)?, material))
    }

    /// The keys in files that the settings name, in their order.
    ///
    /// # Errors
    /// As [`TokenKey::from_file`].
    pub fn from_config(files: &[TokenKeyFile]) -> Result<Vec<Self>, AuthError> {
        files
            .iter()
            .map(|one| Self::from_file(&one.file, Some(one.algorithm), Some(one.kid.clone())))
            .collect()
    }

    /// What tokens name it by.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it is for.
    #[must_use]
    pub fn algorithm(&self) -> TokenAlgorithm {
        self.material.algorithm()
    }

    /// Whether it can sign, and not only verify.
    #[must_use]
    pub const fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    /// Seals the key for the database.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal(&self, sealer: &Sealer, now: i64) -> Result<SealedTokenKey, AuthError> {
        Ok(SealedTokenKey {
            kid: self.kid.clone(),
            algorithm: self.algorithm().as_str().to_owned(),
            sealed_secret: sealer.seal(&purpose(&self.kid), &self.material.encode())?,
            created: now,
        })
    }

    /// Opens a key from the database.
    ///
    /// # Errors
    /// [`AuthError::Secret`] when this server's key does not open it, [`AuthError::WrongAlgorithm`]
    /// when it is for an algorithm that this version does not know, [`AuthError::DamagedKey`] when
    /// it is no key for its algorithm.
    pub fn open(row: &SealedTokenKey, sealer: &Sealer) -> Result<Self, AuthError> {
        let algorithm = row.algorithm.parse().map_err(|_| AuthError::WrongAlgorithm)?;
        let opened = sealer.open(&purpose(&row.kid), &row.sealed_secret)?;
        let material = Material::decode(algorithm, opened);
        let material = material.ok_or_else(|| AuthError::DamagedKey { kid: row.kid.clone() })?;
        Ok(Self::new(row.kid.clone(), material))
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`AuthError::VerifiesOnly`] with a public key, [`AuthError::Sign`] when the library refuses.
    pub fn issue(&self, claims: &Claims) -> Result<SecretString, AuthError> {
        self.sign(claims)
    }

    /// Signs a token of a push session.
    ///
    /// # Errors
    /// As [`TokenKey::issue`].
    pub fn issue_session(&self, claims: &SessionClaims) -> Result<SecretString, AuthError> {
        self.sign(claims)
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<SecretString, AuthError> {
        let key = self
            .signing
            .as_ref()
            .ok_or_else(|| AuthError::VerifiesOnly { kid: self.kid.clone() })?;
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.token_algorithm()) };
        jsonwebtoken::encode(&header, claims, key).map(SecretString::new).map_err(AuthError::Sign)
    }

    /// What a token's header has to say, and what verifies its signature.
    pub(super) fn verifier(&self) -> (Algorithm, DecodingKey) {
        (self.token_algorithm(), self.verifying.clone())
    }

    fn token_algorithm(&self) -> Algorithm {
        match self.algorithm() {
            TokenAlgorithm::Hs256 => Algorithm::HS256,
            TokenAlgorithm::Rs256 => Algorithm::RS256,
            TokenAlgorithm::Es256 => Algorithm::ES256,
            TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        }
    }
}

fn kid_or_random(kid: Option<String>) -> Result<String, AuthError> {
    Ok(kid.map_or_else(random_id::<8>, Ok)?)
}

fn purpose(kid: &str) -> String {
    format!("token key {kid}")
}
