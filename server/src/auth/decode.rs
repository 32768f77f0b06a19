//! What tokens of every kind have in common: their length, their header, and the library that takes
//! them apart.

use jsonwebtoken::{Algorithm, Header, Validation};

use super::AuthError;

/// A token longer than this is not looked at.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far the clocks of two servers may be apart when one sees a token that the other has just
/// issued.
pub(super) const CLOCK_SKEW_SECONDS: i64 = 60;

/// The header of a token that is no longer than one may be.
pub(super) fn header(token: &str) -> Result<Header, AuthError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(AuthError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
    // RFC 7515, 4.1.11: an extension that has to be understood, and is not.
    if header.crit.is_some() { Err(AuthError::Malformed) } else { Ok(header) }
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
