//! The object that says whose storage this is (C3), so that a staging server does not collect production's objects.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{PROBE_PREFIX, Storage, StorageError};
use crate::db::instance::Instance;

/// The marker's key.
pub(super) const KEY: &str = "snowbank-instance";

/// How long another replica's marker may be seen in part, on a storage whose objects grow while they are written.
const WRITING: Duration = Duration::from_secs(3);

/// More replicas than ever start at the same moment.
const MOST_TRIALS: usize = 1000;

/// What the object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The id of the database that the storage belongs to.
    pub instance: String,
    /// That database's epoch.
    pub epoch: u64,
}

/// Why a storage is not this server's.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// It belongs to another database, or to this one before or after a backup was restored.
    #[error(
        "the storage belongs to Snowbank instance {theirs} (epoch {their_epoch}), the database to {ours} (epoch \
         {our_epoch}). Use the database and the storage that belong together; for a new Snowbank give both an empty place"
    )]
    Foreign {
        /// The storage's instance.
        theirs: String,
        /// The storage's epoch.
        their_epoch: u64,
        /// The database's instance.
        ours: String,
        /// The database's epoch.
        our_epoch: u64,
    },
    /// It has objects, but no marker.
    #[error(
        "the storage is not empty (it has `{0}`) and is not marked as a Snowbank's. Give it an empty folder or prefix of its own"
    )]
    Unmarked(String),
    /// It has no marker.
    #[error(
        "the storage has no marker object `{KEY}`, so it is not the one of this database, or a part of it was deleted. Check          `[storage]`; a server that starts marks an empty storage as its own"
    )]
    Missing,
    /// The marker is not readable as one.
    #[error("the storage's marker object `{KEY}` is damaged; restore it from a backup of the storage")]
    Damaged,
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Marks an empty storage as `instance`'s, or finds that it is.
pub(super) async fn claim(storage: &Storage, instance: &Instance) -> Result<(), MarkerError> {
    let until = Instant::now() + WRITING;
    loop {
        match verify(storage, instance).await {
            Err(MarkerError::Missing) => break,
            Err(MarkerError::Damaged) if Instant::now() < until => tokio::time::sleep(WRITING / 20).await,
            result => return result,
        }
    }
    // Other replicas may be trying the storage at this moment, or have marked it as theirs and ours just now.
    let found = storage.list("", None, MOST_TRIALS).await?;
    if let Some(key) = found.into_iter().find(|key| !key.starts_with(PROBE_PREFIX) && key != KEY) {
        return Err(MarkerError::Unmarked(key));
    }
    match put(storage, instance).await {
        // Another replica has marked it as theirs and ours in the same moment; a service may take one write per second to a key.
        Err(_) if verify(storage, instance).await.is_ok() => Ok(()),
        result => result,
    }
}

async fn put(storage: &Storage, instance: &Instance) -> Result<(), MarkerError> {
    let marker = Marker { instance: instance.id.clone(), epoch: instance.epoch };
    // A struct of a string and a number always becomes JSON.
    let bytes = serde_json::to_vec(&marker).map_err(|_| MarkerError::Damaged)?;
    Ok(storage.put(KEY, Bytes::from(bytes)).await?)
}

/// The storage's marker, if it has one.
pub(super) async fn read(storage: &Storage) -> Result<Option<Marker>, MarkerError> {
    match storage.get(KEY).await {
        Err(StorageError::NotFound { .. }) => Ok(None),
        result => serde_json::from_slice(&result?).map_err(|_| MarkerError::Damaged).map(Some),
    }
}

/// Raises the marker's epoch to `instance`'s.
pub(super) async fn raise(storage: &Storage, instance: &Instance) -> Result<(), MarkerError> {
    match read(storage).await? {
        None => Ok(()),
        Some(found) if found.instance == instance.id && found.epoch <= instance.epoch => put(storage, instance).await,
        Some(found) => Err(foreign(found, instance)),
    }
}

/// Finds that the storage is `instance`'s.
pub(super) async fn verify(storage: &Storage, instance: &Instance) -> Result<(), MarkerError> {
    let found = read(storage).await?.ok_or(MarkerError::Missing)?;
    if found.instance == instance.id && found.epoch == instance.epoch {
        return Ok(());
    }
    Err(foreign(found, instance))
}

fn foreign(found: Marker, instance: &Instance) -> MarkerError {
    MarkerError::Foreign {
        theirs: found.instance,
        their_epoch: found.epoch,
        ours: instance.id.clone(),
        our_epoch: instance.epoch,
    }
}
