//! Restoring a backup: a database that knows less than its storage does, made safe to work with.
//!
//! What was written since the backup is in the storage, and the restored database does not know of
//! it. So:
//! - its epoch is raised above that of every database that this storage has belonged to, and
//!   another chain begins, which the storage's marker gets (C3): every other copy of the database
//!   has to stop. Where the storage cannot be reached now, a setting says that this is still to be
//!   done, and the next start does it before it touches anything else;
//! - ids that packs may hold already (chunks', domains') are passed over (C2);
//! - collection stays off until `repair` has found what was written since.
//!
//! The database is made ready beside its place, and then renamed: a restore that is cut off is
//! begun again. What was there is moved aside and never removed, its write-ahead log included: a
//! log of another database would be played into this one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use snowbank_cli::date::utc;
use thiserror::Error;

use super::Actor;
use super::backup::SecretFile;
use crate::chain::{ChainError, draw_link, foreign, marker_of};
use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::db::backup::{BackupFile, BackupInfo};
use crate::db::counters::{self, Counter};
use crate::db::instance::{self, Instance};
use crate::db::{self, Db, DbError, Exec, Tx, chain, settings};
use crate::secrets::{SecretError, restore_secret_file};
use crate::storage::{MarkerError, Storage};

/// The setting of a database whose epoch the storage's marker does not have yet.
const UNMARKED_SETTING: &str = "epoch-unmarked";
/// Its value where a storage of a later epoch is taken over as well.
const FORCED_VALUE: &str = "forced";
/// Ids that a lost database may have given out, for each epoch that it may have had.
const CHUNKS_PER_EPOCH: i64 = 1 << 32;
const DOMAINS_PER_EPOCH: i64 = 1 << 20;
/// What SQLite keeps beside a database.
const SQLITE_SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Why nothing was restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// It is a database or another file, and no backup.
    #[error("{} is not a backup that `snowbankd backup` made", .0.display())]
    NoBackup(PathBuf),
    /// The backup cannot be read, or does not become a database.
    #[error("cannot use the backup {}: {source}", path.display())]
    Unusable {
        /// The backup.
        path: PathBuf,
        /// Why.
        source: DbError,
    },
    /// There is a database.
    #[error("there is a database already: {}. With --force it is moved aside, and the backup takes \
        its place", .0.display())]
    Exists(PathBuf),
    /// There is another file in the place of one of the backup's.
    #[error("{} is there and differs from the one in the backup. With --force it is moved \
        aside", .0.display())]
    Differs(PathBuf),
    /// The storage belongs to a database that was restored after this backup was made.
    #[error(
        "the storage is at epoch {storage}, and this database at {backup}: another backup was \
         restored since this one was made. Use the database of that one, or `snowbankd restore \
         --force` (with --in-place, if this database is in its place)"
    )]
    Older {
        /// The storage's epoch.
        storage: u64,
        /// The backup's.
        backup: u64,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] MarkerError),
    /// The storage is another instance's.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Rows were moved out of the database, and another one has them.
    #[error(
        "the database was moved to {0}, which counts. With --force this one counts again, without \
         what was pushed since"
    )]
    Moved(String),
    /// A secret file cannot be written.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// A backup that was opened.
#[derive(Debug)]
pub struct OpenBackup {
    path: PathBuf,
    /// What it is one of.
    pub info: BackupInfo,
    files: Vec<BackupFile>,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct Restored {
    /// Files that were put back.
    pub written: Vec<PathBuf>,
    /// What was there, and where it is now.
    pub moved: Vec<(PathBuf, PathBuf)>,
    /// Names of files in the backup for which the settings have no place.
    pub left: Vec<String>,
}

/// Opens a backup and looks whether it is sound.
///
/// # Errors
/// [`RestoreError::NoBackup`], or [`RestoreError::Unusable`] for one that is damaged.
pub async fn open_backup(path: &Path) -> Result<OpenBackup, RestoreError> {
    match db::backup::read(path).await {
        Ok(Some((info, files))) => Ok(OpenBackup { path: path.to_owned(), info, files }),
        Ok(None) => Err(RestoreError::NoBackup(path.to_owned())),
        Err(source) => Err(RestoreError::Unusable { path: path.to_owned(), source }),
    }
}

/// Finds that a storage may become that of a database of this identity and epoch, once that is
/// raised.
///
/// # Errors
/// [`ChainError::Foreign`] when it is another's; [`RestoreError::Older`] when it has a later epoch,
/// unless `force`.
pub async fn check_storage(
    storage: &Storage,
    id: &str,
    epoch: u64,
    force: bool,
) -> Result<(), RestoreError> {
    match storage.marker().await? {
        Some(marker) if marker.instance != id => {
            Err(foreign(&marker, &Instance { id: id.to_owned(), epoch, created: 0 }).into())
        }
        Some(marker) if marker.epoch > epoch && !force => {
            Err(RestoreError::Older { storage: marker.epoch, backup: epoch })
        }
        _ => Ok(()),
    }
}

/// Puts a backup in the place `database`, and its files where `places` say. No server may use the
/// database meanwhile. [`settle_epoch`] is what is left to do then.
///
/// # Errors
/// [`RestoreError::Exists`] or [`RestoreError::Differs`] unless `force`; nothing was changed then.
pub async fn restore(
    backup: &OpenBackup,
    database: &Path,
    places: &[SecretFile],
    force: bool,
    now: i64,
) -> Result<Restored, RestoreError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::File { path, source }
    };
    if database.symlink_metadata().is_ok() && !force {
        return Err(RestoreError::Exists(database.to_owned()));
    }
    let mut done = Restored::default();
    let mut files: Vec<(&BackupFile, &Path)> = Vec::new();
    for file in &backup.files {
        match places.iter().find(|place| place.name == file.name) {
            None => done.left.push(file.name.clone()),
            // A comparison with what cannot be read ends here, before anything is changed.
            Some(place) => match fs::read(&place.path) {
                Ok(there) if there == *file.bytes => {}
                Ok(_) if !force => return Err(RestoreError::Differs(place.path.clone())),
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&place.path)(error));
                }
                Ok(_) | Err(_) => files.push((file, &place.path)),
            },
        }
    }
    let folder = database.parent().unwrap_or(Path::new("/"));
    let ready = make_ready(backup, folder, force, now).await?;

    for (file, path) in files {
        move_aside(path, now, &mut done).map_err(failed(path))?;
        restore_secret_file(path, &file.bytes, file.mode)?;
        done.written.push(path.to_owned());
    }
    move_aside(database, now, &mut done).map_err(failed(database))?;
    for suffix in SQLITE_SUFFIXES {
        let beside = with_suffix(database, suffix);
        let aside = with_suffix(&replaced(database, now), suffix);
        move_to(&beside, &aside, &mut done).map_err(failed(&beside))?;
    }
    ready.persist(database).map_err(|error| failed(database)(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
    Ok(done)
}

/// The database that a backup becomes, in a file of `folder`: of this version's schema, marked as
/// restored, closed and synced.
async fn make_ready(
    backup: &OpenBackup,
    folder: &Path,
    force: bool,
    now: i64,
) -> Result<tempfile::TempPath, RestoreError> {
    let failed = |source| RestoreError::File { path: folder.to_owned(), source };
    let mut file = tempfile::Builder::new()
        .prefix(".snowbank-restore-")
        .tempfile_in(folder)
        .map_err(failed)?;
    let source = File::open(&backup.path).and_then(|mut source| io::copy(&mut source, &mut file));
    source.map_err(|source| RestoreError::File { path: backup.path.clone(), source })?;
    let path = file.into_temp_path();
    let unusable = |source| RestoreError::Unusable { path: backup.path.clone(), source };
    db::backup::strip(&path).await.map_err(unusable)?;
    let made = async {
        let db = Db::open(&DatabaseConfig::new(DatabaseUrl::Sqlite(path.to_path_buf()))).await?;
        let marked = async {
            let mut tx = db.exclusive_tx().await?;
            mark_restored(&mut tx, Some(backup.info.time), force, now).await?;
            tx.commit().await
        };
        let marked = marked.await;
        db.close().await;
        marked
    };
    let made = made.await.map_err(unusable);
    // Gone with the last connection, unless something failed.
    for suffix in SQLITE_SUFFIXES {
        let _ = fs::remove_file(with_suffix(&path, suffix));
    }
    made?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
    Ok(path)
}

/// Marks a database that was put in place by other means, such as `pg_restore`, as restored; or one
/// that is to count, of several copies. [`settle_epoch`] is what is left to do then.
///
/// # Errors
/// [`RestoreError::Moved`] unless `force`.
pub async fn restore_in_place(db: &Db, force: bool, now: i64) -> Result<(), RestoreError> {
    let mut tx = db.exclusive_tx().await?;
    if let Some(to) = chain::moved_to(tx.exec()).await? {
        if !force {
            return Err(RestoreError::Moved(to));
        }
        chain::set_moved_to(tx.exec(), None).await?;
    }
    mark_restored(&mut tx, None, force, now).await?;
    Ok(tx.commit().await?)
}

/// Gives the storage's marker the epoch of a database that was restored, and gives the database's
/// identity. To be called at each start, before the storage is claimed; for any other database
/// nothing is to be done.
///
/// The marker is written within the transaction that takes the mark away. After a crash in between,
/// the marker's epoch is this database's or one that no database has, and the next attempt goes
/// above it.
///
/// # Errors
/// As [`check_storage`].
pub async fn settle_epoch(db: &Db, storage: &Storage, now: i64) -> Result<Instance, RestoreError> {
    let mut conn = db.reader().await?;
    if settings::lookup(conn.exec(), UNMARKED_SETTING).await?.is_none() {
        return Ok(identity(conn.exec()).await?);
    }
    drop(conn);
    let mut tx = db.exclusive_tx().await?;
    tx.allow_idle().await?;
    let found = identity(tx.exec()).await?;
    // Another server may have been quicker.
    let Some(how) = settings::lookup(tx.exec(), UNMARKED_SETTING).await? else { return Ok(found) };
    check_storage(storage, &found.id, found.epoch, how == FORCED_VALUE).await?;
    let marker = storage.marker().await?;
    let highest = marker.as_ref().map_or(0, |marker| marker.epoch);
    let steps = (highest + 1).saturating_sub(found.epoch);
    let instance = if steps == 0 { found } else { raise(tx.exec(), found, steps).await? };
    let link = draw_link(0)?;
    chain::begin(tx.exec(), &link, now).await?;
    // One that is not marked at all is marked by a server that starts, if it is empty.
    if marker.is_some() {
        storage.mark(&marker_of(&instance, &link)).await?;
    }
    crate::fault::pause("restore-after-marker").await;
    settings::remove(tx.exec(), UNMARKED_SETTING).await?;
    tx.commit().await?;
    Ok(instance)
}

async fn mark_restored(tx: &mut Tx, of: Option<i64>, force: bool, now: i64) -> Result<(), DbError> {
    let found = identity(tx.exec()).await?;
    let instance = raise(tx.exec(), found, 1).await?;
    settings::set(tx.exec(), UNMARKED_SETTING, if force { FORCED_VALUE } else { "1" }).await?;
    let of = of.map_or_else(String::new, |time| format!(" of {}", utc(time)));
    let why = format!(
        "collection is off, since a backup{of} was restored on {}: what was written after the \
         backup is not known yet. Run `snowbankd repair`, which finds it and switches collection \
         on again",
        utc(now)
    );
    settings::set(tx.exec(), settings::COLLECTION_OFF, &why).await?;
    let detail = format!("a backup{of}; epoch {}", instance.epoch);
    Actor::host().record(tx, "database.restore", "", detail, now).await
}

async fn identity(exec: Exec<'_>) -> Result<Instance, DbError> {
    instance::lookup(exec).await?.ok_or_else(|| DbError::corrupt("it has no instance row"))
}

/// Goes up by `steps` epochs, past all ids that databases of the epochs in between may have given
/// out to what is in packs.
async fn raise(mut exec: Exec<'_>, found: Instance, steps: u64) -> Result<Instance, DbError> {
    let instance = Instance { epoch: found.epoch + steps, ..found };
    instance::set_epoch(exec.again(), instance.epoch).await?;
    for (counter, per_epoch) in
        [(Counter::Chunk, CHUNKS_PER_EPOCH), (Counter::Domain, DOMAINS_PER_EPOCH)]
    {
        let count = i64::try_from(steps).unwrap_or(i64::MAX).saturating_mul(per_epoch);
        counters::skip(exec.again(), counter, count).await?;
    }
    Ok(instance)
}

fn replaced(path: &Path, now: i64) -> PathBuf {
    with_suffix(path, &format!(".replaced-{now}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn move_aside(path: &Path, now: i64, done: &mut Restored) -> io::Result<()> {
    move_to(path, &replaced(path, now), done)
}

fn move_to(from: &Path, to: &Path, done: &mut Restored) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            done.moved.push((from.to_owned(), to.to_owned()));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
