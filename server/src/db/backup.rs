//! A backup of a SQLite database: a file of its own with all rows of one moment, and two tables
//! about the backup.
//!
//! `backup_info` says what it is a backup of; `backup_files` has files that belong to it, where it
//! was made with them. Both are gone from a database that was made of it ([`strip`]).

use std::fmt;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use zeroize::Zeroizing;

use super::connect::sqlite_options;
use super::migrate::is_absent;
use super::{DbError, Exec, convert, instance};

/// What a backup is one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupInfo {
    /// The version of the program that made it.
    pub version: String,
    /// The database's id.
    pub instance: String,
    /// The database's epoch then.
    pub epoch: u64,
    /// When it was made.
    pub time: i64,
}

/// A file that belongs to a database.
#[derive(Clone, PartialEq, Eq)]
pub struct BackupFile {
    /// What it is, such as `server-key`; not where it lay.
    pub name: String,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for BackupFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Copies the database, as it is at this moment, into `target`, an empty file. Reads and commits go
/// on meanwhile.
///
/// # Errors
/// As any read; [`DbError::Full`] when there is no room for the copy.
pub async fn copy(database: &Path, target: &Path) -> Result<(), DbError> {
    let mut conn = sqlite_options(database).create_if_missing(false).connect().await?;
    let copied = sqlx::query("VACUUM INTO $1").bind(text(target)?).execute(&mut conn).await;
    conn.close().await?;
    copied?;
    Ok(())
}

/// Writes into a copy what it is, and `files`. The copy is one file then, without a log beside it.
///
/// # Errors
/// As any write; [`DbError::Corrupt`] when the database has no identity yet.
pub async fn describe(
    copy: &Path,
    version: &str,
    now: i64,
    files: &[BackupFile],
) -> Result<BackupInfo, DbError> {
    let mut conn = single_file(copy).connect().await?;
    let found = instance::lookup(Exec::Sqlite(&mut conn)).await?;
    let found = found.ok_or_else(|| DbError::corrupt("it has no instance row"))?;
    let info = BackupInfo {
        version: version.to_owned(),
        instance: found.id,
        epoch: found.epoch,
        time: now,
    };
    let mut tx = conn.begin().await?;
    for table in [
        "CREATE TABLE backup_info (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT",
        "CREATE TABLE backup_files (name TEXT NOT NULL PRIMARY KEY, mode INTEGER NOT NULL, bytes \
         BLOB NOT NULL) STRICT",
    ] {
        sqlx::query(table).execute(&mut *tx).await?;
    }
    let (epoch, time) = (info.epoch.to_string(), info.time.to_string());
    for (key, value) in [
        ("version", &info.version),
        ("instance", &info.instance),
        ("epoch", &epoch),
        ("time", &time),
    ] {
        let insert = sqlx::query("INSERT INTO backup_info (key, value) VALUES ($1, $2)");
        insert.bind(key).bind(value).execute(&mut *tx).await?;
    }
    for file in files {
        sqlx::query("INSERT INTO backup_files (name, mode, bytes) VALUES ($1, $2, $3)")
            .bind(&file.name)
            .bind(i64::from(file.mode))
            .bind(file.bytes.as_slice())
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    conn.close().await?;
    Ok(info)
}

/// What a file is a backup of, and the files in it, by name; `None` for a database that is no
/// backup.
///
/// # Errors
/// When it cannot be read, or is no database at all; [`DbError::Corrupt`] when it is damaged.
pub async fn read(file: &Path) -> Result<Option<(BackupInfo, Vec<BackupFile>)>, DbError> {
    let mut conn = SqliteConnectOptions::new().filename(file).read_only(true).connect().await?;
    let found = read_from(&mut conn).await;
    conn.close().await?;
    found
}

async fn read_from(
    conn: &mut SqliteConnection,
) -> Result<Option<(BackupInfo, Vec<BackupFile>)>, DbError> {
    let rows: Result<Vec<(String, String)>, sqlx::Error> =
        sqlx::query_as("SELECT key, value FROM backup_info").fetch_all(&mut *conn).await;
    let rows = match rows {
        Err(error) if is_absent(&error) => return Ok(None),
        rows => rows?,
    };
    let value = |key: &str| {
        let found = rows.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        found.ok_or_else(|| DbError::corrupt(format!("backup_info has no `{key}`")))
    };
    let info = BackupInfo {
        version: value("version")?,
        instance: value("instance")?,
        epoch: convert::text("backup_info.epoch", &value("epoch")?)?,
        time: convert::text("backup_info.time", &value("time")?)?,
    };
    // Damage says itself in a few words; sound is sound.
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *conn).await?;
    if verdict != "ok" {
        return Err(DbError::corrupt(verdict));
    }
    let rows: Vec<(String, i64, Vec<u8>)> =
        sqlx::query_as("SELECT name, mode, bytes FROM backup_files ORDER BY name")
            .fetch_all(conn)
            .await?;
    let file = |(name, mode, bytes): (String, i64, Vec<u8>)| {
        Ok(BackupFile {
            name,
            mode: convert::number("backup_files.mode", mode)?,
            bytes: Zeroizing::new(bytes),
        })
    };
    let files = rows.into_iter().map(file).collect::<Result<_, DbError>>()?;
    Ok(Some((info, files)))
}

/// Takes what is about the backup out of a database that is made of it. What is left of secrets in
/// unused pages is overwritten: a copy of a database is no copy of the keys.
pub async fn strip(copy: &Path) -> Result<(), DbError> {
    let mut conn = single_file(copy).pragma("secure_delete", "ON").connect().await?;
    let mut tx = conn.begin().await?;
    for table in ["DROP TABLE IF EXISTS backup_files", "DROP TABLE IF EXISTS backup_info"] {
        sqlx::query(table).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(conn.close().await?)
}

/// A database that nobody else has open, and that has no log beside it once it is closed.
fn single_file(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Delete)
        .synchronous(SqliteSynchronous::Full)
}

fn text(path: &Path) -> Result<&str, DbError> {
    path.to_str().ok_or_else(|| {
        DbError::Unavailable(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            format!("SQLite cannot write to {}: its name is not UTF-8", path.display()),
        )))
    })
}
