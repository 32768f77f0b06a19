//! The rows of a queue, in SQLite: the only SQL of the client.
//!
//! The database is made beside its place with schema and mode, and gets its name when it is whole.
//! It is in WAL mode, so that hooks write while `queue run` reads, and a commit is on the disk when
//! it returns. Times are seconds since 1970.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection as _, Row as _};

use super::turn::Turn;
use super::{QueueError, QueueFolder};

/// The schema of this version, in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cache TEXT NOT NULL,
    store_path TEXT NOT NULL,
    drv_path TEXT,
    root TEXT,
    added_at INTEGER NOT NULL,
    -- How often a hook has named the path since the row is there.
    requests INTEGER NOT NULL DEFAULT 1,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'aside')),
    -- Whether the last push failed as a whole. The cache is left alone until `next_at` then.
    outage INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    UNIQUE (cache, store_path)
) STRICT;
CREATE INDEX waiting ON entries (next_at, id) WHERE state = 'waiting';
CREATE INDEX outages ON entries (cache, next_at) WHERE outage = 1;
PRAGMA user_version = 1;
";
/// How long a statement waits for another process.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pages of the log that a commit folds into the file. The log is read whole by a hook that runs
/// while no other process has the database open.
const FOLDED_PAGES: &str = "250";

/// What waits, and whether it is due.
const DUE: &str = "state = 'waiting' AND next_at <= $1 AND NOT EXISTS (SELECT 1 FROM entries AS \
    held WHERE held.outage = 1 AND held.cache = entries.cache AND held.next_at > $1)";

/// An open database. Its connection is closed when it is dropped.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    folder: PathBuf,
    connection: SqliteConnection,
}

/// A path that a hook wants pushed.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// `[SERVER:]CACHE`.
    pub cache: String,
    /// The store path, in full.
    pub store_path: String,
    /// The derivation that it was built from.
    pub drv_path: Option<String>,
    /// The name of its garbage collection root.
    pub root: Option<String>,
}

/// A path that waits, or was set aside.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    #[serde(skip)]
    id: i64,
    #[serde(skip)]
    requests: i64,
    #[serde(skip)]
    root: Option<String>,
    /// `[SERVER:]CACHE`.
    pub cache: String,
    /// The store path, in full.
    pub store_path: String,
    /// The derivation that it was built from, if the hook knew it.
    pub drv_path: Option<String>,
    /// Whether it waits.
    pub state: EntryState,
    /// When the hook accepted it.
    pub added_at: i64,
    /// Pushes that failed.
    pub attempts: i64,
    /// When the next push is due; 0 for at once.
    pub next_at: i64,
    /// Why the last push failed.
    pub reason: Option<String>,
}

/// Whether an entry is going to be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryState {
    /// It is.
    Waiting,
    /// A person has to look at it first.
    Aside,
}

/// The end of an attempt to push an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The path is in the cache or upstream, or a person dropped it.
    Done,
    /// The path is not in the store any more.
    Collected,
    /// It cannot be pushed, and trying again does not help.
    Aside {
        /// Why.
        reason: String,
    },
    /// It is tried again.
    Postponed {
        /// Why.
        reason: String,
        /// When.
        next_at: i64,
        /// Whether nothing of that cache can be pushed.
        is_outage: bool,
    },
}

impl Database {
    /// Opens the database of a queue, and makes it where it is missing.
    ///
    /// # Errors
    /// What SQLite and the file system say; [`QueueError::Newer`].
    pub async fn open(folder: &QueueFolder) -> Result<Self, QueueError> {
        let path = folder.database();
        if !path.exists() {
            folder.create()?;
            make(folder, &path).await?;
        }
        let failed = |source| QueueError::Database { path: path.clone(), source };
        let mut connection =
            SqliteConnection::connect_with(&options(&path)).await.map_err(failed)?;
        let version = sqlx::query("PRAGMA user_version").fetch_one(&mut connection).await;
        let found: i64 = version.and_then(|row| row.try_get(0)).map_err(failed)?;
        if found > SCHEMA_VERSION {
            return Err(QueueError::Newer { path, found, known: SCHEMA_VERSION });
        }
        Ok(Self { path, folder: folder.path().to_owned(), connection })
    }

    /// Ends without closing the connection, which would fold the log into the file: nobody should
    /// wait for that. The system closes it when the process ends.
    pub fn leave_open(self) {
        std::mem::forget(self.connection);
    }

    fn failed(&self) -> impl Fn(sqlx::Error) -> QueueError + use<> {
        let path = self.path.clone();
        move |source| QueueError::Database { path: path.clone(), source }
    }

    /// Adds all of `entries`, or none. Gives the roots that no row owns: those of entries that were
    /// there, with a root of their own.
    ///
    /// # Errors
    /// [`QueueError::Full`] above `max_entries`; what SQLite says.
    pub async fn add(
        &mut self,
        entries: &[NewEntry],
        added_at: i64,
        max_entries: u64,
    ) -> Result<Vec<String>, QueueError> {
        let failed = self.failed();
        let _turn = Turn::take(&self.folder).await;
        let mut tx = self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let mut unused = Vec::new();
        for entry in entries {
            let owner: Option<String> = sqlx::query(
                "INSERT INTO entries (cache, store_path, drv_path, root, added_at)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (cache, store_path) DO UPDATE
                 SET requests = requests + 1, root = coalesce(entries.root, excluded.root)
                 RETURNING root",
            )
            .bind(&entry.cache)
            .bind(&entry.store_path)
            .bind(&entry.drv_path)
            .bind(&entry.root)
            .bind(added_at)
            .fetch_one(&mut *tx)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(&failed)?;
            unused.extend(entry.root.clone().filter(|root| owner.as_ref() != Some(root)));
        }
        let count = sqlx::query("SELECT count(*) FROM entries").fetch_one(&mut *tx).await;
        let count: i64 = count.and_then(|row| row.try_get(0)).map_err(&failed)?;
        if u64::try_from(count).is_ok_and(|count| count > max_entries) {
            return Err(QueueError::Full { folder: self.folder.clone(), max: max_entries });
        }
        tx.commit().await.map_err(&failed)?;
        Ok(unused)
    }

    /// The first entries that are due, at most `limit` and all for one cache.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn due(&mut self, now: i64, limit: usize) -> Result<Vec<Entry>, QueueError> {
        let failed = self.failed();
        let first = format!("SELECT cache FROM entries WHERE {DUE} ORDER BY id LIMIT 1");
        let sql =
            format!("SELECT * FROM entries WHERE {DUE} AND cache = ({first}) ORDER BY id LIMIT $2");
        // The text is made of constants.
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(now)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut self.connection)
            .await;
        rows.and_then(|rows| rows.iter().map(entry).collect()).map_err(failed)
    }

    /// All entries, the oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn list(&mut self) -> Result<Vec<Entry>, QueueError> {
        let failed = self.failed();
        let rows =
            sqlx::query("SELECT * FROM entries ORDER BY id").fetch_all(&mut self.connection).await;
        rows.and_then(|rows| rows.iter().map(entry).collect()).map_err(failed)
    }

    /// How many entries wait, and how many were set aside.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn counts(&mut self) -> Result<(u64, u64), QueueError> {
        let failed = self.failed();
        let counted = sqlx::query(
            "SELECT count(*) FILTER (WHERE state = 'waiting'),
                    count(*) FILTER (WHERE state = 'aside') FROM entries",
        )
        .fetch_one(&mut self.connection)
        .await;
        let count = |row: &SqliteRow, at: usize| {
            row.try_get::<i64, _>(at).map(|count| u64::try_from(count).unwrap_or_default())
        };
        counted.and_then(|row| Ok((count(&row, 0)?, count(&row, 1)?))).map_err(failed)
    }

    /// Records the end of an attempt for each of these entries, all in one commit. Gives the roots
    /// that no row owns any more.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn settle(
        &mut self,
        settled: &[(Entry, Settlement)],
    ) -> Result<Vec<String>, QueueError> {
        let failed = self.failed();
        let _turn = Turn::take(&self.folder).await;
        let mut tx = self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let mut unused = Vec::new();
        for (entry, settlement) in settled {
            let statement = match settlement {
                Settlement::Done => {
                    sqlx::query("DELETE FROM entries WHERE id = $1 RETURNING root").bind(entry.id)
                }
                // A path that a hook named meanwhile was built again, and is there.
                Settlement::Collected => sqlx::query(
                    "DELETE FROM entries WHERE id = $1 AND requests = $2 RETURNING root",
                )
                .bind(entry.id)
                .bind(entry.requests),
                Settlement::Aside { reason } => sqlx::query(
                    "UPDATE entries SET state = 'aside', outage = 0, reason = $2,
                     attempts = attempts + 1 WHERE id = $1",
                )
                .bind(entry.id)
                .bind(reason),
                Settlement::Postponed { reason, next_at, is_outage } => sqlx::query(
                    "UPDATE entries SET reason = $2, next_at = $3, outage = $4,
                     attempts = attempts + 1 WHERE id = $1",
                )
                .bind(entry.id)
                .bind(reason)
                .bind(next_at)
                .bind(is_outage),
            };
            let row = statement.fetch_optional(&mut *tx).await.map_err(&failed)?;
            if let Some(row) = row {
                unused.extend(row.try_get::<Option<String>, _>(0).map_err(&failed)?);
            }
        }
        tx.commit().await.map_err(&failed)?;
        Ok(unused)
    }

    /// Makes these entries due at once, and with them all that wait for the same caches to come
    /// back.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn retry(&mut self, entries: &[Entry]) -> Result<(), QueueError> {
        let failed = self.failed();
        let _turn = Turn::take(&self.folder).await;
        let mut tx = self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        for entry in entries {
            sqlx::query("UPDATE entries SET state = 'waiting', next_at = 0 WHERE id = $1")
                .bind(entry.id)
                .execute(&mut *tx)
                .await
                .map_err(&failed)?;
            sqlx::query("UPDATE entries SET next_at = 0 WHERE outage = 1 AND cache = $1")
                .bind(&entry.cache)
                .execute(&mut *tx)
                .await
                .map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE)
        .pragma("wal_autocheckpoint", FOLDED_PAGES)
}

/// Makes the database at `path`, unless another process is faster.
async fn make(folder: &QueueFolder, path: &Path) -> Result<(), QueueError> {
    let failed = |source| QueueError::File { path: path.to_owned(), source };
    let new =
        tempfile::Builder::new().prefix(".queue-").tempdir_in(folder.path()).map_err(failed)?;
    let file = new.path().join("queue.db");
    let made = async {
        let options = options(&file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        connection.close().await
    };
    made.await.map_err(|source| QueueError::Database { path: path.to_owned(), source })?;
    let place = || {
        fs::set_permissions(&file, folder.file_permissions()?)?;
        // A link, since a rename would replace another process's.
        match fs::hard_link(&file, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }?;
        fs::File::open(folder.path())?.sync_all()
    };
    place().map_err(failed)
}

fn entry(row: &SqliteRow) -> Result<Entry, sqlx::Error> {
    let state: String = row.try_get("state")?;
    Ok(Entry {
        id: row.try_get("id")?,
        requests: row.try_get("requests")?,
        root: row.try_get("root")?,
        cache: row.try_get("cache")?,
        store_path: row.try_get("store_path")?,
        drv_path: row.try_get("drv_path")?,
        state: if state == "aside" { EntryState::Aside } else { EntryState::Waiting },
        added_at: row.try_get("added_at")?,
        attempts: row.try_get("attempts")?,
        next_at: row.try_get("next_at")?,
        reason: row.try_get("reason")?,
    })
}

impl Entry {
    /// The name of its garbage collection root.
    #[must_use]
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    #[cfg(test)]
    pub(super) fn for_tests(store_path: &str, root: Option<&str>) -> Self {
        Self {
            id: 0,
            requests: 1,
            root: root.map(str::to_owned),
            cache: "main".to_owned(),
            store_path: store_path.to_owned(),
            drv_path: None,
            state: EntryState::Waiting,
            added_at: 0,
            attempts: 0,
            next_at: 0,
            reason: None,
        }
    }
}

#[cfg(test)]
mod tests;
