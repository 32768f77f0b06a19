//! `repair`: makes database and storage agree again, and loses nothing that can still be had.
//!
//! First a plan is made by reading alone, and then an execution consumes it. Both go in the same
//! order; each part of the plan has one owner:
//! - the objects: those that are gone, and those that no row names (the database is older than the
//!   storage);
//! - the packs' bytes, where they are suspect, or all with `read_data` (`PackSurvey`);
//! - the manifests: chunks that they name and that have no row or no bytes
//!   (`ManifestSurvey`);
//! - the packs' own tables (`TableSurvey`). From them rows are made anew: under the id
//!   that a manifest names, or for a chunk that no manifest names under the id in the table, when
//!   that is free;
//! - the paths, and NARs as clients get them (`PathSurvey`).
//!
//! Only chunks that cannot be healed so are retired, and the NARs that name them withdrawn
//! (`damage`). Once nothing names the chunks, their rows go. An object that does not parse as a
//! pack is never touched.
//!
//! Every change is a short exclusive transaction that changes a row only where it is as it was
//! found, so that a live server, its collection and its compaction may go on, and a repair that was
//! cut off is simply run again. Counters are raised before any id from a table is used, so that no
//! server gives it out once more (C2).

mod execute;
mod manifests;
mod packs;
mod paths;
mod plan;
mod read_table;
mod rewrite;
mod settle;
mod table_rows;
mod tables;

use std::sync::Arc;

use thiserror::Error;

use manifests::{ManifestSurvey, NarFindings};
use packs::{PackFindings, PackSurvey};
use paths::PathSurvey;
use plan::{LostChunks, Reading};
pub use plan::{RepairPlan, RepairReport};
use tables::{TableFindings, TableSurvey};

use super::listing::{self, ObjectsError};
use super::{PathPattern, Sample};
use crate::chain::{Chain, ChainError};
use crate::db::{self, Conn, Db, DbError, settings};
use crate::pack::{PackWriteError, Packs};
use crate::serving::{NarBody, ServeError};
use crate::storage::{Storage, StorageError};

/// What is looked at beside rows and the packs that are suspect.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// Of which packs the bytes are read.
    pub read_data: Option<Sample>,
    /// Of which paths the NARs are decoded as they are served.
    pub paths: Option<PathPattern>,
    /// Bytes a second that are read of data.
    pub rate: Option<u64>,
    /// Whether the list of withdrawn paths is emptied.
    pub forget_withdrawn: bool,
}

impl RepairOptions {
    fn reads_all_packs(&self) -> bool {
        self.read_data.is_some_and(|sample| sample.share == Sample::ALL.share)
    }
}

/// Why a repair stopped. What was done before is done, and running it again goes on.
#[derive(Debug, Error)]
pub enum RepairError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The storage is not known to be the database's.
    #[error(transparent)]
    Chain(#[from] Arc<ChainError>),
    /// A pack could not be written anew.
    #[error(transparent)]
    Write(#[from] PackWriteError),
    /// A NAR could not be read, for a reason that says nothing of it.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl From<ObjectsError> for RepairError {
    fn from(error: ObjectsError) -> Self {
        match error {
            ObjectsError::Database(error) => error.into(),
            ObjectsError::Storage(error) => error.into(),
        }
    }
}

/// Gets a line for each thing that is being done.
pub type Progress<'p> = &'p mut (dyn FnMut(String) + Send);

/// What a repair works with.
#[derive(Debug)]
pub struct Repairer<'a> {
    /// Whose the storage is.
    pub chain: &'a Chain,
    /// Metadata.
    pub db: &'a Db,
    /// Objects.
    pub storage: &'a Storage,
    /// Writes packs.
    pub packs: &'a Packs,
    /// NARs as they are served.
    pub nars: &'a NarBody,
    /// How much is looked at.
    pub options: RepairOptions,
    /// The time, in unix seconds.
    pub now: i64,
}

impl Repairer<'_> {
    /// Looks at everything, and gives what there is to do. Changes nothing.
    ///
    /// # Errors
    /// When database or storage cannot be read, or do not belong together.
    pub async fn plan(&self, progress: Progress<'_>) -> Result<RepairPlan, RepairError> {
        // C3: what another storage, or none, does not have proves nothing.
        self.chain.confirm().await?;
        progress("listing the objects".to_owned());
        let listed = listing::survey(self.db, self.storage, &mut |objects| {
            progress(format!("listed {objects} objects"));
        })
        .await?;
        let mut packs = PackSurvey::new(self);
        packs.read(&listed, progress).await?;
        let mut manifests = ManifestSurvey::new(self);
        manifests.read(&mut packs, progress).await?;
        let PackFindings { packs, changes, without_pack, bad, retired, read } = packs.finish();
        let lost = LostChunks { missing: manifests.take_missing(), bad, retired };
        let tables = TableSurvey::new(self, &lost).await?.read(&listed, progress).await?;
        let TableFindings { sources, restored, highest_chunk, mut skipped } = tables;
        let mut nars = manifests.finish(&((&lost.missing | &lost.bad) - restored)).await?;
        let paths = PathSurvey::new(self).await?;
        let broken_paths = paths.broken_paths().await?;
        let undecodable = paths.undecodable_nars(&nars, progress).await?;
        nars.broken.extend(undecodable);
        paths.name_paths(&mut nars.broken).await?;
        skipped.extend(
            listed.strange.into_iter().map(|key| format!("{key}: this is no pack's object")),
        );
        let highest_chunk = highest_chunk.max(nars.highest_chunk);
        let NarFindings { broken, healed, last_nar, .. } = nars;
        let options = &self.options;
        let mut conn = self.db.reader().await?;
        let withdrawn_before =
            if options.forget_withdrawn { db::damage::counts(conn.exec()).await?.1 } else { 0 };
        Ok(RepairPlan {
            counters: counters(&mut conn, highest_chunk).await?,
            changes,
            packs,
            without_pack,
            sources,
            lost,
            nars: broken,
            healed,
            last_nar,
            paths: broken_paths,
            stale: db::repair::count_stale(conn.exec()).await?,
            collection_off: settings::lookup(conn.exec(), settings::COLLECTION_OFF).await?,
            forget_withdrawn: options.forget_withdrawn,
            withdrawn_before,
            skipped,
            read: Reading { packs: read, sample: options.read_data, paths: options.paths.clone() },
        })
    }
}

/// The counters that would give ids which are in use, with the ids that they are to give next.
async fn counters(
    conn: &mut Conn,
    highest_chunk: i64,
) -> Result<Vec<(&'static str, i64)>, RepairError> {
    let mut raised = Vec::new();
    for counter in db::check::counters(conn.exec()).await? {
        let is_chunk = counter.name == "chunk";
        let highest = if is_chunk { counter.highest.max(highest_chunk) } else { counter.highest };
        if counter.next.is_none_or(|next| next <= highest) {
            raised.push((counter.name, highest + 1));
        }
    }
    Ok(raised)
}
