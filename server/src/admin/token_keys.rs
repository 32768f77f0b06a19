//! The keys that sign tokens: adding, listing, retiring and removing them.
//!
//! New tokens are signed with the newest key that can sign. An older key verifies until it is
//! retired, so that a key is replaced by adding another, giving out new tokens, and retiring the
//! old one when nobody needs it any more. Invariant: there is always a key that can sign. Keys are
//! for the host alone, and so are these functions.

use super::{Actor, AdminError};
use crate::auth::{AuthError, TokenKey};
use crate::config::TokenAlgorithm;
use crate::db::token_counts::count_live_by_kid;
use crate::db::token_keys::TokenKeyRow;
use crate::db::{self, Db, DbError, Exec};
use crate::secrets::Sealer;

/// Why a token key is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// There is none of this id.
    #[error("there is no token key `{0}`; see which there are: snowbankd token-key list")]
    Absent(String),
    /// There is one of this id.
    #[error("there is a token key `{0}` already, or was one that is retired; choose another --kid")]
    Taken(String),
    /// It comes from a file.
    #[error(
        "the token key `{0}` comes from the config file; take its [[auth.token-key]] out there and \
         restart every server"
    )]
    InConfigFile(String),
    /// It was retired before.
    #[error(
        "the token key `{0}` is retired already; to remove it for good: snowbankd token-key remove \
         {0}"
    )]
    Retired(String),
    /// Nothing could sign any more.
    #[error(
        "the token key `{0}` is the only one that can sign tokens; add another first: snowbankd \
         token-key add"
    )]
    LastSigner(String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A key could not be opened or sealed.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// Where a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// In the database.
    Database {
        /// When it was made, in Unix seconds.
        created: i64,
    },
    /// In a file that the config file names.
    ConfigFile,
}

/// A token key, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeyInfo {
    /// What tokens name it by.
    pub kid: String,
    /// What it is for.
    pub algorithm: TokenAlgorithm,
    /// Where it lives.
    pub source: KeySource,
    /// When it was retired, in Unix seconds, if it was.
    pub retired: Option<i64>,
    /// Whether it can sign.
    pub can_sign: bool,
    /// Whether it is the one that new tokens are signed with.
    pub signs_new: bool,
    /// Tokens signed with it that are neither over nor revoked.
    pub live_tokens: u64,
}

/// How a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It verifies no more.
    Retire,
    /// It is forgotten.
    Remove,
}

/// What the end of a key would mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// The key.
    pub kid: String,
    /// Tokens signed with it that are neither over nor revoked.
    pub live_tokens: u64,
    /// Whether they are refused already.
    pub is_retired: bool,
}

/// The key for new tokens: the newest of the database that can sign, else the first of `files`.
pub(super) async fn signing_key(
    exec: Exec<'_>,
    sealer: &Sealer,
    files: &[TokenKey],
) -> Result<TokenKey, AdminError> {
    for row in db::keys::token_keys(exec).await? {
        let key = TokenKey::open(&row, sealer)?;
        if key.can_sign() {
            return Ok(key);
        }
    }
    files.iter().find(|key| key.can_sign()).cloned().ok_or(AdminError::NoTokenKey)
}

/// Adds a key. From then on it is the newest, also where the clock has gone back.
///
/// # Errors
/// [`TokenKeyError::Taken`] when there is, or was, a key of its id.
pub async fn add(
    db: &Db,
    sealer: &Sealer,
    files: &[TokenKey],
    key: &TokenKey,
    now: i64,
) -> Result<(), TokenKeyError> {
    let taken = || TokenKeyError::Taken(key.kid().to_owned());
    let mut tx = db.exclusive_tx().await?;
    let rows = db::token_keys::list(tx.exec()).await?;
    if rows.iter().any(|row| row.key.kid == key.kid())
        || files.iter().any(|file| file.kid() == key.kid())
    {
        return Err(taken());
    }
    let newest = rows.first().map_or(now, |row| row.key.created.saturating_add(1));
    db::keys::add_token_key(tx.exec(), &key.seal(sealer, now.max(newest))?).await?;
    let detail = format!("kid={} algorithm={}", key.kid(), key.algorithm());
    Actor::host().record(&mut tx, "token-key.add", "", detail, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Every key, those of the database first, newest first.
///
/// # Errors
/// When the database fails, or a key does not open.
pub async fn list(
    db: &Db,
    sealer: &Sealer,
    files: &[TokenKey],
    now: i64,
) -> Result<Vec<TokenKeyInfo>, TokenKeyError> {
    let mut conn = db.reader().await?;
    let mut all = Vec::new();
    for row in db::token_keys::list(conn.exec()).await? {
        let key = TokenKey::open(&row.key, sealer)?;
        let source = KeySource::Database { created: row.key.created };
        all.push(info(
            &key,
            source,
            row.retired,
            count_live_by_kid(conn.exec(), key.kid(), now).await?,
        ));
    }
    for key in files {
        all.push(info(
            key,
            KeySource::ConfigFile,
            None,
            count_live_by_kid(conn.exec(), key.kid(), now).await?,
        ));
    }
    if let Some(signer) = all.iter_mut().find(|key| key.can_sign && key.retired.is_none()) {
        signer.signs_new = true;
    }
    Ok(all)
}

fn info(key: &TokenKey, source: KeySource, retired: Option<i64>, live_tokens: u64) -> TokenKeyInfo {
    TokenKeyInfo {
        kid: key.kid().to_owned(),
        algorithm: key.algorithm(),
        source,
        retired,
        can_sign: key.can_sign(),
        signs_new: false,
        live_tokens,
    }
}

/// What the end of a key would mean, and whether it may end.
pub async fn describe_end(
    db: &Db,
    sealer: &Sealer,
    files: &[TokenKey],
    kid: &str,
    end: End,
    now: i64,
) -> Result<Outlook, TokenKeyError> {
    let mut conn = db.reader().await?;
    let is_retired = check(&db::token_keys::list(conn.exec()).await?, sealer, files, kid, end)?;
    let live_tokens = count_live_by_kid(conn.exec(), kid, now).await?;
    Ok(Outlook { kid: kid.to_owned(), live_tokens, is_retired })
}

/// Ends a key. Every server follows within seconds.
///
/// # Errors
/// [`TokenKeyError`]; nothing was changed then.
pub async fn end(
    db: &Db,
    sealer: &Sealer,
    files: &[TokenKey],
    kid: &str,
    end: End,
    now: i64,
) -> Result<(), TokenKeyError> {
    // Exclusive, so that of the last two keys not each is ended because the other is there.
    let mut tx = db.exclusive_tx().await?;
    check(&db::token_keys::list(tx.exec()).await?, sealer, files, kid, end)?;
    let (action, found) = match end {
        End::Retire => ("token-key.retire", db::token_keys::retire(tx.exec(), kid, now).await?),
        End::Remove => ("token-key.remove", db::token_keys::remove(tx.exec(), kid).await?),
    };
    if !found {
        return Err(TokenKeyError::Absent(kid.to_owned()));
    }
    Actor::host().record(&mut tx, action, "", format!("kid={kid}"), now).await?;
    tx.commit().await?;
    Ok(())
}

/// Whether a key may end; gives whether it is retired.
fn check(
    rows: &[TokenKeyRow],
    sealer: &Sealer,
    files: &[TokenKey],
    kid: &str,
    end: End,
) -> Result<bool, TokenKeyError> {
    let Some(row) = rows.iter().find(|row| row.key.kid == kid) else {
        let in_file = files.iter().any(|key| key.kid() == kid);
        let kid = kid.to_owned();
        return Err(if in_file {
            TokenKeyError::InConfigFile(kid)
        } else {
            TokenKeyError::Absent(kid)
        });
    };
    if row.retired.is_some() {
        return if end == End::Retire {
            Err(TokenKeyError::Retired(kid.to_owned()))
        } else {
            Ok(true)
        };
    }
    let mut signs_still = files.iter().any(TokenKey::can_sign);
    for other in rows.iter().filter(|other| other.retired.is_none() && other.key.kid != kid) {
        signs_still = signs_still || TokenKey::open(&other.key, sealer)?.can_sign();
    }
    // A key that does not open signs nothing, and may go.
    let signs = TokenKey::open(&row.key, sealer).is_ok_and(|key| key.can_sign());
    if signs && !signs_still { Err(TokenKeyError::LastSigner(kid.to_owned())) } else { Ok(false) }
}

#[cfg(test)]
mod tests;
