//! Objects that a collection found in the storage without a row, and when: what a crash between W1
//! and W2 leaves.

use std::collections::HashSet;

use snowbank_core::pack::PackKey;

use super::batch::{self, Engine as _};
use super::exec::on_either;
use super::{DbError, Exec, convert};

/// Those of `keys` that a pack's row has, live or dead.
pub async fn named(exec: Exec<'_>, keys: &[PackKey]) -> Result<HashSet<PackKey>, DbError> {
    let mut found: Vec<Vec<u8>> = Vec::with_capacity(keys.len());
    on_either!(exec, |conn| {
        for batch in batch::padded(keys) {
            let sql = format!("SELECT key FROM packs WHERE key IN ({})", batch.placeholders(1));
            let mut query = sqlx::query_scalar(conn.text(sql));
            for key in batch.iter() {
                query = query.bind(&key.as_bytes()[..]);
            }
            found.extend(query.fetch_all(&mut *conn).await?);
        }
    });
    found.iter().map(|key| Ok(PackKey::from_bytes(convert::bytes("packs.key", key)?))).collect()
}

/// Notes that these were found without a row; of those that were before, the earlier time stays.
pub async fn note(exec: Exec<'_>, keys: &[PackKey], seen: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        for batch in batch::exact(keys) {
            let sql = format!(
                "INSERT INTO unnamed_objects (key, seen) VALUES {} ON CONFLICT (key) DO NOTHING",
                batch::rows(2, batch.len())
            );
            let mut query = sqlx::query(conn.text(sql));
            for key in batch {
                query = query.bind(&key.as_bytes()[..]).bind(seen);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// Up to `limit` of those that were found first at `until` or before.
pub async fn seen_until(exec: Exec<'_>, until: i64, limit: u32) -> Result<Vec<PackKey>, DbError> {
    let rows: Vec<Vec<u8>> = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT key FROM unnamed_objects WHERE seen <= $1 ORDER BY key LIMIT $2")
            .bind(until)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?
    });
    rows.iter()
        .map(|key| Ok(PackKey::from_bytes(convert::bytes("unnamed_objects.key", key)?)))
        .collect()
}

/// Forgets these.
pub async fn forget(exec: Exec<'_>, keys: &[PackKey]) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        for batch in batch::padded(keys) {
            let sql =
                format!("DELETE FROM unnamed_objects WHERE key IN ({})", batch.placeholders(1));
            let mut query = sqlx::query(conn.text(sql));
            for key in batch.iter() {
                query = query.bind(&key.as_bytes()[..]);
            }
            query.execute(&mut *conn).await?;
        }
    });
    Ok(())
}

/// Forgets all that have a row by now.
pub async fn forget_named(exec: Exec<'_>) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "DELETE FROM unnamed_objects WHERE EXISTS (SELECT 1 FROM packs p WHERE p.key = \
             unnamed_objects.key)",
        )
        .execute(conn)
        .await?;
    });
    Ok(())
}
