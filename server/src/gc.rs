//! Collection and compaction: which paths stay, and the removal of everything that none of them
//! needs. Besides, sums over what is stored.
//!
//! `collect` runs one collection: `planner` makes a `plan` by reading alone, and `execute` consumes
//! it, in the order of the invariants; a dry run reports the plan. `transactions` are those that
//! remove rows, `ages` and `cutoffs` say how old things are, `schedule` collects by itself, `usage`
//! has the sums.

pub mod ages;
pub mod collect;
pub mod schedule;
pub mod usage;

mod cutoffs;
mod execute;
mod plan;
mod planner;
mod transactions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use thiserror::Error;

use crate::chain::ChainError;
use crate::db::DbError;
use crate::pack::PackWriteError;
use crate::storage::{NoRoom, StorageError};

/// The setting with the time at which the last collection ended.
const COLLECTED_AT: &str = "collected";

/// Gets a line for each thing that is being done.
pub type Progress<'p> = &'p mut (dyn FnMut(String) + Send);

/// Why a collection did not run, or not to its end.
#[derive(Debug, Error)]
pub enum GcError {
    /// Another one runs.
    #[error("another collection, or a repair, is under way; wait until it has ended")]
    Busy,
    /// It must not run; the text says why and what to do.
    #[error("{0}")]
    Off(String),
    /// The database is another one than at the beginning.
    #[error(
        "the database was restored from a backup meanwhile; nothing more is removed by what was \
         read before"
    )]
    Restored,
    /// The storage is not known to be the database's.
    #[error(transparent)]
    Chain(#[from] Arc<ChainError>),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A disk has no room for a pack that was to be rewritten.
    #[error("{} has no room for another pack", .0.folder.display())]
    Room(#[from] NoRoom),
    /// A pack could not be written.
    #[error(transparent)]
    Write(#[from] PackWriteError),
}
