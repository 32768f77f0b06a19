//! Objects by key, durable when a call returns. Knows nothing of Nix, chunks or packs.
//!
//! Invariant: an object is there whole or not at all, and never changes. A key is a relative path
//! of plain names with slashes between them. A folder of this machine, or a bucket of a service;
//! whatever calls does not see which it is.

mod disk_cache;
mod error;
mod free_space;
mod local;
mod marker;
mod s3;

pub use disk_cache::DiskCache;
pub use error::{FailureKind, ServiceFailure, StorageError, StorageFailure};
pub use free_space::{FreeSpace, NoRoom};
pub use marker::{Marker, MarkerError};

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::config::StorageConfig;

/// No object that is read whole is longer: packs are at most 16 MiB.
const MAX_WHOLE_BYTES: u64 = 17 * 1024 * 1024;
/// What the keys of a starting server's trial objects begin with.
const PROBE_PREFIX: &str = "snowbank-probe-";

/// Keys that are never used again begin like this: what is kept of them stays true.
const CACHED: &str = "packs/";
/// Pauses before a bucket that contradicts what was written is asked again: some services need a
/// moment until every request sees all of an object.
const SETTLING: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1)];

/// An object, as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its length.
    pub len: u64,
}

/// An object storage.
#[derive(Debug)]
pub struct Storage(Backend);

#[derive(Debug)]
enum Backend {
    Local(local::Local),
    S3 { s3: Box<s3::S3>, cache: Option<DiskCache> },
}

impl Storage {
    /// Opens the configured storage, making it where it is not there. Nothing in it is touched
    /// before it is known whose it is ([`crate::chain`]).
    ///
    /// # Errors
    /// When it cannot be reached or written to.
    pub async fn open(config: &StorageConfig) -> Result<Self, StorageError> {
        match config {
            StorageConfig::Local { path } => {
                Ok(Self(Backend::Local(local::Local::open(path).await?)))
            }
            StorageConfig::S3(config) => {
                let s3 = Box::new(s3::S3::open(config).await?);
                let cache = Some(DiskCache::open(&config.cache).await?);
                Ok(Self(Backend::S3 { s3, cache }))
            }
        }
    }

    /// Opens a storage that is there, for reading beside the server that has it open; nothing in it
    /// is touched.
    ///
    /// # Errors
    /// When there is none, or it cannot be reached.
    pub async fn attach(config: &StorageConfig) -> Result<Self, StorageError> {
        match config {
            StorageConfig::Local { path } => {
                Ok(Self(Backend::Local(local::Local::attach(path).await?)))
            }
            StorageConfig::S3(config) => {
                Ok(Self(Backend::S3 { s3: Box::new(s3::S3::attach(config).await?), cache: None }))
            }
        }
    }

    /// Removes what a killed server left half written, if it is at least as old as `age`: where
    /// others may be writing, what is younger may be theirs.
    pub async fn remove_unfinished(&self, age: Duration) -> Result<(), StorageError> {
        match &self.0 {
            Backend::Local(local) => local.remove_unfinished(age).await,
            // An object is there once its PUT is acknowledged, and nothing of it before.
            Backend::S3 { .. } => Ok(()),
        }
    }

    /// What this storage is marked with: whose it is; `None` where nothing is marked.
    ///
    /// # Errors
    /// [`MarkerError::Damaged`], or what the storage said.
    pub async fn marker(&self) -> Result<Option<Marker>, MarkerError> {
        marker::read(self).await
    }

    /// Marks this storage; gives how many attempts that took. Whether it is the caller's to mark
    /// was found before.
    pub async fn mark(&self, marker: &Marker) -> Result<u32, MarkerError> {
        marker::write(self, marker).await
    }

    /// Finds that nothing is stored here yet.
    ///
    /// # Errors
    /// [`MarkerError::Unmarked`] when something is.
    pub async fn find_empty(&self) -> Result<(), MarkerError> {
        marker::find_empty(self).await
    }

    /// Whether reads go over the network and are paid for, each one.
    #[must_use]
    pub const fn is_bucket(&self) -> bool {
        matches!(self.0, Backend::S3 { .. })
    }

    /// Stores an object; durable when this returns, and not there at all when it fails.
    ///
    /// # Errors
    /// [`StorageError::Full`] when there is no room, [`StorageError::Unavailable`] when the storage
    /// cannot be used.
    #[tracing::instrument(level = "debug", skip_all, fields(key))]
    pub async fn put(&self, key: &str, object: Bytes) -> Result<(), StorageError> {
        match &self.0 {
            Backend::Local(local) => local.put(key, object).await,
            Backend::S3 { s3, .. } => s3.put(key, object).await,
        }
    }

    /// Stores an object under a key of its own. `next` gives key and object for each attempt; the
    /// last ones that it gave are those that are durable when this returns. What other attempts
    /// left is nobody's.
    ///
    /// # Errors
    /// As [`Storage::put`].
    pub async fn put_new(
        &self,
        mut next: impl FnMut() -> (String, Bytes),
    ) -> Result<(), StorageError> {
        match &self.0 {
            Backend::Local(local) => {
                let (key, object) = next();
                local.put(&key, object).await
            }
            Backend::S3 { s3, .. } => s3.put_new(next).await,
        }
    }

    /// Reads `len` bytes from `offset` on, exactly.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], or [`StorageError::Short`] when the object ends before.
    pub async fn get_range(
        &self,
        key: &str,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, StorageError> {
        let (s3, cache) = match &self.0 {
            Backend::Local(local) => return local.get_range(key, offset, len).await,
            Backend::S3 { s3, cache } => (s3, cache.as_ref().filter(|_| key.starts_with(CACHED))),
        };
        let mut pauses = SETTLING.iter();
        loop {
            let result = match cache {
                Some(cache) => {
                    cache
                        .get_range(|offset, len| s3.get_up_to(key, offset, len), key, offset, len)
                        .await
                }
                None => s3.get_range(key, offset, len).await,
            };
            match (&result, pauses.next()) {
                (Err(StorageError::Short { .. }), Some(pause)) => tokio::time::sleep(*pause).await,
                _ => return result,
            }
        }
    }

    /// Keeps an object that was just stored, so that reading it asks the bucket for nothing.
    /// Nothing depends on it.
    #[tracing::instrument(level = "debug", skip_all, fields(key))]
    pub async fn keep(&self, key: &str, object: Bytes) {
        if let Backend::S3 { cache: Some(cache), .. } = &self.0
            && key.starts_with(CACHED)
        {
            cache.put(key, object).await;
        }
    }

    /// Makes the next reads of `ranges` of an object cheap where each read is a request over the
    /// network: what lies near each other is fetched together. Takes memory for the longest of
    /// them. Where this fails, those reads ask for themselves.
    pub async fn fetch_ahead(&self, key: &str, ranges: &[Range<u64>]) {
        let Backend::S3 { s3, cache: Some(cache) } = &self.0 else { return };
        for range in ranges {
            if let Err(error) = cache
                .fetch_ahead(|offset, len| s3.get_up_to(key, offset, len), key, range.clone())
                .await
            {
                tracing::debug!(%error, "a pack could not be fetched ahead");
                return;
            }
        }
    }

    /// Drops what the read cache on disk has of the first `len` bytes of an object.
    #[tracing::instrument(level = "debug", skip_all, fields(key))]
    pub async fn forget(&self, key: &str, len: u64) {
        if let Backend::S3 { cache: Some(cache), .. } = &self.0 {
            cache.forget(key, len).await;
        }
    }

    /// Up to `len` bytes from `offset` on; fewer where the object ends. Always from the storage
    /// itself, never from the read cache on disk.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], or what the storage said.
    pub async fn get_up_to(
        &self,
        key: &str,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, StorageError> {
        match &self.0 {
            Backend::Local(local) => local.get_up_to(key, offset, len).await,
            Backend::S3 { s3, .. } => s3.get_up_to(key, offset, len).await,
        }
    }

    /// How many bytes a ranged read may usefully have: where a request takes long, few large ones
    /// are better than many.
    #[must_use]
    pub fn read_window(&self) -> u64 {
        match &self.0 {
            Backend::Local(_) => 512 * 1024,
            // A pack of a default bundle, with its heads.
            Backend::S3 { .. } => 8 * 1024 * 1024 + 512 * 1024,
        }
    }

    /// Reads a whole object. The caller knows that it is small: packs are at most 16 MiB.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is none.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>, StorageError> {
        match &self.0 {
            Backend::Local(local) => local.get(key).await,
            Backend::S3 { s3, .. } => s3.get(key).await,
        }
    }

    /// An object's length, or `None` when there is no such object.
    pub async fn len(&self, key: &str) -> Result<Option<u64>, StorageError> {
        match &self.0 {
            Backend::Local(local) => local.len(key).await,
            Backend::S3 { s3, .. } => s3.len(key).await,
        }
    }

    /// Removes an object, durably; one that is not there is removed already.
    #[tracing::instrument(level = "debug", skip_all, fields(key))]
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        match &self.0 {
            Backend::Local(local) => local.delete(key).await,
            Backend::S3 { s3, .. } => s3.delete(key).await,
        }
    }

    /// Removes many objects, with few requests where the service takes many keys in one; gives the
    /// keys of those that could not be removed now, each with why.
    pub async fn delete_many(&self, keys: &[String]) -> Vec<(String, StorageError)> {
        let rest = match &self.0 {
            Backend::Local(_) => keys.to_vec(),
            Backend::S3 { s3, .. } => s3.delete_many(keys).await,
        };
        let mut failed = Vec::new();
        for key in rest {
            if let Err(error) = self.delete(&key).await {
                failed.push((key, error));
            }
        }
        failed
    }

    /// Up to `limit` keys that begin with `prefix` and come after `after` in bytewise order, in
    /// that order.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StorageError> {
        match &self.0 {
            Backend::Local(local) => local.list(prefix, after, limit).await,
            Backend::S3 { s3, .. } => s3.list(prefix, after, limit).await,
        }
    }

    /// As [`Storage::list`], with the objects' lengths.
    pub async fn list_objects(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ListedObject>, StorageError> {
        match &self.0 {
            Backend::Local(local) => local.list_objects(prefix, after, limit).await,
            Backend::S3 { s3, .. } => s3.list_objects(prefix, after, limit).await,
        }
    }

    /// Whether a bucket could not be read lately.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        match &self.0 {
            Backend::Local(_) => false,
            Backend::S3 { s3, .. } => s3.is_failing(),
        }
    }

    /// For how long a bucket that does not answer is waited for from now on; a folder is not.
    #[must_use]
    pub fn patience_left(&self) -> Duration {
        match &self.0 {
            Backend::Local(_) => Duration::ZERO,
            Backend::S3 { s3, .. } => s3.patience_left(),
        }
    }
}
