//! Tokens of attic: they name no key, and are believed under the keys that the settings call
//! legacy.
//!
//! Invariants: a token without `kid` is tried against legacy keys alone, and one with `kid` never
//! against them. A legacy key verifies by its own algorithm and nothing else, so that nobody can
//! make a token with the text of a public key. Such a token never administrates the server,
//! whatever claims it has: only [`CLAIM`] is looked at.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use snowbank_core::attic::CLAIM;
use snowbank_core::token::derived_token_id;

use super::claims::{NEVER, Origin, Token};
use super::decode::{CLOCK_SKEW_SECONDS, refusal, validation};
use super::key_file_error::KeyFileError;
use super::legacy_grants::LegacyGrants;
use super::material::Material;
use super::{AuthError, Grants};
use crate::config::{LegacyKeyFile, TokenAlgorithm, read_key_file};

/// The subject of a token that names none.
const NO_SUBJECT: &str = "attic";
/// The longest subject.
const MAX_SUBJECT_BYTES: usize = 255;

/// The legacy keys of the settings, in their order. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LegacyKeys(Arc<Vec<LegacyKey>>);

struct LegacyKey {
    name: String,
    algorithm: Algorithm,
    verifying: DecodingKey,
    issuer: Option<String>,
    audiences: Vec<String>,
}

impl fmt::Debug for LegacyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LegacyKeys {
    /// Reads the keys' files.
    ///
    /// # Errors
    /// [`KeyFileError`] within [`AuthError::KeyFile`].
    pub fn from_config(files: &[LegacyKeyFile]) -> Result<Self, AuthError> {
        let keys = files.iter().map(LegacyKey::from_file).collect::<Result<_, AuthError>>()?;
        Ok(Self(Arc::new(keys)))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a key that push sessions know under this id.
    pub(super) fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid() == kid)
    }

    /// The claims that one of the keys has signed, and the key.
    fn claims(
        &self,
        token: &str,
        algorithm: Algorithm,
    ) -> Result<(Map<String, Value>, &LegacyKey), AuthError> {
        let mut refused = AuthError::WrongAlgorithm;
        for key in self.0.iter().filter(|key| key.algorithm == algorithm) {
            let checked = validation(key.algorithm);
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.verifying, &checked) {
                Ok(decoded) => return Ok((decoded.claims, key)),
                Err(error) => refused = refusal(error),
            }
        }
        Err(refused)
    }

    /// Verifies a token at the time `now`, whose header names `algorithm` and no key. Whether it
    /// was revoked is not looked at.
    pub(super) fn verify(
        &self,
        token: &str,
        algorithm: Algorithm,
        now: i64,
    ) -> Result<Token, AuthError> {
        let (mut claims, key) = self.claims(token, algorithm)?;
        key.check_audience(&claims)?;
        let exp = time(&claims, "exp")?.unwrap_or(NEVER);
        let (nbf, iat) = (time(&claims, "nbf")?, time(&claims, "iat")?);
        if exp <= now {
            return Err(AuthError::Expired);
        }
        if nbf.max(iat).is_some_and(|begin| begin > now.saturating_add(CLOCK_SKEW_SECONDS)) {
            return Err(AuthError::NotYetValid);
        }
        let access = claims.remove(CLAIM).ok_or(AuthError::Malformed)?;
        let access = serde_json::from_value(access).map_err(|_| AuthError::Malformed)?;
        Ok(Token {
            sub: subject(&claims)?,
            jti: id(&claims, token),
            // Without either, every rule by time covers it.
            iat: iat.or(nbf).unwrap_or(0),
            exp,
            grants: Grants::default(),
            origin: Origin::Legacy(Box::new(LegacyGrants::new(key.kid(), access))),
        })
    }

    /// The id of a token that one of the keys has signed, whatever its times are.
    pub(super) fn signed_id(&self, token: &str, algorithm: Algorithm) -> Result<String, AuthError> {
        let (claims, _) = self.claims(token, algorithm)?;
        Ok(id(&claims, token))
    }
}

impl LegacyKey {
    fn from_file(file: &LegacyKeyFile) -> Result<Self, AuthError> {
        let path = &file.file;
        let material = read(path)?;
        let found = material.algorithm();
        if found != file.algorithm {
            let wanted = file.algorithm;
            return Err(
                KeyFileError::OtherAlgorithm { path: path.to_owned(), wanted, found }.into()
            );
        }
        Ok(Self {
            name: file.name.clone(),
            algorithm: match found {
                TokenAlgorithm::Hs256 => Algorithm::HS256,
                TokenAlgorithm::Rs256 => Algorithm::RS256,
                TokenAlgorithm::Es256 => Algorithm::ES256,
                TokenAlgorithm::EdDsa => Algorithm::EdDSA,
            },
            verifying: material.decoding_key(),
            issuer: file.issuer.clone(),
            audiences: file.audiences.clone(),
        })
    }

    /// What push sessions name it by. No key of the ring has a colon in its id.
    fn kid(&self) -> String {
        format!("legacy:{}", self.name)
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(AuthError::IssuerClaim { issuer: self.name.clone(), claim: "iss" });
        }
        let is_ours = |value: &Value| {
            value.as_str().is_some_and(|one| self.audiences.iter().any(|a| a == one))
        };
        let is_meant = match claims.get("aud") {
            _ if self.audiences.is_empty() => true,
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if is_meant { Ok(()) } else { Err(AuthError::WrongAudience { issuer: self.name.clone() }) }
    }
}

/// A key in a file, as attic's settings have it: base64 of a secret or of PEM; PEM itself is read
/// too.
fn read(path: &Path) -> Result<Material, AuthError> {
    let bytes = read_key_file(path).map_err(KeyFileError::File)?;
    let material = Material::parse_base64(&bytes);
    material.ok_or_else(|| KeyFileError::NoLegacyKey(path.to_owned()).into())
}

/// A time in a claim, in Unix seconds.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, AuthError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or(AuthError::Malformed),
    }
}

fn subject(claims: &Map<String, Value>) -> Result<String, AuthError> {
    match claims.get("sub") {
        None | Some(Value::Null) => Ok(NO_SUBJECT.to_owned()),
        Some(Value::String(text))
            if (1..=MAX_SUBJECT_BYTES).contains(&text.len())
                && !text.chars().any(char::is_control) =>
        {
            Ok(text.clone())
        }
        Some(_) => Err(AuthError::Malformed),
    }
}

/// By which a token is revoked: its own id, where it has one, else a hash of what is signed.
fn id(claims: &Map<String, Value>, token: &str) -> String {
    match claims.get("jti").and_then(Value::as_str) {
        Some(jti) if !jti.is_empty() => jti.to_owned(),
        _ => derived_token_id(token),
    }
}

#[cfg(test)]
mod tests;
