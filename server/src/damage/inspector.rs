//! Looks into reads that failed, and takes what is damaged for certain out of sight.
//!
//! Serving reports and goes on; one task of the server looks into the reports, one after the other.
//! A commit that cannot read a chunk back waits for the outcome, since the client can send that
//! chunk again at once. Rule: whoever waits for a turn holds nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use roaring::RoaringTreemap;
use snowbank_core::hash::NarHash;
use snowbank_core::pack::PackKey;
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::hourly_limit::HourlyLimit;
use super::{
    Head, PackExamination, Withdrawal, examine, manifest_fault, read_pack, retire, withdraw_nar,
};
use crate::chain::{Chain, ChainError};
use crate::db::damage::Retirement;
use crate::db::nars::NarId;
use crate::db::packs::{Pack, PackState};
use crate::db::{self, Db, DbError};
use crate::pack::{Packs, pack_object_key};
use crate::storage::{Storage, StorageError};

/// NARs that a server withdraws in an hour since they could not be served.
const MAX_SERVED: usize = 100;
/// NARs that it withdraws in an hour since they name chunks that were found damaged on that
/// occasion: a pack may hold those of hundreds.
const MAX_FOLLOWED: usize = 1_000;
/// Reports that wait. Of more, the next reader will tell again.
const MAX_WAITING: usize = 1_000;
/// Between the two reads of a pack.
const PAUSE: Duration = Duration::from_secs(1);

/// What a read that failed points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspect {
    /// A pack's object.
    Pack(PackKey),
    /// A chunk, by its id.
    Chunk(u64),
    /// The manifest, or rows.
    Manifest,
}

/// A NAR that could not be served.
#[derive(Debug, Clone)]
pub struct Suspicion {
    /// The NAR.
    pub nar: NarId,
    /// Its hash.
    pub nar_hash: NarHash,
    /// What it failed at.
    pub suspect: Suspect,
}

/// Why nothing could be found out, or nothing was done about it.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The storage cannot be read; so nothing is known.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The storage is not the one that the database belongs to, or is not there: nothing in it
    /// tells anything.
    #[error(transparent)]
    Chain(#[from] Arc<ChainError>),
    /// More was withdrawn lately than a server does of its own accord.
    #[error(
        "too much was withdrawn within an hour; run `snowbankd check --read-data` and `snowbankd \
         repair --read-data`"
    )]
    TooMuch,
    /// The server is stopping.
    #[error("a worker thread stopped before it had finished")]
    Stopped,
}

/// Looks into what could not be read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inspector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    chain: Chain,
    db: Db,
    storage: Arc<Storage>,
    packs: Packs,
    /// Held by the one who looks.
    turn: tokio::sync::Mutex<()>,
    served: HourlyLimit,
    followed: HourlyLimit,
    suspicions: Mutex<VecDeque<Suspicion>>,
    reported: Notify,
    /// Retired chunks for which other NARs have not been looked through.
    unfollowed: Mutex<RoaringTreemap>,
    retired: Notify,
}

/// What was found in a pack.
#[derive(Debug, Default)]
struct Inspection {
    heads: HashMap<u64, Head>,
    retired: usize,
}

impl Inspector {
    /// One that has nothing to look into.
    #[must_use]
    pub fn new(chain: Chain, packs: Packs) -> Self {
        Self(Arc::new(Inner {
            db: chain.db().clone(),
            storage: Arc::clone(chain.storage()),
            chain,
            packs,
            turn: tokio::sync::Mutex::default(),
            served: HourlyLimit::new(MAX_SERVED),
            followed: HourlyLimit::new(MAX_FOLLOWED),
            suspicions: Mutex::default(),
            reported: Notify::new(),
            unfollowed: Mutex::default(),
            retired: Notify::new(),
        }))
    }

    pub(super) fn db(&self) -> &Db {
        &self.0.db
    }

    /// Whether another NAR may be withdrawn for chunks that are retired already.
    pub(super) fn may_follow(&self) -> bool {
        self.0.followed.take(Instant::now())
    }

    /// Tells of a NAR that could not be served; it is looked into soon.
    pub fn report(&self, suspicion: Suspicion) {
        let mut waiting = self.0.suspicions.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING && waiting.iter().all(|known| known.nar != suspicion.nar) {
            waiting.push_back(suspicion);
        }
        drop(waiting);
        self.0.reported.notify_one();
    }

    /// Looks into what is reported until `stop`. `forget` is told what is out of sight now.
    pub async fn watch(
        self,
        now: impl Fn() -> i64 + Send,
        forget: impl Fn(&Withdrawal) + Send,
        stop: CancellationToken,
    ) {
        loop {
            let next = self.0.suspicions.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(suspicion) = next else {
                match stop.run_until_cancelled(self.0.reported.notified()).await {
                    Some(()) => continue,
                    None => return,
                }
            };
            let nar = suspicion.nar_hash;
            match Box::pin(stop.run_until_cancelled(self.inspect_nar(&suspicion, now()))).await {
                None => return,
                Some(Ok(Some(withdrawn))) => forget(&withdrawn),
                Some(Ok(None)) => {
                    tracing::warn!(%nar, "a NAR could not be served to its end, and is found whole \
                        now");
                }
                Some(Err(InspectError::TooMuch)) => {
                    tracing::debug!(%nar, "a NAR that could not be served is left visible");
                }
                Some(Err(error)) => {
                    tracing::warn!(%nar, %error, "a NAR that could not be served was not looked \
                        into");
                }
            }
        }
    }

    /// Finds out why a NAR could not be served, and withdraws it where that will stay so.
    ///
    /// # Errors
    /// See [`InspectError`]; what was found for certain before is done.
    pub async fn inspect_nar(
        &self,
        suspicion: &Suspicion,
        now: i64,
    ) -> Result<Option<Withdrawal>, InspectError> {
        let Inner { db, served, .. } = &*self.0;
        let _turn = self.0.turn.lock().await;
        if !served.has_room(Instant::now()) {
            return Err(InspectError::TooMuch);
        }
        let Some((_, row)) = db::check::nar(db.reader().await?.exec(), suspicion.nar).await? else {
            return Ok(None);
        };
        let looked = self.inspect_suspect(suspicion.suspect, now).await?;
        let reason = match row {
            Err(DbError::Corrupt(reason)) => Some(reason),
            Err(error) => return Err(error.into()),
            Ok(facts) => {
                let mut differs = None;
                let fault = manifest_fault(db, &facts.nar, &facts.first, |entries, _| {
                    let says = |entry: &&snowbank_core::manifest::SegmentEntry| {
                        let (raw_len, frame_len, slots) =
                            (entry.raw_len, entry.frame_len, entry.slots);
                        looked
                            .heads
                            .get(&entry.id)
                            .is_some_and(|head| *head != Head { raw_len, frame_len, slots })
                    };
                    differs = differs.or_else(|| entries.iter().find(says).map(|entry| entry.id));
                });
                let fault = fault.await?.map(|fault| fault.detail);
                fault.or_else(|| {
                    differs.map(|id| format!("its manifest says of chunk {id} what that is not"))
                })
            }
        };
        let Some(reason) = reason else { return Ok(None) };
        if !served.take(Instant::now()) {
            return Err(InspectError::TooMuch);
        }
        Ok(Some(withdraw_nar(db, suspicion.nar, suspicion.nar_hash, &reason, now).await?))
    }

    /// Retires what of the suspect is damaged or gone for certain. Whether it did is seen by
    /// looking for the chunks by name.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub async fn inspect(&self, suspect: Suspect, now: i64) -> Result<(), InspectError> {
        let _turn = self.0.turn.lock().await;
        if !self.0.served.has_room(Instant::now()) {
            return Err(InspectError::TooMuch);
        }
        if self.inspect_suspect(suspect, now).await?.retired > 0 {
            self.0.served.take(Instant::now());
        }
        Ok(())
    }

    async fn inspect_suspect(
        &self,
        suspect: Suspect,
        now: i64,
    ) -> Result<Inspection, InspectError> {
        let key = match suspect {
            Suspect::Pack(key) => Some(key),
            Suspect::Chunk(id) => {
                let found =
                    db::chunks::lookup_by_ids(self.0.db.reader().await?.exec(), &[id]).await;
                match found {
                    // A row that makes no sense is the manifest's fault, which names it.
                    Err(DbError::Corrupt(_)) => None,
                    found => found?.get(&id).map(|place| place.pack_key),
                }
            }
            Suspect::Manifest => None,
        };
        match key {
            Some(key) => self.inspect_pack(&key, now).await,
            None => Ok(Inspection::default()),
        }
    }

    /// Reads a pack twice, and retires what is at fault both times.
    async fn inspect_pack(&self, key: &PackKey, now: i64) -> Result<Inspection, InspectError> {
        let Inner { db, packs, .. } = &*self.0;
        let found = db::check::packs_by_key(db.reader().await?.exec(), &[*key]).await?.remove(key);
        // Compaction has moved its chunks; whoever reads them looks them up again (C4).
        let Some(pack) = found.filter(|pack| pack.state == PackState::Live) else {
            return Ok(Inspection::default());
        };
        // C3: what another storage, or none, does not have proves nothing.
        self.0.chain.confirm().await?;
        let first = self.examine(&pack).await?;
        if first.faults.is_empty() {
            // What was read was not what the storage has.
            packs.forget(pack.id, key).await;
            return Ok(Inspection { heads: first.heads, retired: 0 });
        }
        tokio::time::sleep(PAUSE).await;
        let second = self.examine(&pack).await?;
        self.0.chain.confirm().await?;
        let before: HashSet<(u64, u32)> =
            first.faults.iter().map(|fault| (fault.chunk.id, fault.chunk.offset)).collect();
        let certain: Vec<Retirement> = second
            .faults
            .into_iter()
            .filter(|fault| before.contains(&(fault.chunk.id, fault.chunk.offset)))
            .map(|fault| Retirement {
                domain: fault.domain,
                chunk: fault.chunk,
                reason: fault.reason,
            })
            .collect();
        let retired = retire(db, &certain, now).await?;
        packs.forget(pack.id, key).await;
        if let Some(first) = certain.first().filter(|_| !retired.is_empty()) {
            tracing::error!(
                object = pack_object_key(key),
                chunks = retired.len(),
                chunk = first.chunk.id,
                reason = first.reason,
                "chunks of a pack are damaged or gone; clients send them again with the paths that \
                 need them"
            );
        }
        self.leave_to_follow(retired.iter().copied());
        Ok(Inspection { heads: second.heads, retired: retired.len() })
    }

    async fn examine(&self, pack: &Pack) -> Result<PackExamination, InspectError> {
        let rows = db::chunks::in_pack(self.0.db.reader().await?.exec(), pack.id).await?;
        let (key, object) = (pack.key, read_pack(&self.0.storage, &pack.key).await?);
        let examined = tokio::task::spawn_blocking(move || examine(&key, object.as_deref(), &rows));
        examined.await.map_err(|_| InspectError::Stopped)
    }

    pub(super) fn leave_to_follow(&self, ids: impl Iterator<Item = u64>) {
        self.0.unfollowed.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
        self.0.retired.notify_one();
    }

    pub(super) fn take_unfollowed(&self) -> RoaringTreemap {
        std::mem::take(&mut *self.0.unfollowed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn chunks_retired(&self) {
        self.0.retired.notified().await;
    }
}
