//! Moving a Snowbank from one database to another: plan, copy, verify, hand over.
//!
//! Until the end the source is only read, and nothing may write to it meanwhile. The target is
//! marked as incomplete from the first moment on, so that no server works with half of the rows.
//! When both sides have been compared, the storage changes hands (C3, [`crate::chain`]), in this
//! order:
//! 1. the target begins a chain with a link of its own, and is marked as arriving: it starts only
//!    if the storage's marker has that link;
//! 2. the marker gets the link;
//! 3. the source is marked as moved, with where to;
//! 4. the target's mark goes.
//!
//! Before 2 a server starts over the source alone, after it over the target alone: the marker is
//! one object, and has one link. After a crash the same command goes on.
//!
//! A database that was moved away from holds an older state. To move back, its rows are removed and
//! copied anew.

use std::fmt;
use std::sync::Arc;

use crate::chain::{Chain, ChainError, draw_link, marker_of};
use crate::db::transfer::{self, Digest, MoveState, TABLES, Table};
use crate::db::{Db, DbError, chain, instance};
use crate::storage::Storage;

/// Why a move was not made, or not finished.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The source holds nothing.
    #[error("the database to move from has never been used by a server; there is nothing to move")]
    NothingToMove,
    /// The target is somebody else.
    #[error(
        "the database to move to holds another Snowbank (instance {found}; the source is \
         {wanted}). Give an empty database"
    )]
    OtherInstance {
        /// The target's instance.
        found: String,
        /// The source's.
        wanted: String,
    },
    /// The target holds rows of nobody.
    #[error(
        "the database to move to is not empty: its table `{0}` has rows. Give an empty database"
    )]
    NotEmpty(&'static str),
    /// The source is no longer in use.
    #[error("the database to move from was moved to {0} before; move from there")]
    Moved(String),
    /// The storage is not known to be the source's.
    #[error("the storage of the settings has to be that of the database to move from: {0}")]
    Chain(#[from] Arc<ChainError>),
    /// Reading the source failed.
    #[error("the database to move from: {0}")]
    Source(#[source] DbError),
    /// Writing to the target failed.
    #[error(
        "the database to move to: {0}. Run the same command again: it goes on where it stopped"
    )]
    Target(#[source] DbError),
}

/// What a move has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The target is empty.
    Copy,
    /// An earlier run was cut off.
    Resume,
    /// An earlier run has copied everything; only the comparison is made again.
    Compare,
    /// The target was moved away from before, or did not come to take over: its rows are removed
    /// first.
    Replace,
    /// The target has the storage; only marks are left to be made.
    Finish,
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The table under way.
    pub table: &'static str,
    /// Rows copied by this run.
    pub rows: u64,
}

/// A table on both sides.
#[derive(Debug)]
pub struct TableComparison {
    /// Its name.
    pub table: &'static str,
    /// What the source has.
    pub source: Digest,
    /// What the target has.
    pub target: Digest,
}

impl TableComparison {
    /// Whether both sides have the same rows.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.source.rows == self.target.rows && self.source.checksum() == self.target.checksum()
    }
}

impl fmt::Display for TableComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_equal() { "equal" } else { "DIFFERENT" };
        let checksum = self.target.checksum().to_hex();
        write!(
            f,
            "{:<16} {:>12} {:>12}  {}  {verdict}",
            self.table,
            self.source.rows,
            self.target.rows,
            &checksum.as_str()[..16]
        )
    }
}

/// Looks at both sides and the storage, and says what there is to do.
///
/// # Errors
/// When the storage is not the source's, or the target is not the source's to write to.
pub async fn plan(source: &Db, target: &Db, storage: &Arc<Storage>) -> Result<Plan, MoveError> {
    let mut from = source.reader().await.map_err(MoveError::Source)?;
    let wanted = instance::lookup(from.exec())
        .await
        .map_err(MoveError::Source)?
        .ok_or(MoveError::NothingToMove)?;
    let moved_to = chain::moved_to(from.exec()).await.map_err(MoveError::Source)?;
    drop(from);
    let mut to = target.reader().await.map_err(MoveError::Target)?;
    let state = transfer::state(to.exec()).await.map_err(MoveError::Target)?;
    let found = instance::lookup(to.exec()).await.map_err(MoveError::Target)?;
    let is_stale = chain::moved_to(to.exec()).await.map_err(MoveError::Target)?.is_some();
    drop(to);
    if let Some(found) = found.as_ref().filter(|found| found.id != wanted.id) {
        return Err(MoveError::OtherInstance { found: found.id.clone(), wanted: wanted.id });
    }
    let has_target = found.is_some() && !is_stale && state != Some(MoveState::Incomplete);
    let is_announced = moved_to.is_some() || state == Some(MoveState::Arriving);
    let of_target =
        async || Chain::new(target.clone(), Arc::clone(storage)).confirm().await.is_ok();
    let of_source =
        async || Chain::new(source.clone(), Arc::clone(storage)).confirm().await.is_ok();
    // A target that has been at work meanwhile is no longer announced, but has the storage, and the
    // source has it no more.
    if has_target && of_target().await && (is_announced || !of_source().await) {
        return Ok(Plan::Finish);
    }
    if let Some(to) = moved_to {
        return Err(MoveError::Moved(to));
    }
    Chain::new(source.clone(), Arc::clone(storage)).confirm().await?;
    match (found, state) {
        (Some(_), Some(MoveState::Incomplete)) => Ok(Plan::Resume),
        // One that did not come to take over is out of date as soon as the source has been at work
        // again.
        (Some(_), Some(MoveState::Arriving)) => Ok(Plan::Replace),
        (Some(_), None) if is_stale => Ok(Plan::Replace),
        (Some(_), None) => Ok(Plan::Compare),
        (None, _) => find_empty(target).await.map(|()| Plan::Copy),
    }
}

async fn find_empty(target: &Db) -> Result<(), MoveError> {
    let mut to = target.reader().await.map_err(MoveError::Target)?;
    // Counters and the first domain are there in every empty database.
    for table in TABLES.iter().filter(|table| !matches!(table.name, "counters" | "domains")) {
        if table.last_key(to.exec()).await.map_err(MoveError::Target)?.is_some() {
            return Err(MoveError::NotEmpty(table.name));
        }
    }
    Ok(())
}

/// Removes the rows of a target that was moved away from.
pub async fn empty(target: &Db) -> Result<(), MoveError> {
    let removed = async {
        let mut tx = target.exclusive_tx().await?;
        transfer::empty(tx.exec()).await?;
        tx.commit().await
    };
    removed.await.map_err(MoveError::Target)
}

/// Copies every table, each batch in a transaction of its own.
///
/// # Errors
/// When either side fails; what was copied stays, and another run goes on behind it.
pub async fn copy(
    source: &Db,
    target: &Db,
    told: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), MoveError> {
    let mut rows = 0;
    for (index, table) in TABLES.iter().enumerate() {
        let mut last = None;
        if !table.is_seeded() {
            let mut to = target.reader().await.map_err(MoveError::Target)?;
            last = table.last_key(to.exec()).await.map_err(MoveError::Target)?;
        }
        loop {
            let mut from = source.reader().await.map_err(MoveError::Source)?;
            let batch =
                table.read(from.exec(), last.as_deref()).await.map_err(MoveError::Source)?;
            drop(from);
            let Some(row) = batch.last() else { break };
            last = Some(table.key_of(row));
            rows += batch.len() as u64;
            write(target, table, &batch, index == 0).await.map_err(MoveError::Target)?;
            told(Progress { table: table.name, rows });
        }
    }
    Ok(())
}

async fn write(
    target: &Db,
    table: &Table,
    batch: &[transfer::Row],
    first: bool,
) -> Result<(), DbError> {
    let mut tx = target.exclusive_tx().await?;
    if first {
        transfer::set_state(tx.exec(), Some(MoveState::Incomplete)).await?;
    }
    table.write(tx.exec(), batch).await?;
    tx.commit().await
}

/// Reads both sides once more and compares them, table by table.
///
/// # Errors
/// When either side cannot be read.
pub async fn verify(
    source: &Db,
    target: &Db,
    told: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<TableComparison>, MoveError> {
    let mut compared = Vec::with_capacity(TABLES.len());
    for table in &TABLES {
        let source = digest(source, table, told).await.map_err(MoveError::Source)?;
        let target = digest(target, table, told).await.map_err(MoveError::Target)?;
        compared.push(TableComparison { table: table.name, source, target });
    }
    Ok(compared)
}

/// Gives the storage to the target, whose rows are equal. `to` says where that is, without a
/// password.
///
/// # Errors
/// When the storage is not the source's any more, or either side fails.
pub async fn hand_over(
    source: &Db,
    target: &Db,
    storage: &Arc<Storage>,
    to: &str,
    now: i64,
) -> Result<(), MoveError> {
    let mut from = source.reader().await.map_err(MoveError::Source)?;
    let number = chain::links(from.exec())
        .await
        .map_err(MoveError::Source)?
        .first()
        .map_or(0, |last| last.link.number);
    drop(from);
    let link = draw_link(number).map_err(Arc::new)?;
    let begun = async {
        let mut tx = target.exclusive_tx().await?;
        chain::begin(tx.exec(), &link, now).await?;
        transfer::set_state(tx.exec(), Some(MoveState::Arriving)).await?;
        let instance = instance::lookup(tx.exec()).await?;
        tx.commit().await?;
        Ok(instance)
    };
    let instance = begun.await.map_err(MoveError::Target)?.ok_or(MoveError::NothingToMove)?;
    crate::fault::pause("migrate-before-marker").await;
    Chain::new(source.clone(), Arc::clone(storage)).confirm().await?;
    storage.mark(&marker_of(&instance, &link)).await.map_err(|error| Arc::new(error.into()))?;
    crate::fault::pause("migrate-after-marker").await;
    finish(source, target, to).await
}

/// Makes the marks that are left once the storage's marker has the target's link.
pub async fn finish(source: &Db, target: &Db, to: &str) -> Result<(), MoveError> {
    let moved = async {
        let mut tx = source.exclusive_tx().await?;
        chain::set_moved_to(tx.exec(), Some(to)).await?;
        tx.commit().await
    };
    moved.await.map_err(MoveError::Source)?;
    crate::fault::pause("migrate-after-moved").await;
    let arrived = async {
        let mut tx = target.exclusive_tx().await?;
        transfer::set_state(tx.exec(), None).await?;
        tx.commit().await
    };
    arrived.await.map_err(MoveError::Target)
}

async fn digest(
    db: &Db,
    table: &Table,
    told: &mut (dyn FnMut(Progress) + Send),
) -> Result<Digest, DbError> {
    let mut digest = Digest::default();
    let mut last: Option<transfer::Row> = None;
    loop {
        let batch = table.read(db.reader().await?.exec(), last.as_deref()).await?;
        let Some(row) = batch.last() else { return Ok(digest) };
        last = Some(table.key_of(row));
        for row in &batch {
            digest.add(row);
        }
        told(Progress { table: table.name, rows: digest.rows });
    }
}

#[cfg(test)]
mod tests;
