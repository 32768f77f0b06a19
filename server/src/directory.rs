//! Caches by name, with their signing keys opened: what every request needs first.
//!
//! An entry is believed for [`STALENESS`] (R2: what is reconfigured or deleted is gone within 5 s
//! on every replica). A name that is not there is asked for each time, so a cache that was just
//! created is there at once.
//!
//! Whoever may not know of a private cache asks by [`Directory::lookup_public`], for which a
//! private cache is as absent as one that does not exist: neither has an entry, and the same
//! statement reads one row for either (S1). Those statements are gathered, so that a flood of such
//! names takes no more of the database than one that asks at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use snowbank_core::cache_name::CacheName;
use snowbank_core::receipt::Receipt;
use snowbank_core::signing::SecretKey;
use thiserror::Error;

use crate::clock::unix_now;
use crate::db::caches::Cache;
use crate::db::{self, Answers, Db, DbError, Gather};
use crate::secrets::{Sealer, SecretError};

/// How long an entry is believed. Less than the 5 s that R2 allows, to leave room for the request
/// itself.
pub const STALENESS: Duration = Duration::from_secs(3);
const MAX_ENTRIES: u64 = 4096;

/// A cache and the keys that sign for it.
#[derive(Debug)]
pub struct OpenCache {
    /// The cache's row.
    pub cache: Cache,
    /// Active signing keys, oldest first.
    pub keys: Vec<SecretKey>,
    /// The public halves of those that sign no more, `name:base64`.
    pub retired_keys: Vec<String>,
}

impl OpenCache {
    /// Signs a receipt with every active key.
    pub fn sign(&self, receipt: &mut Receipt) {
        for key in &self.keys {
            receipt.sign(key);
        }
    }
}

/// Why a cache could not be opened.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The database failed for several who asked at once.
    #[error(transparent)]
    Shared(#[from] Arc<DbError>),
    /// A signing key of the cache cannot be opened with this server's key.
    #[error("cache `{cache}`: {source}")]
    Key {
        /// The cache's name.
        cache: CacheName,
        /// Why.
        source: SecretError,
    },
}

/// How a shared look-up ends without an entry.
#[derive(Debug)]
enum LookupEnd {
    Absent,
    Failed(Arc<DirectoryError>),
}

impl From<DirectoryError> for LookupEnd {
    fn from(error: DirectoryError) -> Self {
        Self::Failed(Arc::new(error))
    }
}

/// Finds caches by name.
#[derive(Debug, Clone)]
pub struct Directory {
    db: Db,
    sealer: Sealer,
    entries: moka::future::Cache<CacheName, Arc<OpenCache>>,
    /// Public caches, for whoever may know of no other.
    public: moka::future::Cache<CacheName, Arc<OpenCache>>,
    questions: Gather<CacheName, bool>,
}

impl Directory {
    /// Nothing is read before it is asked for.
    #[must_use]
    pub fn new(db: Db, sealer: Sealer) -> Self {
        let entries = || {
            moka::future::Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(STALENESS).build()
        };
        let questions = Gather::new(db.clone(), ask_public);
        Self { db, sealer, entries: entries(), public: entries(), questions }
    }

    /// The cache of this name, if there is one.
    ///
    /// # Errors
    /// When the database fails or a key cannot be opened.
    pub async fn lookup(
        &self,
        name: &CacheName,
    ) -> Result<Option<Arc<OpenCache>>, Arc<DirectoryError>> {
        match self.entries.get(name).await {
            Some(found) => Ok(Some(found)),
            // Boxed, so that requests do not carry its state along.
            None => Box::pin(self.look_up(name)).await,
        }
    }

    /// The cache of this name, if there is one and it is public.
    ///
    /// # Errors
    /// As [`Directory::lookup`].
    pub async fn lookup_public(
        &self,
        name: &CacheName,
    ) -> Result<Option<Arc<OpenCache>>, Arc<DirectoryError>> {
        match self.public.get(name).await {
            Some(found) => Ok(Some(found)),
            None => Box::pin(self.look_up_public(name)).await,
        }
    }

    async fn look_up_public(
        &self,
        name: &CacheName,
    ) -> Result<Option<Arc<OpenCache>>, Arc<DirectoryError>> {
        let open = async {
            let is_public =
                self.questions.get(name.clone()).await.map_err(DirectoryError::Shared)?;
            is_public.filter(|is_public| *is_public).ok_or(LookupEnd::Absent)?;
            // Not the other entry of it, which may be as old as an entry may be already.
            self.open(name).await?.filter(|opened| opened.cache.public).ok_or(LookupEnd::Absent)
        };
        end(self.public.try_get_with_by_ref(name, open).await)
    }

    async fn look_up(
        &self,
        name: &CacheName,
    ) -> Result<Option<Arc<OpenCache>>, Arc<DirectoryError>> {
        // Those who ask at the same time share one look-up; what is absent or fails leaves no entry
        // behind.
        let opened = self
            .entries
            .try_get_with_by_ref(name, async { self.open(name).await?.ok_or(LookupEnd::Absent) });
        end(opened.await)
    }

    async fn open(&self, name: &CacheName) -> Result<Option<Arc<OpenCache>>, DirectoryError> {
        let mut conn = self.db.reader().await?;
        let Some(cache) = db::caches::lookup(conn.exec(), name).await? else {
            return Ok(None);
        };
        let now = unix_now();
        let (active, retired): (Vec<_>, Vec<_>) = db::keys::signing_keys(conn.exec(), cache.id)
            .await?
            .into_iter()
            .partition(|row| row.signs(now));
        let keys = active
            .iter()
            .map(|row| self.sealer.open_signing_key(&row.key))
            .collect::<Result<_, _>>()
            .map_err(|source| DirectoryError::Key { cache: name.clone(), source })?;
        let retired_keys = retired.into_iter().map(|row| row.key.public_key).collect();
        Ok(Some(Arc::new(OpenCache { cache, keys, retired_keys })))
    }
}

/// How a look-up ended.
fn end(
    opened: Result<Arc<OpenCache>, Arc<LookupEnd>>,
) -> Result<Option<Arc<OpenCache>>, Arc<DirectoryError>> {
    match opened {
        Ok(found) => Ok(Some(found)),
        Err(end) => match &*end {
            LookupEnd::Absent => Ok(None),
            LookupEnd::Failed(error) => Err(Arc::clone(error)),
        },
    }
}

fn ask_public(db: Db, names: Vec<CacheName>) -> Answers<CacheName, bool> {
    Box::pin(async move {
        let caches = db::caches::publicity(db.reader().await?.exec(), &names).await?;
        Ok(caches.into_iter().collect::<HashMap<_, _>>())
    })
}
