//! Which chunks this process is storing right now, so that two clients that push the same thing at
//! the same moment store it once.
//!
//! Rule: whoever waits holds nothing. A request claims what is free, stores it, releases it, and
//! only then waits for what others had claimed; so no two requests can wait for each other. Between
//! replicas the race stays, and costs a dead copy in a pack that compaction removes.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use snowbank_core::chunk::ChunkName;
use tokio::sync::Notify;

use crate::db::caches::DomainId;

/// The set of claimed chunks.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    claimed: Mutex<HashSet<(DomainId, ChunkName)>>,
    released: Notify,
}

/// Chunks claimed by one request; dropping it releases them and wakes those who wait.
#[derive(Debug)]
pub(super) struct ChunkClaim<'a> {
    owner: &'a InFlight,
    domain: DomainId,
    names: Vec<ChunkName>,
}

impl InFlight {
    /// Claims those of `names` that nobody has.
    pub(super) fn claim(
        &self,
        domain: DomainId,
        names: impl IntoIterator<Item = ChunkName>,
    ) -> ChunkClaim<'_> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let names = names.into_iter().filter(|name| claimed.insert((domain, *name))).collect();
        ChunkClaim { owner: self, domain, names }
    }

    /// Waits until none of `names` is claimed.
    pub(super) async fn wait_for(&self, domain: DomainId, names: &[ChunkName]) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            {
                let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
                if names.iter().all(|name| !claimed.contains(&(domain, *name))) {
                    return;
                }
            }
            released.await;
        }
    }
}

impl ChunkClaim<'_> {
    /// What was free and is now this request's.
    pub(super) fn names(&self) -> &[ChunkName] {
        &self.names
    }
}

impl Drop for ChunkClaim<'_> {
    fn drop(&mut self) {
        let mut claimed = self.owner.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            claimed.remove(&(self.domain, *name));
        }
        drop(claimed);
        self.owner.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: DomainId = DomainId(1);

    fn name(byte: u8) -> ChunkName {
        ChunkName::from_bytes([byte; 32])
    }

    #[test]
    fn a_chunk_is_claimed_once_until_released() {
        let in_flight = InFlight::default();
        let first = in_flight.claim(DOMAIN, [name(1), name(2)]);
        assert_eq!(first.names(), [name(1), name(2)]);
        assert_eq!(in_flight.claim(DOMAIN, [name(2), name(3)]).names(), [name(3)]);
        assert_eq!(in_flight.claim(DomainId(2), [name(1)]).names(), [name(1)]);
        drop(first);
        assert_eq!(in_flight.claim(DOMAIN, [name(2)]).names(), [name(2)]);
    }

    #[tokio::test]
    async fn waiting_ends_when_the_claim_is_dropped() {
        let in_flight = InFlight::default();
        let claim = in_flight.claim(DOMAIN, [name(1)]);
        let (names, other) = ([name(1)], [name(9)]);
        let waiting = in_flight.wait_for(DOMAIN, &names);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        in_flight.wait_for(DOMAIN, &other).await;
        drop(claim);
        waiting.await;
    }
}
