//! A pool of memory that requests hold by bytes: it grows with what a client has sent, is given
//! back piece by piece, and is shared out so that no token and no address can keep it from the
//! others (the rules are in [`shares`]).

mod shares;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Refusal, count_hit};
use shares::{Age, Bounds, Shares};

/// How long a hold waits before memory is taken back from those who have more than their share.
const TAKE_BACK_AFTER: Duration = Duration::from_secs(2);
const RETRY_AFTER_SECONDS: u32 = 2;

/// Whom a hold counts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The subject of the token.
    pub subject: Arc<str>,
    /// The address, or for IPv6 its network: the /64 of it.
    pub address: Arc<str>,
}

impl Client {
    /// Somebody with this token's subject, at this address.
    #[must_use]
    pub fn new(subject: &str, address: &str) -> Self {
        Self { subject: subject.into(), address: network(address).into() }
    }
}

/// What counts as one address: an IPv4 address, or the /64 network of an IPv6 address, since
/// whoever has one of its addresses has all of them.
fn network(address: &str) -> String {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Ok(address) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}

/// A pool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool {
    inside: Arc<PoolState>,
}

#[derive(Debug)]
struct PoolState {
    name: &'static str,
    largest: u64,
    shares: Mutex<Shares>,
}

/// Memory of a pool; given back when it is dropped.
#[derive(Debug)]
pub struct Hold {
    inside: Arc<PoolState>,
    age: Age,
    bytes: u64,
    revoked: CancellationToken,
}

impl Pool {
    /// A pool of `total` bytes, of which one hold has `largest` at most, and one token or address
    /// `share_percent` while others want some. `name` is what metrics call it.
    #[must_use]
    pub fn new(name: &'static str, total: u64, largest: u64, share_percent: u8) -> Self {
        let largest = largest.min(total);
        let share = largest.max(total / 100 * u64::from(share_percent));
        let bounds = Bounds { total, largest, share, slack: total.saturating_sub(3 * largest) / 3 };
        let inside =
            PoolState { name, largest: bounds.largest, shares: Mutex::new(Shares::new(bounds)) };
        Self { inside: Arc::new(inside) }
    }

    /// The most that one hold has. One that needs more is counted as this much.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.inside.largest
    }

    /// A hold of nothing, to grow.
    #[must_use]
    pub fn open(&self, client: &Client) -> Hold {
        let (age, revoked) = self.inside.lock().open(client);
        Hold { inside: Arc::clone(&self.inside), age, bytes: 0, revoked }
    }

    /// Waits for `bytes`, however long that takes. Only for a caller that holds nothing of this
    /// pool.
    pub async fn take(&self, client: &Client, bytes: u64) -> Hold {
        let mut hold = self.open(client);
        hold.grow(bytes).await;
        hold.settle();
        hold
    }

    /// `bytes` if they are free at this moment.
    #[must_use]
    pub fn try_take(&self, client: &Client, bytes: u64) -> Option<Hold> {
        let mut hold = self.open(client);
        hold.try_grow(bytes).then(|| {
            hold.settle();
            hold
        })
    }
}

impl Hold {
    /// Waits until it has `bytes` in all, or the most that one hold has.
    pub async fn grow(&mut self, bytes: u64) {
        if bytes <= self.bytes {
            return;
        }
        let Some(mut granted) = self.inside.change(|shares| shares.ask(self.age, bytes)) else {
            self.bytes = bytes;
            return;
        };
        // Should this be dropped, nobody waits any more.
        let waiting = QueueEntry { inside: &self.inside, age: self.age };
        while tokio::time::timeout(TAKE_BACK_AFTER, &mut granted).await.is_err() {
            if self.inside.lock().revoke_for(self.age) {
                count_hit("memory-taken-back");
            }
        }
        drop(waiting);
        self.bytes = bytes;
    }

    /// As [`Hold::grow`], for `patience` at most.
    ///
    /// # Errors
    /// [`Refusal`] when there was no room for so long, or what it has is to be given back. Drop it
    /// then.
    pub async fn grow_within(&mut self, bytes: u64, patience: Duration) -> Result<(), Refusal> {
        let revoked = self.revoked.clone();
        let name = self.inside.name;
        tokio::select! {
            biased;
            () = revoked.cancelled() => Err(Self::TAKEN_BACK),
            grown = tokio::time::timeout(patience, self.grow(bytes)) => grown.map_err(|_| {
                count_hit(name);
                let reason = "has no memory left for this request";
                Refusal { reason, retry_after_seconds: RETRY_AFTER_SECONDS }
            }),
        }
    }

    /// Why a request is given up whose memory was taken back.
    pub const TAKEN_BACK: Refusal = Refusal {
        reason: "needs for others the memory that this client has beyond its share",
        retry_after_seconds: RETRY_AFTER_SECONDS,
    };

    /// How much it has, as it was asked for.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As [`Hold::grow`], if that much is free at this moment.
    #[must_use]
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let is_granted = self.inside.change(|shares| {
            let is_granted = shares.ask(self.age, bytes).is_none();
            shares.forget(self.age);
            is_granted
        });
        if is_granted {
            self.bytes = self.bytes.max(bytes);
        }
        is_granted
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.bytes = bytes;
            self.inside.change(|shares| shares.shrink(self.age, bytes));
        }
    }

    /// Says that it grows no more, and depends on no client.
    pub fn settle(&self) {
        self.inside.change(|shares| shares.settle(self.age));
    }

    /// Whether its memory is to be given back.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.revoked.is_cancelled()
    }

    /// Cancelled when its memory is to be given back, since others with a smaller share wait. Never
    /// once it is settled.
    #[must_use]
    pub fn revoked(&self) -> CancellationToken {
        self.revoked.clone()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.inside.change(|shares| shares.close(self.age));
    }
}

/// A request that is taken back when its task waits no more.
struct QueueEntry<'a> {
    inside: &'a PoolState,
    age: Age,
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        self.inside.lock().forget(self.age);
    }
}

impl PoolState {
    fn lock(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::cast_precision_loss, reason = "pools have less than 2^52 bytes")]
    fn change<T>(&self, change: impl FnOnce(&mut Shares) -> T) -> T {
        let mut shares = self.lock();
        let result = change(&mut shares);
        metrics::gauge!("snowbank_memory_held_bytes", "pool" => self.name)
            .set(shares.held_bytes() as f64);
        result
    }
}
