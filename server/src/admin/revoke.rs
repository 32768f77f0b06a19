//! Taking tokens back: by id, by subject, or all that were issued before a time.
//!
//! A wrong argument never looks like a success: an id or a subject that this server issued no token
//! for is an error, unless the operator insists, since other issuers' tokens are not recorded here.
//! An operator may give the token itself in the place of its id; only the id goes on from here.

use snowbank_core::token::{PartOfToken, looks_like_token, token_id, whole_token};
use snowbank_core::wire::admin::{RevokeTokens, RevokedTokens};

use super::{Actor, Admin, AdminError};
use crate::auth::{AuthError, TokenKey, signed_id};
use crate::db::tokens::TokenRow;
use crate::db::{self, Exec};

/// Within how long every server follows a revocation (R2).
const WITHIN_SECONDS: u64 = 5;

/// A token as an operator names it.
pub(super) struct NamedToken {
    /// Its id.
    pub(super) id: String,
    /// Whether it was given as a whole, and a key of ours has signed it.
    is_signed: bool,
}

/// Takes the id from a text that is an id or a token.
///
/// # Errors
/// [`AdminError::BadToken`] for a part of a token, or one whose signature is wrong.
pub(super) async fn resolve(
    exec: Exec<'_>,
    admin: &Admin,
    text: &str,
) -> Result<NamedToken, AdminError> {
    if !looks_like_token(text) {
        return Ok(NamedToken { id: text.to_owned(), is_signed: false });
    }
    let token = whole_token(text).ok_or(PartOfToken)?;
    let rows = db::keys::token_keys(exec).await?;
    // Tokens of a key that does not open are as unknown as those of a retired one.
    let keys: Vec<TokenKey> =
        rows.iter().filter_map(|row| TokenKey::open(row, &admin.sealer).ok()).collect();
    match signed_id(admin.key_files.iter().chain(&keys), &admin.legacy_keys, &token) {
        Ok(id) => Ok(NamedToken { id, is_signed: true }),
        // Signed with a key that is retired, or by another issuer.
        Err(AuthError::UnknownKey) => {
            Ok(NamedToken { id: token_id(&token).ok_or(PartOfToken)?, is_signed: false })
        }
        Err(_) => Err(AdminError::BadToken(
            "the token that was given is damaged: its signature is wrong. Copy it whole, or give \
             its id, which `token list` shows",
        )),
    }
}

/// Takes tokens back: these, a subject's, or all that were issued before a time.
///
/// # Errors
/// [`AdminError::BadToken`] when nothing is named; [`AdminError::NeverIssued`] when an id or a
/// subject is not one of this server's tokens, and the request does not insist. Nothing was revoked
/// then.
pub async fn revoke_tokens(
    admin: &Admin,
    actor: &Actor,
    request: &RevokeTokens,
    now: i64,
) -> Result<RevokedTokens, AdminError> {
    if request.ids.is_empty() && request.subject.is_none() && request.before.is_none() {
        return Err(AdminError::BadToken("say which tokens to revoke: ids, --subject or --before"));
    }
    let mut tx = admin.db.commit_tx().await?;
    let mut tokens = 0;
    let mut detail = Vec::new();
    for text in &request.ids {
        let NamedToken { id, is_signed } = resolve(tx.exec(), admin, text).await?;
        let row = db::tokens::lookup(tx.exec(), &id).await?;
        if row.is_none() && !is_signed && !request.force {
            return Err(AdminError::NeverIssued { what: "with the id", text: id });
        }
        let valid = |row: &TokenRow| row.expires > now && row.revoked.is_none_or(|from| from > now);
        tokens += u64::from(row.as_ref().is_some_and(valid));
        db::revocations::add_token(tx.exec(), &id, now).await?;
        detail.push(format!("id={id}"));
    }
    if request.subject.is_some() || request.before.is_some() {
        let issued_until = request.before.map_or(now, |before| before.saturating_sub(1).min(now));
        let subject = request.subject.as_deref().unwrap_or("");
        if looks_like_token(subject) {
            return Err(AdminError::BadToken(
                "a token is no subject; give it, or its id, without --subject",
            ));
        }
        if !subject.is_empty()
            && !request.force
            && !db::tokens::has_subject(tx.exec(), subject).await?
        {
            return Err(AdminError::NeverIssued {
                what: "for the subject",
                text: subject.to_owned(),
            });
        }
        tokens += db::tokens::count_valid(tx.exec(), request.subject.as_deref(), issued_until, now)
            .await?;
        db::revocations::add_subject(tx.exec(), subject, issued_until, now).await?;
        let whose =
            if subject.is_empty() { "everybody's".to_owned() } else { format!("sub={subject}") };
        detail.push(format!("{whose} issued until {issued_until}"));
    }
    actor.record(&mut tx, "token.revoke", "", detail.join(" "), now).await?;
    tx.commit().await?;
    Ok(RevokedTokens { tokens, within_seconds: WITHIN_SECONDS })
}
