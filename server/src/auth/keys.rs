//! The ring of keys whose tokens are believed.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::revocations::Revocations;
use super::{AuthError, Claims, Token, TokenKey};

/// A token longer than this is not looked at.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far the clocks of two servers may be apart when one sees a token that the other has just
/// issued.
pub(super) const CLOCK_SKEW_SECONDS: i64 = 60;

/// The keys that are believed and the tokens that are not, as they were at one moment.
pub(super) struct Ring {
    keys: HashMap<String, (Algorithm, DecodingKey)>,
    revoked: Revocations,
}

impl Ring {
    /// Of keys with the same id the last one counts.
    pub(super) fn new<'a>(
        keys: impl IntoIterator<Item = &'a TokenKey>,
        revoked: Revocations,
    ) -> Self {
        Self {
            keys: keys.into_iter().map(|key| (key.kid().to_owned(), key.verifier())).collect(),
            revoked,
        }
    }

    /// Verifies a token at the time `now`.
    ///
    /// The key is chosen by `kid`, and the key decides on the algorithm: what the token says about
    /// itself is compared, never followed.
    pub(super) fn verify(&self, token: &str, now: i64) -> Result<Token, AuthError> {
        self.accept(self.claims(token)?, now)
    }

    /// What a key of the ring has signed, whatever the token's times are.
    fn claims(&self, token: &str) -> Result<Claims, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: an extension that has to be understood, and is not.
            return Err(AuthError::Malformed);
        }
        let (algorithm, key) =
            header.kid.and_then(|kid| self.keys.get(&kid)).ok_or(AuthError::UnknownKey)?;
        if header.alg != *algorithm {
            return Err(AuthError::WrongAlgorithm);
        }
        Ok(jsonwebtoken::decode::<Claims>(token, key, &validation(*algorithm))
            .map_err(refusal)?
            .claims)
    }

    fn accept(&self, claims: Claims, now: i64) -> Result<Token, AuthError> {
        if claims.exp <= now {
            return Err(AuthError::Expired);
        }
        if claims.nbf.unwrap_or(claims.iat).max(claims.iat) > now.saturating_add(CLOCK_SKEW_SECONDS)
        {
            return Err(AuthError::NotYetValid);
        }
        let Claims { sub, jti, iat, exp, snowbank: grants, .. } = claims;
        let token = Token { sub, jti, iat, exp, grants };
        self.check_revoked(&token, now)?;
        Ok(token)
    }

    /// Whether a token was taken back, whoever has issued it.
    pub(super) fn check_revoked(&self, token: &Token, now: i64) -> Result<(), AuthError> {
        if self.revoked.cover(token, now) { Err(AuthError::Revoked) } else { Ok(()) }
    }
}

/// The id of a token that one of these keys has signed, also where its time is over or it was
/// revoked.
///
/// # Errors
/// [`AuthError::UnknownKey`] when it is signed with another key; what is wrong with it otherwise.
pub fn signed_id<'a>(
    keys: impl IntoIterator<Item = &'a TokenKey>,
    token: &str,
) -> Result<String, AuthError> {
    Ok(Ring::new(keys, Revocations::default()).claims(token)?.jti)
}

/// Why the library does not take a token apart.
#[expect(clippy::needless_pass_by_value, reason = "the shape of an argument to map_err")]
pub(super) fn refusal(error: jsonwebtoken::errors::Error) -> AuthError {
    match error.kind() {
        jsonwebtoken::errors::ErrorKind::InvalidSignature => AuthError::BadSignature,
        _ => AuthError::Malformed,
    }
}

/// Only the signature and the shape are left to the library; times are compared here, with a clock
/// that is a parameter.
pub(super) fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}
