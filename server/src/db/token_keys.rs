//! The life of token keys: which there are, retiring and removing them.
//!
//! A key that is retired verifies nothing any more; its row stays until it is removed, so that its
//! id is not given out again by mistake.

use super::exec::on_either;
use super::keys::SealedTokenKey;
use super::{DbError, Exec};

/// A token key, and when it was retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeyRow {
    /// The key.
    pub key: SealedTokenKey,
    /// When it was retired, if it was.
    pub retired: Option<i64>,
}

type Columns = (String, String, Vec<u8>, i64, Option<i64>);

/// Every token key, newest first.
pub async fn list(exec: Exec<'_>) -> Result<Vec<TokenKeyRow>, DbError> {
    let rows: Vec<Columns> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT kid, algorithm, sealed_secret, created, retired FROM token_keys ORDER BY \
             created DESC, kid",
        )
        .fetch_all(conn)
        .await?
    });
    let row = |(kid, algorithm, sealed_secret, created, retired): Columns| TokenKeyRow {
        key: SealedTokenKey { kid, algorithm, sealed_secret, created },
        retired,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Retires a key; says whether there was one of this id that was not retired.
pub async fn retire(exec: Exec<'_>, kid: &str, now: i64) -> Result<bool, DbError> {
    let rows = on_either!(exec, |conn| {
        sqlx::query("UPDATE token_keys SET retired = $2 WHERE kid = $1 AND retired IS NULL")
            .bind(kid)
            .bind(now)
            .execute(conn)
            .await?
            .rows_affected()
    });
    Ok(rows == 1)
}

/// Removes a key; says whether there was one of this id.
pub async fn remove(exec: Exec<'_>, kid: &str) -> Result<bool, DbError> {
    let rows = on_either!(exec, |conn| {
        sqlx::query("DELETE FROM token_keys WHERE kid = $1")
            .bind(kid)
            .execute(conn)
            .await?
            .rows_affected()
    });
    Ok(rows == 1)
}
