//! The object that says whose storage this is (C3), so that a staging server does not collect production's objects.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{PROBE_PREFIX, Storage, StorageError};
use crate::db::instance::Instance;

/// The marker's key.
pub(super) const KEY: &str = "snowbank-instance";

/// More replicas than ever start at the same moment.
const MOST_TRIALS: usize = 1000;

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    instance: String,
    epoch: u64,
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
    /// The marker is not readable as one.
    #[error("the storage's marker object `{KEY}` is damaged; restore it from a backup of the storage")]
    Damaged,
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

pub(super) async fn claim(storage: &Storage, instance: &Instance) -> Result<(), MarkerError> {
    match storage.get(KEY).await {
        Ok(bytes) => {
            let found: Marker = serde_json::from_slice(&bytes).map_err(|_| MarkerError::Damaged)?;
            if found.instance == instance.id && found.epoch == instance.epoch {
                return Ok(());
            }
            Err(MarkerError::Foreign {
                theirs: found.instance,
                their_epoch: found.epoch,
                ours: instance.id.clone(),
                our_epoch: instance.epoch,
            })
        }
        Err(StorageError::NotFound { .. }) => {
            // Other replicas may be trying the storage at this moment, or have marked it as theirs and ours just now.
            let found = storage.list("", None, MOST_TRIALS).await?;
            if let Some(key) = found.into_iter().find(|key| !key.starts_with(PROBE_PREFIX) && key != KEY) {
                return Err(MarkerError::Unmarked(key));
            }
            let marker = Marker { instance: instance.id.clone(), epoch: instance.epoch };
            // A struct of a string and a number always becomes JSON.
            let bytes = serde_json::to_vec(&marker).map_err(|_| MarkerError::Damaged)?;
            Ok(storage.put(KEY, Bytes::from(bytes)).await?)
        }
        Err(error) => Err(error.into()),
    }
}
