//! The ring of keys whose tokens are believed.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, Header};

use super::claims::AnyClaims;
use super::claims::{Origin, Session, Signer};
use super::decode::{CLOCK_SKEW_SECONDS, header, refusal, validation};
use super::legacy::LegacyKeys;
use super::revocations::Revocations;
use super::{AuthError, Token, TokenKey};

/// The keys that are believed and the tokens that are not, as they were at one moment.
pub(super) struct Ring {
    keys: HashMap<String, (Algorithm, DecodingKey)>,
    revoked: Revocations,
    legacy: LegacyKeys,
    /// How long a push session may last; `None` where there are none.
    max_session_seconds: Option<i64>,
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
            legacy: LegacyKeys::default(),
            max_session_seconds: None,
        }
    }

    /// Believes tokens of push sessions for so long after their beginning, if at all.
    pub(super) fn with_sessions(self, max_session_seconds: Option<i64>) -> Self {
        Self { max_session_seconds, ..self }
    }

    /// Believes tokens that name no key under these keys.
    pub(super) fn with_legacy(self, legacy: LegacyKeys) -> Self {
        Self { legacy, ..self }
    }

    /// Verifies a token at the time `now`.
    ///
    /// The key is chosen by `kid`, and the key decides on the algorithm: what the token says about
    /// itself is compared, never followed.
    pub(super) fn verify(&self, token: &str, now: i64) -> Result<Token, AuthError> {
        let header = header(token)?;
        if header.kid.is_none() && !self.legacy.is_empty() {
            let token = self.legacy.verify(token, header.alg, now)?;
            self.check_revoked(&token, now)?;
            return Ok(token);
        }
        let (claims, kid) = self.claims(token, header)?;
        self.accept(claims, kid, now)
    }

    /// What a key of the ring has signed, whatever the token's times are, and the key's id.
    fn claims(&self, token: &str, header: Header) -> Result<(AnyClaims, String), AuthError> {
        let kid = header.kid.ok_or(AuthError::UnknownKey)?;
        let (algorithm, key) = self.keys.get(&kid).ok_or(AuthError::UnknownKey)?;
        if header.alg != *algorithm {
            return Err(AuthError::WrongAlgorithm);
        }
        let decoded = jsonwebtoken::decode::<AnyClaims>(token, key, &validation(*algorithm));
        let claims = decoded.map_err(refusal)?.claims;
        if claims.snowbank.is_some() == claims.push_session.is_some() {
            return Err(AuthError::Malformed);
        }
        Ok((claims, kid))
    }

    fn accept(&self, claims: AnyClaims, kid: String, now: i64) -> Result<Token, AuthError> {
        if claims.exp <= now {
            return Err(AuthError::Expired);
        }
        if claims.nbf.unwrap_or(claims.iat).max(claims.iat) > now.saturating_add(CLOCK_SKEW_SECONDS)
        {
            return Err(AuthError::NotYetValid);
        }
        let AnyClaims { sub, jti, iat, exp, snowbank, push_session, .. } = claims;
        let (grants, origin) = match push_session {
            Some(session) => {
                self.check_session(&session, now)?;
                (session.grants(), Origin::Session(Box::new(session)))
            }
            None => (snowbank.unwrap_or_default(), Origin::Signer(Signer::Key { kid })),
        };
        let token = Token { sub, jti, iat, exp, grants, origin };
        self.check_revoked(&token, now)?;
        Ok(token)
    }

    /// Whether a session may go on, as far as its length and the key of its first token tell.
    fn check_session(&self, session: &Session, now: i64) -> Result<(), AuthError> {
        let is_over = |max| session.ends_at(max) <= now;
        if self.max_session_seconds.is_none_or(is_over) {
            return Err(AuthError::SessionEnded);
        }
        match &session.first.signer {
            Signer::Key { kid } if !self.keys.contains_key(kid) && !self.legacy.has(kid) => {
                Err(AuthError::UnknownKey)
            }
            _ => Ok(()),
        }
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
    legacy: &LegacyKeys,
    token: &str,
) -> Result<String, AuthError> {
    let header = header(token)?;
    if header.kid.is_none() && !legacy.is_empty() {
        return legacy.signed_id(token, header.alg);
    }
    Ok(Ring::new(keys, Revocations::default()).claims(token, header)?.0.jti)
}
