//! `check`: each invariant of the design as a query or a read, and the oracle after every crash.
//!
//! It reads in pages, so memory does not grow with the cache, and it changes nothing: it may run beside a live server.
//! Objects that no row names are not a fault (a crash between W1 and W2 leaves them); they are counted.

mod data;
mod rows;

use std::fmt;

use thiserror::Error;

use crate::db::{Db, DbError};
use crate::serving::{NarBody, ServeError};
use crate::storage::{Storage, StorageError};

/// Rows that are read by one query.
const PAGE: u32 = 512;

/// Something that contradicts an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which invariant, as `docs/design.md` numbers them.
    pub invariant: &'static str,
    /// What it was found at.
    pub subject: String,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.invariant, self.subject, self.detail)
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckStats {
    /// Pack rows.
    pub packs: u64,
    /// Chunk rows.
    pub chunks: u64,
    /// NAR rows.
    pub nars: u64,
    /// Path rows.
    pub paths: u64,
    /// Pack objects that no row names.
    pub unnamed_objects: u64,
    /// Stored bytes that were read and verified.
    pub read_bytes: u64,
}

/// Why a check could not be finished.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Serving failed in a way that is no finding.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// What a check reads from.
#[derive(Debug)]
pub struct Checker<'a> {
    /// Metadata.
    pub db: &'a Db,
    /// Objects.
    pub storage: &'a Storage,
    /// NARs as they are served.
    pub nars: &'a NarBody,
    /// Whether to read every pack and decode every NAR, not only compare rows.
    pub read_data: bool,
}

impl Checker<'_> {
    /// Looks at everything; `found` gets each finding as it is made.
    ///
    /// # Errors
    /// When database or storage cannot be read at all.
    pub async fn run(&self, found: &mut (dyn FnMut(Finding) + Send)) -> Result<CheckStats, CheckError> {
        let mut stats = CheckStats::default();
        rows::packs(self, &mut stats, found).await?;
        rows::chunks(self, &mut stats, found).await?;
        rows::nars(self, &mut stats, found).await?;
        rows::paths(self, &mut stats, found).await?;
        rows::unnamed_objects(self, &mut stats).await?;
        if self.read_data {
            data::packs(self, &mut stats, found).await?;
            data::nars(self, &mut stats, found).await?;
        }
        Ok(stats)
    }
}
