//! Keys that sign tokens, and the ring of those that are believed.

use std::collections::HashMap;
use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use zeroize::Zeroizing;

use super::revocations::Revocations;
use super::{AuthError, Claims, Token};
use crate::db::keys::SealedTokenKey;
use crate::secrets::{Sealer, SecretString, random, random_id};

/// A token longer than this is not looked at.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far the clocks of two servers may be apart when one sees a token that the other has just issued.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// A key that signs tokens, for HMAC-SHA-256.
pub struct TokenKey {
    kid: String,
    secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl TokenKey {
    const ALGORITHM: Algorithm = Algorithm::HS256;
    const ALGORITHM_NAME: &str = "HS256";

    /// A new key of 256 bits.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, AuthError> {
        Ok(Self { kid: random_id::<8>()?, secret: Zeroizing::new(random::<32>()?.to_vec()) })
    }

    /// What a token's header names it by.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Seals the key for the database.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal(&self, sealer: &Sealer, now: i64) -> Result<SealedTokenKey, AuthError> {
        Ok(SealedTokenKey {
            kid: self.kid.clone(),
            algorithm: Self::ALGORITHM_NAME.to_owned(),
            sealed_secret: sealer.seal(&purpose(&self.kid), &self.secret)?,
            created: now,
        })
    }

    /// Opens a key from the database.
    ///
    /// # Errors
    /// [`AuthError::Secret`] when this server's key does not open it, [`AuthError::WrongAlgorithm`] when it is for an
    /// algorithm that this version does not know.
    pub fn open(row: &SealedTokenKey, sealer: &Sealer) -> Result<Self, AuthError> {
        if row.algorithm != Self::ALGORITHM_NAME {
            return Err(AuthError::WrongAlgorithm);
        }
        let secret = sealer.open(&purpose(&row.kid), &row.sealed_secret)?;
        Ok(Self { kid: row.kid.clone(), secret })
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`AuthError::Sign`] when the library refuses.
    pub fn issue(&self, claims: &Claims) -> Result<SecretString, AuthError> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Self::ALGORITHM) };
        let key = EncodingKey::from_secret(&self.secret);
        jsonwebtoken::encode(&header, claims, &key).map(SecretString::new).map_err(AuthError::Sign)
    }
}

fn purpose(kid: &str) -> String {
    format!("token key {kid}")
}

/// The keys that are believed and the tokens that are not, as they were at one moment.
pub(super) struct Ring {
    keys: HashMap<String, (Algorithm, DecodingKey)>,
    revoked: Revocations,
}

impl Ring {
    pub(super) fn new(keys: &[TokenKey], revoked: Revocations) -> Self {
        let entry = |key: &TokenKey| (key.kid.clone(), (TokenKey::ALGORITHM, DecodingKey::from_secret(&key.secret)));
        Self { keys: keys.iter().map(entry).collect(), revoked }
    }

    /// Verifies a token at the time `now`.
    ///
    /// The key is chosen by `kid`, and the key decides on the algorithm: what the token says about itself is compared,
    /// never followed.
    pub(super) fn verify(&self, token: &str, now: i64) -> Result<Token, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: an extension that has to be understood, and is not.
            return Err(AuthError::Malformed);
        }
        let (algorithm, key) = header.kid.and_then(|kid| self.keys.get(&kid)).ok_or(AuthError::UnknownKey)?;
        if header.alg != *algorithm {
            return Err(AuthError::WrongAlgorithm);
        }
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, &validation(*algorithm)).map_err(|error| {
                match error.kind() {
                    jsonwebtoken::errors::ErrorKind::InvalidSignature => AuthError::BadSignature,
                    _ => AuthError::Malformed,
                }
            })?;
        self.accept(claims.claims, now)
    }

    fn accept(&self, claims: Claims, now: i64) -> Result<Token, AuthError> {
        if claims.exp <= now {
            return Err(AuthError::Expired);
        }
        if claims.nbf.unwrap_or(claims.iat).max(claims.iat) > now.saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(AuthError::NotYetValid);
        }
        let Claims { sub, jti, iat, exp, snowbank: grants, .. } = claims;
        let token = Token { sub, jti, iat, exp, grants };
        if self.revoked.cover(&token, now) { Err(AuthError::Revoked) } else { Ok(token) }
    }
}

/// Only the signature and the shape are left to the library; times are compared here, with a clock that is a parameter.
fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}
