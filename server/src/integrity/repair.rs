//! `repair`: makes database and storage agree again, and loses nothing that can still be had.
//!
//! A plan first, made by reading alone, then an execution that consumes it. Both look at the same
//! things in the same order:
//! - the objects: those that are gone, those that no row names (a database that is older than the
//!   storage);
//! - the packs' bytes, where they are suspect, or all with `read_data`;
//! - the manifests: chunks that they name and that have no row or no bytes;
//! - the packs' own tables, from which rows are made anew: for a chunk that a manifest names, under
//!   the id that it has there; for one that no manifest names, under the id in the table when that
//!   is free.
//!
//! Only what cannot be healed so is taken out of sight: chunks are retired, the NARs that name them
//! withdrawn (`damage`), and once nothing names them their rows go. An object that does not parse
//! as a pack is never touched.
//!
//! Every change is a short exclusive transaction that changes a row only where it is as it was
//! found, so that a live server, its collection and its compaction may go on, and a repair that was
//! cut off is simply run again. Counters are raised before any id from a table is used, so that no
//! server gives it out once more (C2).

mod execute;
mod manifests;
mod packs;
mod plan;
mod rewrite;
mod settle;
mod tables;

use std::sync::Arc;

use thiserror::Error;

use plan::Reading;
pub use plan::{RepairPlan, RepairReport};

use super::listing::{self, ObjectsError};
use super::{PathPattern, Sample};
use crate::chain::{Chain, ChainError};
use crate::db::{self, Db, DbError};
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

/// Whoever is told what is being done, line by line.
pub type Tell<'t> = &'t mut (dyn FnMut(String) + Send);

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
    /// Looks at everything and says what there is to do; changes nothing.
    ///
    /// # Errors
    /// When database or storage cannot be read, or do not belong together.
    pub async fn plan(&self, tell: Tell<'_>) -> Result<RepairPlan, RepairError> {
        // C3: what another storage, or none, does not have proves nothing.
        self.chain.confirm().await?;
        let read =
            Reading { packs: 0, sample: self.options.read_data, paths: self.options.paths.clone() };
        let mut plan = RepairPlan {
            forget_withdrawn: self.options.forget_withdrawn,
            read,
            ..RepairPlan::default()
        };
        tell("listing the objects".to_owned());
        let listed = listing::survey(self.db, self.storage, &mut |objects| {
            tell(format!("listed {objects} objects"));
        })
        .await?;
        self.survey_packs(&listed, &mut plan, tell).await?;
        let pending = self.survey_manifests(&mut plan, tell).await?;
        self.survey_tables(&listed, &mut plan, tell).await?;
        self.judge(pending, &mut plan).await?;
        self.survey_paths(&mut plan, tell).await?;
        self.survey_rest(&mut plan).await?;
        plan.skipped.extend(
            listed.strange.into_iter().map(|key| format!("{key}: this is no pack's object")),
        );
        Ok(plan)
    }

    /// Counters, leftovers, and whether collection is off.
    async fn survey_rest(&self, plan: &mut RepairPlan) -> Result<(), RepairError> {
        let mut conn = self.db.reader().await?;
        for counter in db::check::counters(conn.exec()).await? {
            let highest = if counter.name == "chunk" {
                counter.highest.max(plan.highest_chunk)
            } else {
                counter.highest
            };
            if counter.next.is_none_or(|next| next <= highest) {
                plan.counters.push((counter.name, highest + 1));
            }
        }
        plan.stale = db::repair::count_stale(conn.exec()).await?;
        plan.collection_off =
            db::settings::lookup(conn.exec(), db::settings::COLLECTION_OFF).await?;
        if plan.forget_withdrawn {
            (_, plan.withdrawn_before) = db::damage::counts(conn.exec()).await?;
        }
        Ok(())
    }
}
