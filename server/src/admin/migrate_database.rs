//! Moving a Snowbank from one database to another: plan, copy, verify.
//!
//! The source is only read, and nothing may write to it meanwhile. The target is marked as incomplete from the first
//! moment to the last, so that no server works with half of the rows; the mark goes when both sides have been compared.

use std::fmt;

use crate::db::instance;
use crate::db::transfer::{self, Digest, TABLES, Table};
use crate::db::{Db, DbError};

/// Why a move was not made, or not finished.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The source holds nothing.
    #[error("the database to move from has never been used by a server; there is nothing to move")]
    NothingToMove,
    /// The target is somebody else.
    #[error(
        "the database to move to holds another Snowbank (instance {found}; the source is {wanted}). Give an empty database"
    )]
    OtherInstance {
        /// The target's instance.
        found: String,
        /// The source's.
        wanted: String,
    },
    /// The target holds rows of nobody.
    #[error("the database to move to is not empty: its table `{0}` has rows. Give an empty database")]
    NotEmpty(&'static str),
    /// Reading the source failed.
    #[error("the database to move from: {0}")]
    Source(#[source] DbError),
    /// Writing to the target failed.
    #[error("the database to move to: {0}. Run the same command again: it goes on where it stopped")]
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
pub struct Compared {
    /// Its name.
    pub table: &'static str,
    /// What the source has.
    pub source: Digest,
    /// What the target has.
    pub target: Digest,
}

impl Compared {
    /// Whether both sides have the same rows.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.source.rows == self.target.rows && self.source.checksum() == self.target.checksum()
    }
}

impl fmt::Display for Compared {
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

/// Looks at both sides and says what there is to do.
///
/// # Errors
/// When the target is not the source's to write to.
pub async fn plan(source: &Db, target: &Db) -> Result<Plan, MoveError> {
    let mut from = source.reader().await.map_err(MoveError::Source)?;
    let wanted = instance::lookup(from.exec()).await.map_err(MoveError::Source)?.ok_or(MoveError::NothingToMove)?;
    drop(from);
    plan_target(target, wanted).await
}

async fn plan_target(target: &Db, wanted: instance::Instance) -> Result<Plan, MoveError> {
    let mut to = target.reader().await.map_err(MoveError::Target)?;
    let moving = transfer::is_moving(to.exec()).await.map_err(MoveError::Target)?;
    let found = instance::lookup(to.exec()).await.map_err(MoveError::Target)?;
    match found {
        Some(found) if found.id != wanted.id => Err(MoveError::OtherInstance { found: found.id, wanted: wanted.id }),
        Some(_) if moving => Ok(Plan::Resume),
        Some(_) => Ok(Plan::Compare),
        None => {
            // Counters and the first domain are there in every empty database.
            for table in TABLES.iter().filter(|table| !matches!(table.name, "counters" | "domains")) {
                if table.last_key(to.exec()).await.map_err(MoveError::Target)?.is_some() {
                    return Err(MoveError::NotEmpty(table.name));
                }
            }
            Ok(Plan::Copy)
        }
    }
}

/// Copies every table, each batch in a transaction of its own.
///
/// # Errors
/// When either side fails; what was copied stays, and another run goes on behind it.
pub async fn copy(source: &Db, target: &Db, told: &mut (dyn FnMut(Progress) + Send)) -> Result<(), MoveError> {
    let mut rows = 0;
    for (index, table) in TABLES.iter().enumerate() {
        let mut last = None;
        if !table.is_seeded() {
            let mut to = target.reader().await.map_err(MoveError::Target)?;
            last = table.last_key(to.exec()).await.map_err(MoveError::Target)?;
        }
        loop {
            let mut from = source.reader().await.map_err(MoveError::Source)?;
            let batch = table.read(from.exec(), last.as_deref()).await.map_err(MoveError::Source)?;
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

async fn write(target: &Db, table: &Table, batch: &[transfer::Row], first: bool) -> Result<(), DbError> {
    let mut tx = target.exclusive_tx().await?;
    if first {
        transfer::set_moving(tx.exec(), true).await?;
    }
    table.write(tx.exec(), batch).await?;
    tx.commit().await
}

/// Reads both sides once more and compares them, table by table; a target that is equal is complete from then on.
///
/// # Errors
/// When either side cannot be read.
pub async fn verify(
    source: &Db,
    target: &Db,
    told: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Compared>, MoveError> {
    let mut compared = Vec::with_capacity(TABLES.len());
    for table in &TABLES {
        let source = digest(source, table, told).await.map_err(MoveError::Source)?;
        let target = digest(target, table, told).await.map_err(MoveError::Target)?;
        compared.push(Compared { table: table.name, source, target });
    }
    if compared.iter().all(Compared::is_equal) {
        complete(target).await.map_err(MoveError::Target)?;
    }
    Ok(compared)
}

async fn complete(target: &Db) -> Result<(), DbError> {
    let mut tx = target.exclusive_tx().await?;
    transfer::set_moving(tx.exec(), false).await?;
    tx.commit().await
}

async fn digest(db: &Db, table: &Table, told: &mut (dyn FnMut(Progress) + Send)) -> Result<Digest, DbError> {
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
