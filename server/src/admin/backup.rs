//! Backups: a SQLite database as it is at one moment, with or without the secret files that belong
//! to it.
//!
//! A backup is written beside its place, synced and renamed: it is there whole or not at all. It is
//! no copy of the packs, which never change and can be copied at any time; what the two disagree
//! about, `repair` settles.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use super::Actor;
use crate::config::{Config, StorageConfig};
use crate::db::backup::{BackupFile, BackupInfo};
use crate::db::{self, Db, DbError};

/// Names in a backup of files that are looked for in the data folder.
const SERVER_KEY: &str = "server-key";
const ROOT_TOKEN: &str = "root-token";

/// Why there is no backup.
#[derive(Debug, Error)]
pub enum BackupError {
    /// Something is there.
    #[error("{} is there already; choose another name, or add --force to replace it", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// Read, or write.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// A file without which a database is of little use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// What it is called in a backup.
    pub name: String,
    /// Where it lies, or is to lie, on this host.
    pub path: PathBuf,
    /// What it is for.
    pub purpose: &'static str,
}

/// The secret files that belong to a server with these settings, whether they are there or not.
#[must_use]
pub fn secret_files(config: &Config) -> Vec<SecretFile> {
    let file =
        |name: &str, path: PathBuf, purpose| SecretFile { name: name.to_owned(), path, purpose };
    let mut files = vec![
        file(SERVER_KEY, server_key_file(config), "opens the secrets in the database"),
        file(
            ROOT_TOKEN,
            config.data_dir.join(ROOT_TOKEN),
            "allows everything; others can be made with `snowbankd token`",
        ),
    ];
    for key in &config.auth.token_keys {
        files.push(file(&format!("token-key {}", key.kid), key.file.clone(), "verifies tokens"));
    }
    if let StorageConfig::S3(s3) = &config.storage
        && let Some(path) = &s3.credentials.file
    {
        files.push(file("s3-credentials", path.clone(), "opens the bucket"));
    }
    files
}

/// Where the key is that opens the secrets in the database.
#[must_use]
pub fn server_key_file(config: &Config) -> PathBuf {
    config.server_key_file.clone().unwrap_or_else(|| config.data_dir.join(SERVER_KEY))
}

/// A backup that was made.
#[derive(Debug)]
pub struct Backup {
    /// What it is one of.
    pub info: BackupInfo,
    /// Bytes of its file.
    pub bytes: u64,
    /// The secret files in it.
    pub files: Vec<SecretFile>,
}

/// Writes the database in the file `database`, which `db` has open, and those of `files` that are
/// there to `target`. Other programs may use the database meanwhile.
///
/// # Errors
/// [`BackupError::Exists`] unless `replace`. Nothing is at `target` then that was not there before.
pub async fn back_up(
    db: &Db,
    database: &Path,
    files: Vec<SecretFile>,
    target: &Path,
    replace: bool,
    now: i64,
) -> Result<Backup, BackupError> {
    let failed = |source| BackupError::File { what: "write", path: target.to_owned(), source };
    if !replace && target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let folder =
        target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (files, contents) = read_files(files)?;
    let temporary =
        tempfile::Builder::new().prefix(".snowbank-backup-").tempfile_in(folder).map_err(failed)?;
    db::backup::copy(database, temporary.path()).await?;
    let info =
        db::backup::describe(temporary.path(), env!("CARGO_PKG_VERSION"), now, &contents).await?;
    temporary.as_file().sync_all().map_err(failed)?;
    let bytes = temporary.as_file().metadata().map_err(failed)?.len();
    if replace {
        temporary.persist(target).map_err(|error| failed(error.error))?;
    } else {
        temporary.persist_noclobber(target).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(target.to_owned()),
            _ => failed(error.error),
        })?;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    let detail = if files.is_empty() { String::new() } else { "with secrets".to_owned() };
    let mut tx = db.upkeep_tx().await?;
    Actor::host().record(&mut tx, "database.backup", "", detail, now).await?;
    tx.commit().await?;
    Ok(Backup { info, bytes, files })
}

/// Those of `files` that are there, and what is in them.
fn read_files(files: Vec<SecretFile>) -> Result<(Vec<SecretFile>, Vec<BackupFile>), BackupError> {
    let (mut there, mut contents) = (Vec::new(), Vec::new());
    for file in files {
        let failed = |source| BackupError::File { what: "read", path: file.path.clone(), source };
        let bytes = match fs::read(&file.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => Zeroizing::new(bytes.map_err(failed)?),
        };
        let mode = fs::metadata(&file.path).map_err(failed)?.permissions().mode() & 0o7777;
        contents.push(BackupFile { name: file.name.clone(), mode, bytes });
        there.push(file);
    }
    Ok((there, contents))
}
