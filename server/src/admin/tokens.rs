//! Issuing tokens.

use super::AdminError;
use crate::auth::{Claims, Grants, TokenKey};
use crate::config::Seconds;
use crate::db::{self, Db};
use crate::secrets::{Sealer, SecretString, random_id};

/// No token lives longer than ten years.
pub(super) const MAX_LIFETIME: Seconds = Seconds::new(3_650 * 86_400);

/// A token that is to be made.
#[derive(Debug, Clone)]
pub struct TokenSpec {
    /// Whom it is for.
    pub subject: String,
    /// What it allows.
    pub grants: Grants,
    /// For how long.
    pub lifetime: Seconds,
}

/// Makes a token, signed with the newest key.
///
/// # Errors
/// [`AdminError::BadToken`] when it would be of no use, [`AdminError::NoTokenKey`] when the server was never started.
pub async fn create_token(db: &Db, sealer: &Sealer, spec: TokenSpec, now: i64) -> Result<SecretString, AdminError> {
    let mut conn = db.reader().await?;
    let keys = db::keys::token_keys(conn.exec()).await?;
    let newest = keys.first().ok_or(AdminError::NoTokenKey)?;
    issue(&TokenKey::open(newest, sealer)?, spec, now)
}

pub(super) fn issue(key: &TokenKey, spec: TokenSpec, now: i64) -> Result<SecretString, AdminError> {
    if spec.subject.trim().is_empty() {
        return Err(AdminError::BadToken("a token needs a subject: whom or what it is for, such as --sub ci"));
    }
    if spec.grants.caches.is_empty() && !spec.grants.admin {
        return Err(AdminError::BadToken(
            "a token that allows nothing is of no use; add --pull PATTERN or --push PATTERN",
        ));
    }
    if spec.lifetime.get() == 0 || spec.lifetime > MAX_LIFETIME {
        return Err(AdminError::BadToken("a token lives from 1s to 3650d; give --expires a length of time in between"));
    }
    // Ten years at most, so it fits.
    let lifetime = i64::try_from(spec.lifetime.get()).unwrap_or(i64::MAX);
    let claims = Claims {
        sub: spec.subject,
        jti: random_id::<16>()?,
        iat: now,
        exp: now.saturating_add(lifetime),
        nbf: None,
        snowbank: spec.grants,
    };
    Ok(key.issue(&claims)?)
}
