//! The object that says whose storage this is (C3). What follows from it is [`crate::chain`]'s
//! business.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{PROBE_PREFIX, Storage, StorageError};

/// The marker's key.
pub(super) const KEY: &str = "snowbank-instance";
/// No marker is longer; a read of it takes no more of what requests may hold.
const MAX_BYTES: u64 = 4096;
/// More replicas than ever start at the same moment.
const MAX_TRIALS: usize = 1000;

/// What the object says. Versions before the chain wrote and read the first two fields only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The id of the database that the storage belongs to.
    pub instance: String,
    /// That database's epoch.
    pub epoch: u64,
    /// The number of its link.
    #[serde(default)]
    pub number: u64,
    /// The link.
    #[serde(default)]
    pub link: String,
    /// Drawn by a server that asks whether another one is at work; the one that is answers with its
    /// next link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
}

/// Why a storage cannot be said to be anybody's.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// It has objects, but no marker.
    #[error(
        "the storage is not empty (it has `{0}`) and is not marked as a Snowbank's. Give it an \
         empty folder or prefix of its own"
    )]
    Unmarked(String),
    /// It has no marker.
    #[error(
        "the storage has no marker object `{KEY}`, so it is not the one of this database, or a \
         part of it was deleted. Check `[storage]`; a server that starts marks an empty storage as \
         its own"
    )]
    Missing,
    /// The marker is not readable as one.
    #[error(
        "the storage's marker object `{KEY}` is damaged; restore it from a backup of the storage"
    )]
    Damaged,
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The storage's marker, if it has one.
pub(super) async fn read(storage: &Storage) -> Result<Option<Marker>, MarkerError> {
    match storage.get_up_to(KEY, 0, MAX_BYTES).await {
        Err(StorageError::NotFound { .. }) => Ok(None),
        result => serde_json::from_slice(&result?).map_err(|_| MarkerError::Damaged).map(Some),
    }
}

/// Replaces the marker; gives how many attempts that took.
pub(super) async fn write(storage: &Storage, marker: &Marker) -> Result<u32, MarkerError> {
    // A struct of strings and numbers always becomes JSON.
    let bytes = Bytes::from(serde_json::to_vec(marker).map_err(|_| MarkerError::Damaged)?);
    let mut attempts = 0;
    let attempt = || {
        attempts += 1;
        (KEY.to_owned(), bytes.clone())
    };
    storage.put_new(attempt).await?;
    Ok(attempts)
}

/// Finds that there is nothing in the storage but a marker, perhaps, and what starting servers try
/// it with.
pub(super) async fn find_empty(storage: &Storage) -> Result<(), MarkerError> {
    let found = storage.list("", None, MAX_TRIALS).await?;
    match found.into_iter().find(|key| !key.starts_with(PROBE_PREFIX) && key != KEY) {
        Some(key) => Err(MarkerError::Unmarked(key)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sentences_with_single_spaces() {
        for error in
            [MarkerError::Missing, MarkerError::Damaged, MarkerError::Unmarked("x".to_owned())]
        {
            assert!(!error.to_string().contains("  "), "{error}");
        }
    }

    #[test]
    fn markers_of_versions_before_the_chain_are_understood() {
        let old: Marker = serde_json::from_str(r#"{"instance":"a","epoch":2}"#).unwrap();
        assert_eq!(old, Marker { instance: "a".to_owned(), epoch: 2, ..Marker::default() });
        let text =
            serde_json::to_string(&Marker { number: 3, link: "x".to_owned(), ..old }).unwrap();
        assert_eq!(text, r#"{"instance":"a","epoch":2,"number":3,"link":"x"}"#);
    }
}
