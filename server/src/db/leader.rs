//! Work that one server at a time does.
//!
//! PostgreSQL: a session-level advisory lock on a connection of its own, which the server lets go
//! of when that connection ends, however it ends. Such a lock says who should work, and fences
//! nothing: a holder that was paused may go on for a moment beside the next one, so that what
//! destroys takes [`Db::exclusive_tx`] besides. SQLite: a lock on a file beside the database for
//! what commands do as well; the rest is always held, since the data folder's lock makes the server
//! the only one.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};

use super::connect::Pools;
use super::{Db, DbError};
use crate::files;

/// How long an answer about the lock may take; a connection that says nothing for so long is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// A kind of work, with a lock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Summing up what is stored.
    Usage,
    /// Removing what nothing needs.
    Collection,
}

impl Work {
    /// The advisory lock's key: "snwork" in ASCII, then a number.
    const fn key(self) -> i64 {
        const BASE: i64 = 0x736e_776f_726b_0000;
        match self {
            Self::Usage => BASE + 1,
            Self::Collection => BASE + 2,
        }
    }
}

/// Whether this server is the one that does a kind of work.
#[derive(Debug)]
pub struct Leader(Inner);

#[derive(Debug)]
enum Inner {
    Always,
    File { path: PathBuf, held: Option<File> },
    Postgres { pool: PgPool, key: i64, held: Option<PgConnection> },
}

impl Db {
    /// A candidate for a kind of work; holds nothing yet.
    #[must_use]
    pub fn leader(&self, work: Work) -> Leader {
        Leader(match &self.0 {
            Pools::Sqlite { writer, .. } => match work {
                Work::Usage => Inner::Always,
                Work::Collection => {
                    let mut path = writer.connect_options().get_filename().as_os_str().to_owned();
                    path.push("-collecting");
                    Inner::File { path: path.into(), held: None }
                }
            },
            Pools::Postgres { pool, .. } => {
                Inner::Postgres { pool: pool.clone(), key: work.key(), held: None }
            }
        })
    }
}

impl Leader {
    /// Whether this server holds the lock, taking it where nobody does. To be asked before each
    /// piece of work.
    ///
    /// # Errors
    /// When the database does not answer; then the lock is not held.
    pub async fn holds(&mut self) -> Result<bool, DbError> {
        let (pool, key, held) = match &mut self.0 {
            Inner::Always => return Ok(true),
            Inner::File { path, held } => {
                if held.is_none() {
                    *held = files::open_lock(path)
                        .and_then(files::try_lock)
                        .map_err(|error| DbError::Unavailable(sqlx::Error::Io(error)))?;
                }
                return Ok(held.is_some());
            }
            Inner::Postgres { pool, key, held } => (pool, key, held),
        };
        // Out of `held` while it is asked, so that a lost or an abandoned connection is never asked
        // again.
        if let Some(mut connection) = held.take() {
            let alive =
                tokio::time::timeout(PATIENCE, sqlx::query("SELECT 1").execute(&mut connection))
                    .await;
            if matches!(alive, Ok(Ok(_))) {
                *held = Some(connection);
                return Ok(true);
            }
        }
        let timed_out =
            |_| DbError::Unavailable(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        *held = tokio::time::timeout(PATIENCE, take(pool, *key)).await.map_err(timed_out)??;
        Ok(held.is_some())
    }

    /// Lets go of the lock. The next candidate, on whichever server, gets it at once.
    pub async fn release(self) {
        if let Inner::Postgres { held: Some(mut connection), key, .. } = self.0 {
            // PostgreSQL's own process frees the lock some time after the connection has closed, so
            // the lock is freed by a statement. A connection that cannot say goodbye is closed
            // without one, which frees the lock as well.
            let freed = async {
                sqlx::query("SELECT pg_advisory_unlock($1)")
                    .bind(key)
                    .execute(&mut connection)
                    .await?;
                connection.close().await
            };
            let _: Result<Result<(), sqlx::Error>, _> = tokio::time::timeout(PATIENCE, freed).await;
        }
    }
}

async fn take(pool: &PgPool, key: i64) -> Result<Option<PgConnection>, DbError> {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
    // Where the holder's machine is gone without a word, the server finds out within a minute.
    let (taken, ..): (bool, String, String, String) = sqlx::query_as(
        "SELECT pg_try_advisory_lock($1), set_config('tcp_keepalives_idle', '20', false), \
         set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', \
         '3', false)",
    )
    .bind(key)
    .fetch_one(&mut connection)
    .await?;
    if taken {
        return Ok(Some(connection));
    }
    connection.close().await?;
    Ok(None)
}
