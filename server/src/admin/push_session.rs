//! Tokens of push sessions. No row is kept of them: what they allow, and the token that they began
//! with, is in them. The audit log has the id of each, by the transaction without which it is not
//! handed out.

use metrics::counter;
use snowbank_core::cache_name::CacheName;
use snowbank_core::wire::PushSession;
use snowbank_core::wire::admin::SecretText;

use super::token_keys::signing_key;
use super::{Actor, Admin, AdminError};
use crate::auth::{Signer, Token, session_claims};
use crate::secrets::random_id;

/// Caches that one session may be for.
const MAX_CACHES: usize = 16;

/// Makes a token by which a push to `caches` goes on after `token` has ended: that of a new session
/// of at most `max_seconds`, or the next one of the session that `token` is of.
///
/// # Errors
/// [`AuthError::Forbidden`](crate::auth::AuthError::Forbidden) where the token may not push to one
/// of the caches, [`AdminError::BadSetting`] for none or too many of them.
pub async fn create_push_session(
    admin: &Admin,
    actor: &Actor,
    token: &Token,
    caches: &[CacheName],
    max_seconds: i64,
    now: i64,
) -> Result<PushSession, AdminError> {
    if caches.is_empty() || caches.len() > MAX_CACHES {
        let message =
            format!("a push session is for 1 to {MAX_CACHES} caches, not {}", caches.len());
        return Err(AdminError::BadSetting(message));
    }
    let claims = session_claims(token, caches, max_seconds, random_id::<16>()?, now)?;
    let session = &claims.push_session;
    let mut tx = admin.db.commit_tx().await?;
    let key = signing_key(tx.exec(), &admin.sealer, &admin.key_files).await?;
    let signed = key.issue_session(&claims)?;
    let issuer = match &session.first.signer {
        Signer::Key { .. } => "this server",
        Signer::Issuer { url, .. } => url,
    };
    let names: Vec<&str> = session.caches.keys().map(CacheName::as_str).collect();
    let detail = format!(
        "id={} session={} sub={} first={} issuer={issuer} for {} s, at most until {}: push {}",
        claims.jti,
        session.id,
        claims.sub,
        session.first.jti,
        claims.exp - now,
        session.ends_at(max_seconds),
        names.join(" "),
    );
    let cache = names.first().copied().unwrap_or_default();
    actor.record(&mut tx, "token.push-session", cache, detail, now).await?;
    tx.commit().await?;
    let kind = if token.session().is_some() { "renewed" } else { "begun" };
    counter!("snowbank_push_sessions_total", "kind" => kind).increment(1);
    let seconds = |until: i64| u64::try_from(until - now).unwrap_or_default();
    Ok(PushSession {
        token: SecretText(signed.expose().to_owned()),
        expires_in: seconds(claims.exp),
        ends_in: seconds(session.ends_at(max_seconds)),
        id: claims.jti,
    })
}
