//! Whose the storage is: one database's at a time, and both know it (C3).
//!
//! A chain of links, each with a number and a random text, leads from the database's first start to
//! now. The database keeps the last links (`db/chain.rs`), the storage's marker one of them. A
//! server adds a link when it starts and once an hour, so that a copy of the database, or an older
//! state of it, soon holds a link that is not the marker's. Such a database neither starts nor
//! destroys, and acknowledges nothing. `snowbankd restore --in-place` says that it counts after
//! all: its epoch is raised above the marker's and another chain begins, so that the other database
//! is the one that has to stop.
//!
//! Invariants:
//! - Within a database, a number has one link for ever. It is durable before any marker has it.
//! - The marker is the database's when it has the last link that is known to be written, or the one
//!   above that.
//! - A marker that has one of the database's former links is behind: a write that came late, by a
//!   replica that slept or a service that took its time. The database goes one link further.
//! - Every other marker is another database's.
//!
//! The order of an advance: the next link into the database, then into the marker, then the
//! database notes that it is written.
//! - A crash before the marker's write leaves a marker with the last link, one after it a marker
//!   with the next link. Both are the database's, and the next advance takes the link that was
//!   chosen.
//! - Replicas share the database, so that whichever is quicker writes the same link; a late write
//!   leaves the marker behind.
//!
//! No conditional write is needed, since no two writers of one database ever write different links
//! of one number. Of two databases the last one to write the marker has it, and the other one stops
//! at its next look. So the worst that a write does which hung between the look before it and the
//! storage, while the other database took over, is to take the storage back.
//!
//! A copy that starts while the marker has not moved on would hold the marker's link. So a server
//! whose database was last at work in another place (`Db::place`) asks first: it writes the marker
//! as it is, with a question in it. The server that is at work answers with its next link, which
//! the copy does not have. The question is no harm if it comes late: it leaves the marker behind.
//!
//! A running server reads the marker all the time ([`Chain::watch`]), before each destructive step
//! ([`Chain::confirm`]), and, where it has not read it for a moment, before it acknowledges a push
//! ([`Chain::confirm_lately`]). So a server that was frozen while another one took over finds out
//! before it does anything more.

mod advance;
mod standing;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;

use crate::db::{Db, DbError};
use crate::storage::{Marker, MarkerError, Storage, StorageError};
pub use standing::foreign;
use watch::{MarkerWatch, Stopwatch};

/// Why the storage is not known to be the database's.
#[derive(Debug, Error)]
pub enum ChainError {
    /// It belongs to another Snowbank.
    #[error(
        "the storage belongs to Snowbank instance {theirs} (epoch {their_epoch}), the database to \
         {ours} (epoch {our_epoch}). Use the database and the storage that belong together; for a \
         new Snowbank give both an empty place"
    )]
    Foreign {
        /// The storage's instance.
        theirs: String,
        /// The storage's epoch.
        their_epoch: u64,
        /// The database's instance.
        ours: String,
        /// The database's epoch.
        our_epoch: u64,
    },
    /// It belongs to another Snowbank, and the database is new.
    #[error(
        "the storage belongs to Snowbank instance {theirs} (epoch {their_epoch}), and the database \
         is new. Use the database that belongs to this storage, or restore its backup; for a new \
         Snowbank give `[storage]` an empty place"
    )]
    Taken {
        /// The storage's instance.
        theirs: String,
        /// The storage's epoch.
        their_epoch: u64,
    },
    /// A copy of this database has it, or this is an older state.
    #[error(
        "another copy of this database has taken over the storage: the storage is at epoch \
         {their_epoch}, link {their_number}; this database at epoch {our_epoch}, link \
         {our_number}. One of the two is a copy or an older state. Nothing is written or removed \
         with this one. To use the other one, stop this server. If this one counts, stop the \
         servers of the other one, run `snowbankd restore --in-place` here, and then `snowbankd \
         repair`"
    )]
    Superseded {
        /// The storage's epoch.
        their_epoch: u64,
        /// The number of the storage's link.
        their_number: u64,
        /// The database's epoch.
        our_epoch: u64,
        /// The number of the database's link.
        our_number: u64,
    },
    /// The move into this database was cut off before it took over.
    #[error(
        "the database has all rows of another one, which still has the storage. Run `snowbankd \
         migrate-database` again to its end, or use the other one"
    )]
    Arriving,
    /// Another server asks too.
    #[error(
        "another server started at the same moment with a copy of this database. Find out which \
         one counts, and start that one"
    )]
    Raced,
    /// The storage has not answered.
    #[error("the storage has not said for {} s whose it is; look whether it can be \
        read", .0.as_secs())]
    Silent(Duration),
    /// The database was never used.
    #[error("the database has no instance row; start the server once")]
    NoInstance,
    /// The marker says nothing.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The system gave no random bytes.
    #[error("the system's random number generator failed: {0}")]
    Random(getrandom::Error),
    /// The server is stopping.
    #[error("a look at the storage stopped before it had finished")]
    Stopped,
}

impl From<StorageError> for ChainError {
    fn from(error: StorageError) -> Self {
        Self::Marker(error.into())
    }
}

impl ChainError {
    /// Whether there is no marker.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Marker(MarkerError::Missing))
    }

    /// Whether the storage has not answered, or not with what was asked for.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Marker(MarkerError::Storage(_)) | Self::Silent(_))
    }

    /// Whether the storage may answer in a moment.
    const fn passes(&self) -> bool {
        matches!(
            self,
            Self::Marker(MarkerError::Storage(StorageError::Unavailable { .. })) | Self::Silent(_)
        )
    }

    /// Whether the storage is said to be another database's.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::Foreign { .. } | Self::Taken { .. } | Self::Superseded { .. } | Self::Arriving
        )
    }
}

/// Knows whose the storage is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Chain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    storage: Arc<Storage>,
    timing: Timing,
    looks: MarkerWatch,
    /// Since when the marker may have been undone.
    doubted: Mutex<Option<Stopwatch>>,
}

/// How often the marker is read, and how long a server that is asked may take to answer.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// Between two looks of a server.
    period: Duration,
    /// How long whoever asks waits.
    patience: Duration,
}

impl Timing {
    /// A read of a folder's file is free; one of a bucket's object costs a little, and takes a
    /// while.
    const fn of(storage: &Storage) -> Self {
        if storage.is_bucket() {
            Self { period: Duration::from_secs(5), patience: Duration::from_secs(12) }
        } else {
            Self { period: Duration::from_secs(1), patience: Duration::from_secs(5) }
        }
    }
}

impl Chain {
    /// Nothing is read before it is asked for.
    #[must_use]
    pub fn new(db: Db, storage: Arc<Storage>) -> Self {
        let timing = Timing::of(&storage);
        Self(Arc::new(Inner {
            db,
            storage,
            timing,
            looks: MarkerWatch::default(),
            doubted: Mutex::default(),
        }))
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.0.db
    }

    /// The storage.
    #[must_use]
    pub fn storage(&self) -> &Arc<Storage> {
        &self.0.storage
    }
}

/// 128 random bits.
fn draw() -> Result<String, ChainError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(ChainError::Random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

/// A link that no other has, at the beginning of a chain or above `number`.
pub fn draw_link(number: u64) -> Result<crate::db::chain::Link, ChainError> {
    Ok(crate::db::chain::Link { number: number + 1, link: draw()? })
}

/// The marker that has a link.
#[must_use]
pub fn marker_of(
    instance: &crate::db::instance::Instance,
    link: &crate::db::chain::Link,
) -> Marker {
    Marker {
        instance: instance.id.clone(),
        epoch: instance.epoch,
        number: link.number,
        link: link.link.clone(),
        asked: None,
    }
}
