//! `check`: each invariant of the design as a query or a read, and the oracle after every crash.
//!
//! A check reads in pages, so that memory does not grow with the cache, and it changes nothing. It
//! may run beside a live server, where rows change and objects go meanwhile. So a contradiction to
//! an invariant is read once more before it counts. Objects that no row names are counted, and are
//! no fault: a crash between W1 and W2 leaves them.
//!
//! A check goes phase by phase, each in the order of ids, so that an interrupted check can go on
//! where it was.

mod content;
mod data;
mod lists;
mod paths;
mod report;
mod rows;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use report::{CheckStats, Finding, Observer, Place};

use super::listing::{self, ObjectsError};
use super::pace::Pace;
use super::{PathPattern, Sample};
use crate::chain::{Chain, ChainError};
use crate::db::{Db, DbError};
use crate::pack::pack_object_key;
use crate::serving::{NarBody, ServeError};
use crate::storage::{Storage, StorageError};

/// The kind of the findings within packs.
pub const PACK_DATA: &str = "pack data";
/// The kind of the findings at decoded NARs: the invariant.
pub const CONTENT: &str = "R1";
/// Rows read by one query.
const PAGE: u32 = 512;

/// The parts of a check, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Objects and packs' rows.
    Objects,
    /// Chunks' rows.
    Chunks,
    /// NARs' rows and manifests.
    Nars,
    /// Paths' rows.
    Paths,
    /// Counters, pins, and the lists of damage.
    Lists,
    /// The packs' bytes.
    Packs,
    /// Whole NARs.
    Content,
}

impl Phase {
    /// All of them.
    const ALL: [Self; 7] = [
        Self::Objects,
        Self::Chunks,
        Self::Nars,
        Self::Paths,
        Self::Lists,
        Self::Packs,
        Self::Content,
    ];

    /// The name of the phase, for progress.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Chunks => "chunks",
            Self::Nars => "NARs",
            Self::Paths => "paths",
            Self::Lists => "lists",
            Self::Packs => "packs' data",
            Self::Content => "NARs' content",
        }
    }
}

/// How much is read.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// The packs whose bytes are read and verified: table, checksums, frames and names.
    pub read_data: Option<Sample>,
    /// The paths whose NARs are decoded as clients get them.
    pub paths: Option<PathPattern>,
    /// Bytes that are read in a second of packs and NARs.
    pub rate: Option<u64>,
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
    /// The storage is not known to be the database's.
    #[error(transparent)]
    Chain(#[from] Arc<ChainError>),
    /// Serving failed in a way that is no finding.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl From<ObjectsError> for CheckError {
    fn from(error: ObjectsError) -> Self {
        match error {
            ObjectsError::Database(error) => error.into(),
            ObjectsError::Storage(error) => error.into(),
        }
    }
}

/// Checks one server.
#[derive(Debug)]
pub struct Checker<'a> {
    /// Proves that the storage is the database's.
    pub chain: &'a Chain,
    /// Metadata.
    pub db: &'a Db,
    /// Objects.
    pub storage: &'a Storage,
    /// Decodes NARs as clients get them.
    pub nars: &'a NarBody,
    /// How much is read.
    pub options: CheckOptions,
    /// The time, in unix seconds.
    pub now: i64,
}

/// A check under way.
struct Run<'a> {
    checker: &'a Checker<'a>,
    stats: CheckStats,
    observer: &'a mut dyn Observer,
    pace: Pace,
}

impl Run<'_> {
    fn found(&mut self, invariant: &str, subject: impl Into<String>, detail: impl Into<String>) {
        let (subject, detail) = (subject.into(), detail.into());
        self.observer.found(Finding { invariant: invariant.to_owned(), subject, detail });
    }

    fn reached(&mut self, phase: Phase, after: i64) {
        self.observer.reached(Place { phase, after }, &self.stats);
    }
}

impl Checker<'_> {
    /// Looks at everything from a place on, and tells `observer` of findings and of how far it is.
    /// `stats` are the counts up to that place.
    ///
    /// # Errors
    /// When database or storage cannot be read at all.
    pub async fn run(
        &self,
        from: Place,
        stats: CheckStats,
        observer: &mut dyn Observer,
    ) -> Result<CheckStats, CheckError> {
        let mut run = Run { checker: self, stats, observer, pace: Pace::new(self.options.rate) };
        for phase in Phase::ALL.into_iter().filter(|phase| *phase >= from.phase) {
            let after = if phase == from.phase { from.after } else { 0 };
            run.reached(phase, after);
            match phase {
                Phase::Objects => packs_and_objects(&mut run).await?,
                Phase::Chunks => rows::chunks(&mut run, after).await?,
                Phase::Nars => rows::nars(&mut run, after).await?,
                Phase::Paths => paths::paths(&mut run, after).await?,
                Phase::Lists => lists::lists(&mut run).await?,
                Phase::Packs => data::packs(&mut run, after).await?,
                Phase::Content => content::nars(&mut run, after).await?,
            }
        }
        // C3: no finding holds if the storage is another database's by now.
        self.chain.confirm().await?;
        Ok(run.stats)
    }
}

/// W1: every live pack's object is there, with the length that its row says.
async fn packs_and_objects(run: &mut Run<'_>) -> Result<(), CheckError> {
    let Run { checker, observer, stats, .. } = run;
    let stats_so_far = *stats;
    let mut progress = |objects| {
        let stats = CheckStats { packs: objects, ..stats_so_far };
        observer.reached(Place { phase: Phase::Objects, after: 0 }, &stats);
    };
    let found = listing::survey(checker.db, checker.storage, &mut progress).await?;
    run.stats.packs = found.live + (found.gone.len() + found.odd.len()) as u64;
    run.stats.dead_packs = found.dead;
    run.stats.unnamed_objects = found.unnamed.len() as u64;
    run.stats.unnamed_bytes = found.unnamed.iter().map(|(_, len)| *len).sum();
    for (_, key) in found.gone {
        run.found("W1", pack_object_key(&key), "its row names an object that is not there");
    }
    for (pack, len) in found.odd {
        let detail = format!("the object has {len} bytes where its row says {}", pack.bytes);
        run.found("W1", pack_object_key(&pack.key), detail);
    }
    for key in found.strange {
        run.observer.noted(format!(
            "{key}: this is no pack's object; nothing here made it, and nothing will remove it"
        ));
    }
    Ok(())
}
