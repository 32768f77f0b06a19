//! What a marker says to a database: a judgment without I/O, and what it is made of.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Chain, ChainError};
use crate::db::chain::{self, KnownLink, Link};
use crate::db::instance::{self, Instance};
use crate::db::{Db, Exec, transfer};
use crate::storage::{Marker, MarkerError};

/// For how long a marker may be seen in part, on a storage whose objects grow while they are
/// written, or say what another server of this database is about to note.
const SETTLING_TIME: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);

/// What the database knows.
#[derive(Debug, Clone)]
pub(super) struct OwnChain {
    pub(super) instance: Instance,
    /// The newest first.
    links: Vec<KnownLink>,
    /// Whether all rows came from another database, which has the storage until the marker says
    /// otherwise.
    pub(super) is_arriving: bool,
}

/// How a marker stands to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has the last link, or the one that is being written.
    Current,
    /// It has a former one.
    Behind,
}

impl OwnChain {
    pub(super) async fn load(db: &Db) -> Result<Self, ChainError> {
        Self::load_in(db.reader().await?.exec()).await
    }

    pub(super) async fn load_in(mut exec: Exec<'_>) -> Result<Self, ChainError> {
        Ok(Self {
            instance: instance::lookup(exec.again()).await?.ok_or(ChainError::NoInstance)?,
            links: chain::links(exec.again()).await?,
            is_arriving: transfer::state(exec).await? == Some(transfer::MoveState::Arriving),
        })
    }

    /// The last link that is known to be written; without any, the one before the first.
    pub(super) fn last(&self) -> KnownLink {
        self.links.iter().find(|link| link.written.is_some()).cloned().unwrap_or_default()
    }

    /// The link that is being written.
    pub(super) fn next(&self) -> Option<&Link> {
        self.links.first().filter(|link| link.written.is_none()).map(|link| &link.link)
    }

    /// How a marker stands to this database.
    pub(super) fn judge(&self, marker: &Marker) -> Result<Standing, ChainError> {
        let Instance { id, epoch, .. } = &self.instance;
        if marker.instance != *id {
            return Err(foreign(marker, &self.instance));
        }
        let last = self.last().link;
        let has = |link: &Link| marker.number == link.number && marker.link == link.link;
        if marker.epoch == *epoch && (has(&last) || self.next().is_some_and(has)) {
            return Ok(Standing::Current);
        }
        if self.is_arriving {
            return Err(ChainError::Arriving);
        }
        if marker.epoch == *epoch && self.links.iter().any(|known| has(&known.link)) {
            return Ok(Standing::Behind);
        }
        Err(ChainError::Superseded {
            their_epoch: marker.epoch,
            their_number: marker.number,
            our_epoch: *epoch,
            our_number: last.number,
        })
    }
}

/// The storage is another instance's.
#[must_use]
pub fn foreign(marker: &Marker, ours: &Instance) -> ChainError {
    ChainError::Foreign {
        theirs: marker.instance.clone(),
        their_epoch: marker.epoch,
        ours: ours.id.clone(),
        our_epoch: ours.epoch,
    }
}

impl Chain {
    /// Reads the marker and what the database knows, and judges. A marker that looks wrong is read
    /// again for a moment, since it may be about to be whole, and the database may be about to note
    /// what it says.
    pub(super) async fn stand(&self) -> Result<(OwnChain, Marker, Standing), ChainError> {
        let until = Instant::now() + SETTLING_TIME;
        loop {
            let marker = self.0.storage.marker().await;
            let own = OwnChain::load(&self.0.db).await?;
            let error = match marker {
                Ok(Some(marker)) => match own.judge(&marker) {
                    Ok(standing) => return Ok((own, marker, standing)),
                    Err(error) => error,
                },
                Ok(None) => return Err(MarkerError::Missing.into()),
                Err(error @ MarkerError::Damaged) => error.into(),
                Err(error) => return Err(error.into()),
            };
            if Instant::now() >= until {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(number: u64, link: &str, written: bool) -> KnownLink {
        KnownLink {
            link: Link { number, link: link.to_owned() },
            written: written.then_some(1),
            place: None,
        }
    }

    fn own(links: &[KnownLink]) -> OwnChain {
        let instance = Instance { id: "a".to_owned(), epoch: 2, created: 0 };
        OwnChain { instance, links: links.to_vec(), is_arriving: false }
    }

    fn marker(epoch: u64, number: u64, link: &str) -> Marker {
        Marker { instance: "a".to_owned(), epoch, number, link: link.to_owned(), asked: None }
    }

    #[test]
    fn the_last_link_and_the_next_one_are_the_databases() {
        let own = own(&[known(7, "g", false), known(6, "f", true), known(5, "e", true)]);
        assert_eq!(own.judge(&marker(2, 6, "f")).unwrap(), Standing::Current);
        assert_eq!(own.judge(&marker(2, 7, "g")).unwrap(), Standing::Current);
        assert_eq!(own.judge(&marker(2, 5, "e")).unwrap(), Standing::Behind);
    }

    #[test]
    fn every_other_link_is_another_databases() {
        let own = own(&[known(6, "f", true), known(5, "e", true)]);
        for other in [
            marker(2, 6, "copy"),
            marker(2, 7, "g"),
            marker(2, 5, "copy"),
            marker(2, 1, "forgotten"),
            marker(2, 0, ""),
            marker(1, 6, "f"),
            marker(3, 6, "f"),
        ] {
            let error = own.judge(&other).unwrap_err();
            assert!(matches!(error, ChainError::Superseded { .. }), "{other:?}: {error}");
        }
        let foreign =
            own.judge(&Marker { instance: "b".to_owned(), ..marker(2, 6, "f") }).unwrap_err();
        assert!(matches!(foreign, ChainError::Foreign { .. }), "{foreign}");
    }

    #[test]
    fn a_storage_from_before_the_chain_is_that_of_a_database_without_links() {
        assert_eq!(own(&[]).judge(&marker(2, 0, "")).unwrap(), Standing::Current);
        assert_eq!(
            own(&[known(1, "a", false)]).judge(&marker(2, 0, "")).unwrap(),
            Standing::Current
        );
        assert!(own(&[]).judge(&marker(2, 1, "a")).is_err());
    }

    #[test]
    fn a_database_that_arrives_has_the_storage_once_the_marker_says_so() {
        let mut own = own(&[known(7, "g", true), known(6, "f", true)]);
        own.is_arriving = true;
        assert!(matches!(own.judge(&marker(2, 6, "f")), Err(ChainError::Arriving)));
        assert_eq!(own.judge(&marker(2, 7, "g")).unwrap(), Standing::Current);
    }
}
