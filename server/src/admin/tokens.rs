//! Issuing, listing and rotating tokens.

use std::collections::BTreeMap;

use snowbank_core::cache_name::CachePattern;
use snowbank_core::token::looks_like_token;
use snowbank_core::wire::admin::{
    CreateToken, CreatedToken, RotateToken, SecretText, TokenGrants, TokenInfo, TokenList,
};

use super::page::cut;
use super::revoke::resolve;
use super::token_keys::signing_key;
use super::{Actor, Admin, AdminError};
use crate::auth::{Claims, Grants, Permission};
use crate::config::Seconds;
use crate::db::tokens::TokenRow;
use crate::db::{self, DbError, Tx};
use crate::secrets::random_id;

/// No token lives longer than ten years.
pub(super) const MAX_LIFETIME: Seconds = Seconds::new(3_650 * 86_400);
/// Tokens in one answer.
const PAGE: u32 = 500;
const MAX_LABEL_CHARS: usize = 500;

/// Makes a token, signed with the newest key; `files` are the keys in files, one of which signs
/// where the database has none that can.
///
/// # Errors
/// [`AdminError::BadToken`] when it would be of no use, [`AdminError::NoTokenKey`] when the server
/// was never started.
pub async fn create_token(
    admin: &Admin,
    actor: &Actor,
    request: &CreateToken,
    now: i64,
) -> Result<CreatedToken, AdminError> {
    let mut tx = admin.db.commit_tx().await?;
    let created = issue(&mut tx, admin, actor, request, now).await?;
    let CreateToken { subject, grants, expires, .. } = request;
    let detail = format!("id={} sub={subject} for {expires}: {grants}", created.info.id);
    actor.record(&mut tx, "token.create", "", detail, now).await?;
    tx.commit().await?;
    Ok(created)
}

/// Signs a token and notes it down.
pub(super) async fn issue(
    tx: &mut Tx,
    admin: &Admin,
    actor: &Actor,
    request: &CreateToken,
    now: i64,
) -> Result<CreatedToken, AdminError> {
    check(request)?;
    let key = signing_key(tx.exec(), &admin.sealer, &admin.key_files).await?;
    // A subject whose tokens were revoked a moment ago gets one that was issued after that.
    let refused_until = db::revocations::issued_until(tx.exec(), &request.subject).await?;
    let issued = refused_until.map_or(now, |until| now.max(until.saturating_add(1)));
    // Ten years at most, so it fits.
    let lifetime = i64::try_from(request.expires.get()).unwrap_or(i64::MAX);
    let claims = Claims {
        sub: request.subject.clone(),
        jti: random_id::<16>()?,
        iat: issued,
        exp: now.saturating_add(lifetime),
        nbf: None,
        snowbank: parse_grants(&request.grants)?,
    };
    let token = key.issue(&claims)?;
    let row = TokenRow {
        jti: claims.jti,
        kid: key.kid().to_owned(),
        subject: claims.sub,
        label: request.label.clone(),
        grants: to_json(&request.grants)?,
        created: issued,
        expires: claims.exp,
        created_by: actor.subject.clone(),
        last_used: None,
        revoked: None,
    };
    db::tokens::add(tx.exec(), &row).await?;
    Ok(CreatedToken { token: SecretText(token.expose().to_owned()), info: info(row)? })
}

/// Tokens that were issued here, newest first; `after` is the id of the last one of an earlier
/// answer.
pub async fn list_tokens(admin: &Admin, after: Option<&str>) -> Result<TokenList, AdminError> {
    let mut conn = admin.db.reader().await?;
    let after = match after {
        None => None,
        Some(id) if !id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            return Ok(TokenList::default());
        }
        Some(id) => match db::tokens::lookup(conn.exec(), id).await? {
            Some(token) => Some((token.created, token.jti)),
            // Behind a token that was never there is nothing.
            None => return Ok(TokenList::default()),
        },
    };
    let place = after.as_ref().map_or((i64::MAX, ""), |(created, id)| (*created, id));
    let rows = db::tokens::page(conn.exec(), place, PAGE).await?;
    drop(conn);
    let is_full = rows.len() == PAGE as usize;
    let mut tokens = rows.into_iter().map(info).collect::<Result<Vec<_>, _>>()?;
    let is_cut = cut(&mut tokens);
    let next = tokens.last().filter(|_| is_full || is_cut).map(|last| last.id.clone());
    Ok(TokenList { tokens, next })
}

/// A token that was issued here, by its id or by itself.
///
/// # Errors
/// [`AdminError::NoToken`].
pub async fn show_token(admin: &Admin, text: &str) -> Result<TokenInfo, AdminError> {
    let mut conn = admin.db.reader().await?;
    let id = resolve(conn.exec(), admin, text).await?.id;
    let row = db::tokens::lookup(conn.exec(), &id).await?;
    info(row.ok_or(AdminError::NoToken(id))?)
}

/// Makes a token with the rights of another, which stays valid for a while and is named by its id
/// or by itself.
///
/// # Errors
/// [`AdminError::NoToken`], or [`AdminError::BadToken`] for one that is not valid any more.
pub async fn rotate_token(
    admin: &Admin,
    actor: &Actor,
    text: &str,
    request: &RotateToken,
    now: i64,
) -> Result<CreatedToken, AdminError> {
    let mut tx = admin.db.commit_tx().await?;
    let id = resolve(tx.exec(), admin, text).await?.id;
    let old =
        db::tokens::lookup(tx.exec(), &id).await?.ok_or_else(|| AdminError::NoToken(id.clone()))?;
    if old.revoked.is_some_and(|from| from <= now) || old.expires <= now {
        return Err(AdminError::BadToken("this token is not valid any more; create a new one"));
    }
    let old = info(old)?;
    let same = Seconds::new(u64::try_from(old.expires - old.created).unwrap_or(0));
    let new = CreateToken {
        subject: old.subject,
        label: old.label,
        grants: old.grants,
        expires: request.expires.unwrap_or(same).min(MAX_LIFETIME),
    };
    let created = issue(&mut tx, admin, actor, &new, now).await?;
    let grace = i64::try_from(request.grace.get()).unwrap_or(i64::MAX);
    db::revocations::add_token(tx.exec(), &id, now.saturating_add(grace)).await?;
    let detail = format!("id={id} new={} grace={}", created.info.id, request.grace);
    actor.record(&mut tx, "token.rotate", "", detail, now).await?;
    tx.commit().await?;
    Ok(created)
}

fn check(request: &CreateToken) -> Result<(), AdminError> {
    if request.subject.trim().is_empty() || request.subject.chars().any(char::is_control) {
        return Err(AdminError::BadToken(
            "a token needs a subject: whom or what it is for, such as --sub ci",
        ));
    }
    if looks_like_token(&request.subject) || looks_like_token(&request.label) {
        return Err(AdminError::BadToken(
            "a token is no subject and no label: those are stored and shown",
        ));
    }
    if request.grants.caches.values().all(Vec::is_empty) && !request.grants.admin {
        return Err(AdminError::BadToken(
            "a token that allows nothing is of no use; add --pull PATTERN or --push PATTERN",
        ));
    }
    if request.expires.get() == 0 || request.expires > MAX_LIFETIME {
        return Err(AdminError::BadToken(
            "a token lives from 1s to 3650d; give --expires a length of time in between",
        ));
    }
    if request.label.chars().count() > MAX_LABEL_CHARS
        || request.label.chars().any(char::is_control)
    {
        return Err(AdminError::BadToken("a label is one line of at most 500 characters"));
    }
    Ok(())
}

fn parse_grants(grants: &TokenGrants) -> Result<Grants, AdminError> {
    let mut caches: BTreeMap<CachePattern, Vec<Permission>> = BTreeMap::new();
    for (pattern, names) in &grants.caches {
        let pattern =
            pattern.parse().map_err(|error| AdminError::BadSetting(format!("{error}")))?;
        let permission = |name: &String| {
            name.parse().map_err(|error| {
                AdminError::BadSetting(format!("the permission `{name}` is {error}"))
            })
        };
        caches.insert(pattern, names.iter().map(permission).collect::<Result<_, _>>()?);
    }
    Ok(Grants { caches, admin: grants.admin })
}

fn to_json(grants: &TokenGrants) -> Result<String, DbError> {
    serde_json::to_string(grants)
        .map_err(|error| DbError::corrupt(format!("a token's permissions: {error}")))
}

fn info(row: TokenRow) -> Result<TokenInfo, AdminError> {
    let grants = serde_json::from_str(&row.grants)
        .map_err(|error| DbError::corrupt(format!("tokens.grants of {}: {error}", row.jti)))?;
    Ok(TokenInfo {
        id: row.jti,
        subject: row.subject,
        label: row.label,
        grants,
        key_id: row.kid,
        created: row.created,
        created_by: row.created_by,
        expires: row.expires,
        last_used: row.last_used,
        revoked: row.revoked,
    })
}
