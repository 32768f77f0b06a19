//! Places for responses that hold memory while their client reads: downloads of NARs, and long
//! answers.
//!
//! There is a fixed number of them. A request that finds none waits, and those that wait are served
//! one client after the other, so that a client with many requests does not hold up one with a
//! single request; no client has more than a quarter of the places. A client is a connection, or,
//! behind a trusted proxy, an address. While somebody waits, or while the memory is all taken, a
//! place is worth more than a client that does not read: [`ResponsePlaces::sweep`] then ends the
//! responses that stand still or crawl. Without such need a response is ended by the write deadline
//! alone.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;
use tokio::sync::oneshot;

use super::{Ending, Refusal};

const RETRY_AFTER_SECONDS: u32 = 2;
/// A client that has taken nothing for this long stands still.
const STALL_TIME: Duration = Duration::from_secs(5);
/// Time that every response has before its rate counts.
const RATE_GRACE: Duration = Duration::from_secs(15);
/// Bytes per second below which a response makes way for others.
const MIN_RATE: u64 = 32 * 1024;
/// Bytes per second at which memory has to come back while others lack it.
const MIN_HELD_RATE: u64 = 64 * 1024;
/// Memory was lacking if that was so within this time.
const RECENT_TIME: Duration = Duration::from_secs(2);

/// The places. Clones share them.
#[derive(Debug, Clone)]
pub struct ResponsePlaces(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What they are for, in metrics.
    kind: &'static str,
    reason: &'static str,
    patience: Duration,
    began_at: Instant,
    lacking_at: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    free: usize,
    /// That one client may have.
    max_per_client: usize,
    by_client: HashMap<u64, usize>,
    waiting: VecDeque<(u64, VecDeque<oneshot::Sender<Place>>)>,
    taken: HashMap<u64, Arc<Holder>>,
    last_number: u64,
}

/// A place, which is free again once this is dropped.
#[derive(Debug)]
struct Place {
    places: ResponsePlaces,
    client: u64,
}

/// A response with a place, which is given back when the last clone of this is dropped: with the
/// last of its bytes.
#[derive(Debug, Clone)]
pub struct ResponsePlace(Arc<HeldPlace>);

#[derive(Debug)]
struct HeldPlace {
    number: u64,
    holder: Arc<Holder>,
    place: Place,
}

/// What is known of a response. Times are milliseconds since the start, and 0 for none.
#[derive(Debug)]
struct Holder {
    began_at: u64,
    sent_bytes: AtomicU64,
    handed_at: AtomicU64,
    held_at: AtomicU64,
    held_bytes: AtomicU64,
    ending: Ending,
}

impl ResponsePlaces {
    /// `count` places; a request waits for one for as long as `patience`. A refusal says that "the
    /// server `reason`".
    #[must_use]
    pub fn new(kind: &'static str, reason: &'static str, count: usize, patience: Duration) -> Self {
        let (waiting, taken) = (VecDeque::new(), HashMap::new());
        let (max_per_client, by_client) = (count.div_ceil(4), HashMap::new());
        let table = Mutex::new(Table {
            free: count,
            max_per_client,
            by_client,
            waiting,
            taken,
            last_number: 0,
        });
        let (began_at, lacking_at) = (Instant::now(), AtomicU64::new(0));
        Self(Arc::new(Shared { kind, reason, patience, began_at, lacking_at, table }))
    }

    /// A place for a response that `ending` ends.
    ///
    /// # Errors
    /// [`Refusal`] when there was none for some time.
    pub async fn enter(&self, ending: Ending) -> Result<ResponsePlace, Refusal> {
        let place = match self.take_or_wait(ending.client) {
            Ok(place) => Some(place),
            // Nobody drops a sender without having sent.
            Err(waiting) => {
                tokio::time::timeout(self.0.patience, waiting).await.ok().and_then(Result::ok)
            }
        };
        let Some(place) = place else {
            counter!("snowbank_places_refused_total", "kind" => self.0.kind).increment(1);
            return Err(Refusal {
                reason: self.0.reason,
                retry_after_seconds: RETRY_AFTER_SECONDS,
            });
        };
        let none = || AtomicU64::new(0);
        let (sent_bytes, handed_at, held_at, held_bytes) = (none(), none(), none(), none());
        let holder = Arc::new(Holder {
            began_at: self.now(),
            sent_bytes,
            handed_at,
            held_at,
            held_bytes,
            ending,
        });
        let mut table = self.table();
        table.last_number += 1;
        let number = table.last_number;
        table.taken.insert(number, Arc::clone(&holder));
        drop(table);
        Ok(ResponsePlace(Arc::new(HeldPlace { number, holder, place })))
    }

    /// Notes that a response found no memory free.
    pub fn note_lack(&self) {
        self.0.lacking_at.store(self.now(), Relaxed);
    }

    /// Ends responses whose clients stand still or crawl, where others need what they hold.
    pub fn sweep(&self) {
        let now = self.now();
        let lacks_memory =
            lasted(self.0.lacking_at.load(Relaxed), now).is_some_and(|since| since < RECENT_TIME);
        let table = self.table();
        // Those who wait for places of their own need nobody else's.
        let waiting = table.waiting.iter().filter(|(client, _)| table.has_share(*client));
        let waiting =
            waiting.map(|(_, group)| group.iter().filter(|one| !one.is_closed()).count()).sum();
        let mut ends: Vec<Arc<Holder>> = Vec::new();
        if lacks_memory {
            ends.extend(table.taken.values().filter(|holder| holder.hoards(now)).cloned());
        }
        let mut slow: Vec<(u64, &Arc<Holder>)> =
            table.taken.values().filter_map(|holder| Some((holder.crawls(now)?, holder))).collect();
        slow.sort_by_key(|(rate, _)| *rate);
        ends.extend(slow.into_iter().take(waiting).map(|(_, holder)| Arc::clone(holder)));
        drop(table);
        for holder in ends {
            counter!("snowbank_responses_ended_total", "kind" => self.0.kind).increment(1);
            holder.ending.end();
        }
    }

    fn take_or_wait(&self, client: u64) -> Result<Place, oneshot::Receiver<Place>> {
        let mut table = self.table();
        if table.free > 0 && table.has_share(client) {
            table.free -= 1;
            return Ok(self.place(&mut table, client));
        }
        let (sender, receiver) = oneshot::channel();
        match table.waiting.iter_mut().find(|(other, _)| *other == client) {
            Some((_, group)) => group.push_back(sender),
            None => table.waiting.push_back((client, VecDeque::from([sender]))),
        }
        Err(receiver)
    }

    fn place(&self, table: &mut Table, client: u64) -> Place {
        *table.by_client.entry(client).or_default() += 1;
        Place { places: self.clone(), client }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began_at.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table();
        if let Some(count) = table.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                table.by_client.remove(&self.client);
            }
        }
        if let Some((client, sender)) = table.next_waiting() {
            let place = self.places.place(&mut table, client);
            drop(table);
            // One who has gone away meanwhile drops the place, and this comes again.
            let _ = sender.send(place);
        } else {
            table.free += 1;
        }
    }
}

impl Table {
    fn has_share(&self, client: u64) -> bool {
        self.by_client.get(&client).is_none_or(|count| *count < self.max_per_client)
    }

    /// Whose turn it is, if anybody waits who may have another place.
    fn next_waiting(&mut self) -> Option<(u64, oneshot::Sender<Place>)> {
        while let Some(turn) = self.waiting.iter().position(|(client, _)| self.has_share(*client)) {
            let (client, mut group) = self.waiting.remove(turn)?;
            let next = group.pop_front();
            if !group.is_empty() {
                self.waiting.push_back((client, group));
            }
            if let Some(sender) = next.filter(|sender| !sender.is_closed()) {
                return Some((client, sender));
            }
        }
        None
    }
}

impl ResponsePlace {
    /// Notes that the client was handed `bytes` to take.
    pub fn note_handed(&self, bytes: u64) {
        let holder = &self.0.holder;
        holder.sent_bytes.fetch_add(bytes, Relaxed);
        holder.handed_at.store(self.0.place.places.now(), Relaxed);
    }

    /// Notes that the client has taken what it was handed.
    pub fn note_taken(&self) {
        self.0.holder.handed_at.store(0, Relaxed);
    }

    /// Notes that the response holds `bytes` of memory from now on.
    pub fn note_held(&self, bytes: u64) {
        self.0.holder.held_at.store(self.0.place.places.now(), Relaxed);
        self.0.holder.held_bytes.store(bytes, Relaxed);
    }

    /// Notes that no memory was free for it.
    pub fn note_lack(&self) {
        self.0.place.places.note_lack();
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        // Before the place is free, so that there are never more holders than places.
        self.place.places.table().taken.remove(&self.number);
    }
}

impl Holder {
    fn is_stalled(&self, now: u64) -> bool {
        lasted(self.handed_at.load(Relaxed), now).is_some_and(|time| time >= STALL_TIME)
    }

    /// Whether it keeps memory, and its client does not take it at a fair rate.
    fn hoards(&self, now: u64) -> bool {
        let bytes = self.held_bytes.load(Relaxed);
        if bytes == 0 {
            return false;
        }
        let fair = RATE_GRACE + Duration::from_secs(bytes / MIN_HELD_RATE);
        self.is_stalled(now)
            || lasted(self.held_at.load(Relaxed), now).is_some_and(|time| time >= fair)
    }

    /// Its rate, in bytes per second, if its client stands still (0) or crawls.
    fn crawls(&self, now: u64) -> Option<u64> {
        if self.is_stalled(now) {
            return Some(0);
        }
        let age = lasted(self.began_at, now).filter(|age| *age >= RATE_GRACE)?;
        let rate = self.sent_bytes.load(Relaxed) / age.as_secs().max(1);
        // Where the server itself has nothing to hand over, the client is not to blame.
        (rate < MIN_RATE && self.handed_at.load(Relaxed) != 0).then_some(rate)
    }
}

/// The time since an instant that is not 0.
fn lasted(since: u64, now: u64) -> Option<Duration> {
    (since != 0).then(|| Duration::from_millis(now.saturating_sub(since)))
}
