//! Taking a storage at a start, and going one link further. The order is the module's invariant.

use std::sync::PoisonError;
use std::time::Duration;

use snowbank_core::pack::PackKey;
use tokio::time::{Instant, sleep};

use super::standing::{OwnChain, Standing};
use super::watch::Stopwatch;
use super::{Chain, ChainError, draw, draw_link, marker_of};
use crate::db::chain::{self, Link};
use crate::db::instance::{self, Instance};
use crate::db::{transfer, unnamed};
use crate::storage::{Marker, MarkerError};

/// A replica that starts so many seconds after another one has advanced leaves it at that.
const RECENT_ADVANCE_SECONDS: u64 = 30;
/// A marker that was read longer ago is read again before it is written.
const MARKER_FRESH_FOR: Duration = Duration::from_secs(5);
/// For how long a write that was attempted twice may be undone.
const UNDO_WINDOW: Duration = Duration::from_mins(5);
/// Packs of which one has to be known.
const SAMPLED_PACKS: usize = 100;
/// A storage that takes longer every time is not written to.
const MAX_LOOKS: u32 = 5;
/// No object takes longer than this to be written.
const MAX_WRITE: Duration = Duration::from_hours(1);

impl Chain {
    /// For a database that was never used: finds that the storage is empty and nobody's, so that a
    /// first start which cannot go on has written nothing into a database that servers share. Any
    /// other database passes; [`Chain::take`] is for it.
    ///
    /// # Errors
    /// [`ChainError::Taken`] when the storage is marked, and what
    /// [`Storage::find_empty`](crate::storage::Storage::find_empty) says.
    pub async fn find_free(&self) -> Result<(), ChainError> {
        if self.is_used().await? {
            return Ok(());
        }
        let error = match self.0.storage.marker().await {
            Ok(Some(marker)) => {
                ChainError::Taken { theirs: marker.instance, their_epoch: marker.epoch }
            }
            Ok(None) => match self.0.storage.find_empty().await {
                Ok(()) => return Ok(()),
                Err(error) => error.into(),
            },
            Err(error) => error.into(),
        };
        // Another replica, which starts as well, may have taken both meanwhile: the database first.
        if self.is_used().await? { Ok(()) } else { Err(error) }
    }

    async fn is_used(&self) -> Result<bool, ChainError> {
        Ok(instance::lookup(self.0.db.reader().await?.exec()).await?.is_some())
    }

    /// Takes the storage for a server that starts: finds that it is the database's, or empty and
    /// not anybody's yet, asks where another server may be at work, and goes one link further. Then
    /// removes what a killed server left half written.
    ///
    /// # Errors
    /// See [`ChainError`]; the marker is as it was then, but for a question in it.
    pub async fn take(&self, now: i64) -> Result<Instance, ChainError> {
        let instance = self.claim(now).await?;
        // Other replicas may be writing at this moment.
        let age = if self.0.db.is_shared() { MAX_WRITE } else { Duration::ZERO };
        self.0.storage.remove_unfinished(age).await?;
        Ok(instance)
    }

    /// Finds that the storage is the database's, for a command that removes or adds: beside the
    /// server of this database, or without one. A command over a copy asks like a server, and takes
    /// over where nobody answers, so that the other server finds out.
    pub async fn join(&self, now: i64) -> Result<(), ChainError> {
        let (own, _, standing) = self.stand().await?;
        let last = own.last().place;
        if own.is_arriving
            || standing == Standing::Behind
            || (last.is_some() && last != Some(self.0.db.place().await?))
        {
            self.claim(now).await?;
        }
        Ok(())
    }

    async fn claim(&self, now: i64) -> Result<Instance, ChainError> {
        let place = self.0.db.place().await?;
        match self.stand().await {
            Err(ChainError::Marker(MarkerError::Missing)) => {
                let own = OwnChain::load(&self.0.db).await?;
                if own.is_arriving {
                    return Err(ChainError::Arriving);
                }
                if own.next().is_some() {
                    self.find_unmarked().await?;
                } else {
                    self.0.storage.find_empty().await?;
                }
            }
            Err(error) => return Err(error),
            Ok((own, marker, standing)) => {
                let last = own.last();
                let is_here = last.place.as_ref() == Some(&place);
                if (last.place.is_some() && !is_here) || standing == Standing::Behind {
                    self.ask(&marker).await?;
                }
                self.arrive(&own).await?;
                let is_recent =
                    last.written.is_some_and(|at| at.abs_diff(now) < RECENT_ADVANCE_SECONDS);
                if self.0.db.is_shared() && is_here && is_recent && standing == Standing::Current {
                    return Ok(own.instance);
                }
            }
        }
        self.advance(now).await
    }

    /// Goes one link further.
    pub(super) async fn advance(&self, now: i64) -> Result<Instance, ChainError> {
        let (instance, next) = self.choose().await?;
        crate::fault::pause("chain-before-marker").await;
        let found = self.find_marker().await?;
        let own = OwnChain::load(&self.0.db).await?;
        if own.instance != instance || (own.next() != Some(&next) && own.last().link != next) {
            // Another replica has gone further meanwhile, or a command has begun another chain.
            return Ok(own.instance);
        }
        let marker = marker_of(&instance, &next);
        if found.as_ref() != Some(&marker) {
            self.mark(&marker).await?;
        }
        crate::fault::pause("chain-after-marker").await;
        let place = self.0.db.place().await?;
        let mut tx = self.0.db.upkeep_tx().await?;
        chain::written(tx.exec(), &next, &place, now).await?;
        tx.commit().await?;
        Ok(instance)
    }

    async fn mark(&self, marker: &Marker) -> Result<(), ChainError> {
        match self.0.storage.mark(marker).await {
            Ok(1) => Ok(()),
            Ok(_) => {
                *self.0.doubted.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Stopwatch::start());
                Ok(())
            }
            // Another replica has written the same in the same moment; a service may take one write
            // per second to a key.
            Err(_) if self.0.storage.marker().await?.as_ref() == Some(marker) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the marker may have gone since a service undid a write that was attempted twice, and
    /// the one that came after it.
    pub(super) fn may_be_undone(&self) -> bool {
        let doubted = *self.0.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        doubted.is_some_and(|clock| clock.elapsed() < UNDO_WINDOW)
    }

    /// Finds that a storage without a marker is empty, or that it is this database's, whose marker
    /// was lost while it was being written: its packs are known.
    async fn find_unmarked(&self) -> Result<(), ChainError> {
        let Err(error) = self.0.storage.find_empty().await else { return Ok(()) };
        let objects = self.0.storage.list("packs/", None, SAMPLED_PACKS).await?;
        let keys: Vec<PackKey> =
            objects.iter().filter_map(|key| key.rsplit('/').next()?.parse().ok()).collect();
        let named = unnamed::named(self.0.db.reader().await?.exec(), &keys).await?;
        if named.is_empty() { Err(error.into()) } else { Ok(()) }
    }

    /// The marker that is about to be replaced, read a moment ago; `None` in an empty storage,
    /// which is being taken.
    async fn find_marker(&self) -> Result<Option<Marker>, ChainError> {
        for _ in 0..MAX_LOOKS {
            let clock = Stopwatch::start();
            let found = match self.stand().await {
                Ok((_, marker, _)) => Some(marker),
                Err(ChainError::Marker(MarkerError::Missing)) => {
                    self.find_unmarked().await?;
                    None
                }
                Err(error) => return Err(error),
            };
            // A server that was frozen in between looks once more: another one may have taken over
            // meanwhile.
            if clock.elapsed() < MARKER_FRESH_FOR {
                return Ok(found);
            }
        }
        Err(ChainError::Silent(MARKER_FRESH_FOR * MAX_LOOKS))
    }

    /// The link that is to be written: chosen now, or before by a server that did not come to write
    /// it.
    async fn choose(&self) -> Result<(Instance, Link), ChainError> {
        let mut tx = self.0.db.upkeep_tx().await?;
        let mut own = OwnChain::load_in(tx.exec()).await?;
        if own.next().is_none() {
            chain::add(tx.exec(), &draw_link(own.last().link.number)?).await?;
            // Another replica may have been quicker.
            own = OwnChain::load_in(tx.exec()).await?;
        }
        tx.commit().await?;
        let next = own.next().cloned().unwrap_or_else(|| own.last().link);
        Ok((own.instance, next))
    }

    /// The marker says that this database has taken over from the one that its rows come from.
    async fn arrive(&self, own: &OwnChain) -> Result<(), ChainError> {
        if own.is_arriving {
            let mut tx = self.0.db.upkeep_tx().await?;
            transfer::set_state(tx.exec(), None).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Asks whether another server has the storage, with a copy of this database, and waits for its
    /// answer. One that has this very database answers too: what it answers with is this
    /// database's.
    async fn ask(&self, found: &Marker) -> Result<(), ChainError> {
        let patience = self.0.timing.patience;
        tracing::info!(
            seconds = patience.as_secs(),
            "this database was last at work in another place, or on another start of this machine; \
             looking whether another server has its storage"
        );
        let question = Marker { asked: Some(draw()?), ..found.clone() };
        self.0.storage.mark(&question).await?;
        let until = Instant::now() + patience;
        while Instant::now() < until {
            sleep(self.0.timing.period / 2).await;
            let (_, marker, _) = self.stand().await?;
            if (marker.number, &marker.link) != (question.number, &question.link) {
                return Ok(());
            }
        }
        let (_, marker, _) = self.stand().await?;
        if marker.asked.is_some() && marker.asked != question.asked {
            return Err(ChainError::Raced);
        }
        Ok(())
    }
}
