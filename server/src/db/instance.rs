//! Who this database is: an id drawn when it was set up, and an epoch that restoring a backup
//! raises.
//!
//! The storage's marker object holds the same two (C3), so that no server collects another's
//! objects.

use super::exec::on_either;
use super::{DbError, Exec, convert};

/// The identity of one Snowbank: one database and one storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Random, for ever the same.
    pub id: String,
    /// Counts restored backups, from 1.
    pub epoch: u64,
    /// When it was set up.
    pub created: i64,
}

/// The identity, if one has been given.
pub async fn lookup(exec: Exec<'_>) -> Result<Option<Instance>, DbError> {
    let row: Option<(String, i64, i64)> = on_either!(exec, |conn| {
        sqlx::query_as("SELECT id, epoch, created FROM instance").fetch_optional(conn).await?
    });
    row.map(|(id, epoch, created)| {
        Ok(Instance { id, epoch: convert::number("instance.epoch", epoch)?, created })
    })
    .transpose()
}

/// The identity; `new_id` becomes it where there is none. To be called under
/// [`Db::exclusive_tx`](super::Db::exclusive_tx), so that two servers that start together agree.
pub async fn load_or_create(
    mut exec: Exec<'_>,
    new_id: &str,
    now: i64,
) -> Result<Instance, DbError> {
    if let Some(instance) = lookup(exec.again()).await? {
        return Ok(instance);
    }
    on_either!(exec, |conn| {
        sqlx::query("INSERT INTO instance (id, epoch, created) VALUES ($1, 1, $2)")
            .bind(new_id)
            .bind(now)
            .execute(conn)
            .await?;
    });
    Ok(Instance { id: new_id.to_owned(), epoch: 1, created: now })
}

/// Writes another epoch, a higher one. To be called under
/// [`Db::exclusive_tx`](super::Db::exclusive_tx).
pub async fn set_epoch(exec: Exec<'_>, epoch: u64) -> Result<(), DbError> {
    let epoch = convert::to_db(epoch)?;
    on_either!(exec, |conn| {
        sqlx::query("UPDATE instance SET epoch = $1").bind(epoch).execute(conn).await?;
    });
    Ok(())
}
