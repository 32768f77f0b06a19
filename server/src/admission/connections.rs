//! Connections: how many there are, what each one does, and which of them has to go.
//!
//! Invariant: no connection stays open for longer than its deadlines without a request, and none
//! keeps a response for longer than the write deadline without taking bytes of it. So a place comes
//! back, whatever a client does.
//!
//! A new connection always gets a place while another one is idle: the one that is idle the longest
//! is closed for it, one that has never asked for anything before all others. Where every
//! connection is at work, a few more are taken, on which only health checks are answered. What a
//! connection does is noted by `http/`; the deadlines are applied by [`Connections::sweep`], which
//! the accept loop calls about once a second.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

/// Connections beyond the limit, for health checks alone.
const MAX_RESERVE: usize = 32;
/// Requests that a connection may have under way however many there are on others.
const MIN_REQUESTS_PER_CONNECTION: u32 = 2;
/// A connection that was asked to end is closed after this.
const MAX_FINISH: Duration = Duration::from_secs(5);
/// A write that waits for this long makes way for a new connection.
const STALL_TIME: Duration = Duration::from_secs(1);
/// Bytes that have to leave within the write deadline.
const MIN_PROGRESS_BYTES: u64 = 64 * 1024;

/// Bounds on connections and on the requests on them.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at the same time.
    pub connections: usize,
    /// Of these, from one address.
    pub per_address: usize,
    /// Requests under way at the same time.
    pub requests: usize,
    /// From the beginning of a connection to the end of its first request's head.
    pub first_request: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For a response that makes no progress.
    pub write: Duration,
}

/// All connections of the server. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: ConnectionLimits,
    began_at: Instant,
    requests: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Arc<Connection>>,
    per_address: HashMap<IpAddr, usize>,
    last_number: u64,
}

/// What one connection does. Times are milliseconds since the server began, and 0 for none.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    address: Option<IpAddr>,
    is_reserve: bool,
    has_asked: AtomicBool,
    requests: AtomicU32,
    idle_since: AtomicU64,
    blocked_since: AtomicU64,
    left_since_blocked: AtomicU64,
    responses: Mutex<Vec<Arc<OpenResponse>>>,
    finish: CancellationToken,
    close: CancellationToken,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub struct ConnectionPlace {
    all: Connections,
    connection: Arc<Connection>,
}

/// A request under way, until its response has been handed over or given up.
#[derive(Debug)]
pub struct RequestPlace {
    all: Connections,
    connection: Arc<Connection>,
}

/// A response on a connection that has others beside it.
#[derive(Debug)]
pub struct OpenResponse {
    all: Connections,
    /// When the client was handed the bytes that it has not taken yet.
    handed_at: AtomicU64,
    ending: Ending,
}

/// How a response is broken off.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Who it is for: its connection, or, behind a proxy, an address.
    pub client: u64,
    /// Ends the response alone, where it has a stream of its own.
    pub stream: Option<CancellationToken>,
    /// Ends its connection.
    pub close: CancellationToken,
}

impl Ending {
    /// Breaks the response off; one that has left its stream already, with its connection.
    pub fn end(&self) {
        match &self.stream {
            Some(stream) if !stream.is_cancelled() => stream.cancel(),
            _ => self.close.cancel(),
        }
    }
}

impl Connections {
    /// None are open.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        let (requests, table) = (AtomicUsize::new(0), Mutex::default());
        Self(Arc::new(Shared { limits, began_at: Instant::now(), requests, table }))
    }

    /// A place for a connection from `address`, which is `None` where the address stands for many
    /// clients. Where a limit is reached, another connection is closed for it: one that is idle, or
    /// else one that does not read. Where there is no such connection, it is one of the reserve;
    /// `None` when that is taken as well.
    #[must_use]
    pub fn admit(&self, address: Option<IpAddr>) -> Option<ConnectionPlace> {
        let (limits, now) = (&self.0.limits, self.now());
        let mut table = self.table();
        let of_address =
            address.and_then(|address| table.per_address.get(&address).copied()).unwrap_or(0);
        let is_ordinary = |connection: &Connection| !connection.is_reserve;
        let is_over_share = of_address >= limits.per_address
            && !table
                .evict(now, |connection| is_ordinary(connection) && connection.address == address);
        let reserve = table.open.len()
            - table.open.values().filter(|connection| is_ordinary(connection)).count();
        let is_full =
            table.open.len() - reserve >= limits.connections && !table.evict(now, is_ordinary);
        let is_reserve = is_over_share || is_full;
        if is_reserve
            && reserve >= MAX_RESERVE
            && !table.evict(now, |connection| connection.is_reserve)
        {
            let reason = if is_over_share { "address" } else { "all" };
            counter!("snowbank_connections_refused_total", "reason" => reason).increment(1);
            return None;
        }
        table.last_number += 1;
        let connection = Arc::new(Connection {
            number: table.last_number,
            address,
            is_reserve,
            has_asked: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            idle_since: AtomicU64::new(now),
            blocked_since: AtomicU64::new(0),
            left_since_blocked: AtomicU64::new(0),
            responses: Mutex::default(),
            finish: CancellationToken::new(),
            close: CancellationToken::new(),
        });
        table.open.insert(connection.number, Arc::clone(&connection));
        if let Some(address) = address {
            *table.per_address.entry(address).or_default() += 1;
        }
        Some(ConnectionPlace { all: self.clone(), connection })
    }

    /// Applies the deadlines.
    pub fn sweep(&self) {
        let (limits, now) = (&self.0.limits, self.now());
        let open: Vec<Arc<Connection>> = self.table().open.values().cloned().collect();
        #[expect(clippy::cast_precision_loss, reason = "a number of connections")]
        gauge!("snowbank_connections").set(open.len() as f64);
        for connection in open {
            if let Some(reason) = connection.overdue(limits, now) {
                counter!("snowbank_connections_closed_total", "reason" => reason).increment(1);
            }
        }
    }

    fn now(&self) -> u64 {
        // 0 means none.
        u64::try_from(self.0.began_at.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Closes the connection that is idle the longest, or else the one whose write waits the
    /// longest.
    fn evict(&mut self, now: u64, among: impl Fn(&Connection) -> bool) -> bool {
        let candidates = || self.open.values().filter(|connection| among(connection));
        let idle = candidates().filter(|connection| connection.requests.load(Relaxed) == 0);
        let longest =
            idle.min_by_key(|c| (c.has_asked.load(Relaxed), c.idle_since.load(Relaxed), c.number));
        let stalled = || {
            let blocked =
                candidates().map(|connection| (connection.blocked_since.load(Relaxed), connection));
            blocked
                .filter(|(since, _)| {
                    *since != 0 && now.saturating_sub(*since) >= millis(STALL_TIME)
                })
                .max_by_key(|(since, _)| Reverse(*since))
                .map(|(_, connection)| connection)
        };
        let Some(number) = longest.or_else(stalled).map(|connection| connection.number) else {
            return false;
        };
        if let Some(connection) = self.remove(number) {
            counter!("snowbank_connections_closed_total", "reason" => "place-needed").increment(1);
            connection.close.cancel();
        }
        true
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let connection = self.open.remove(&number)?;
        if let Some(address) = connection.address
            && let Some(count) = self.per_address.get_mut(&address)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        Some(connection)
    }
}

impl Connection {
    /// Ends what is over its deadline, and says which one.
    fn overdue(&self, limits: &ConnectionLimits, now: u64) -> Option<&'static str> {
        let lasted =
            |since: u64, limit: Duration| since != 0 && now.saturating_sub(since) > millis(limit);
        if lasted(self.blocked_since.load(Relaxed), limits.write) {
            self.close.cancel();
            return Some("write-timeout");
        }
        let mut stalled = None;
        for response in self.responses().iter() {
            if lasted(response.handed_at.load(Relaxed), limits.write) {
                response.ending.end();
                stalled = Some("write-timeout");
            }
        }
        if stalled.is_some() || self.requests.load(Relaxed) != 0 {
            return stalled;
        }
        let idle_since = self.idle_since.load(Relaxed);
        if !self.has_asked.load(Relaxed) {
            return lasted(idle_since, limits.first_request).then(|| {
                self.close.cancel();
                "silent"
            });
        }
        if lasted(idle_since, limits.idle + MAX_FINISH) {
            self.close.cancel();
        } else if lasted(idle_since, limits.idle) && !self.finish.is_cancelled() {
            self.finish.cancel();
            return Some("idle");
        }
        None
    }

    fn responses(&self) -> MutexGuard<'_, Vec<Arc<OpenResponse>>> {
        self.responses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPlace {
    /// The place of a request, until it is dropped; `None` when the server has as many under way as
    /// it may.
    #[must_use]
    pub fn request(&self) -> Option<RequestPlace> {
        let (all, connection) = (self.all.clone(), Arc::clone(&self.connection));
        connection.has_asked.store(true, Relaxed);
        let own = connection.requests.fetch_add(1, Relaxed) + 1;
        let count = all.0.requests.fetch_add(1, Relaxed) + 1;
        // Dropped, it takes back what was added.
        let place = RequestPlace { all, connection };
        if own > MIN_REQUESTS_PER_CONNECTION && count > place.all.0.limits.requests {
            counter!("snowbank_requests_refused_total").increment(1);
            return None;
        }
        Some(place)
    }

    /// Tells it from all other connections.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.connection.number
    }

    /// Whether a request has come.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        self.connection.has_asked.load(Relaxed)
    }

    /// Whether only health checks are to be answered.
    #[must_use]
    pub fn is_reserve(&self) -> bool {
        self.connection.is_reserve
    }

    /// Waits until the connection is to be closed at once.
    pub async fn closed(&self) {
        self.connection.close.cancelled().await;
    }

    /// Waits until the connection is to end as soon as nothing is under way.
    pub async fn finishing(&self) {
        self.connection.finish.cancelled().await;
    }

    /// Notes that a write has to wait for the client.
    pub fn note_blocked(&self) {
        let now = self.all.now();
        if self.connection.blocked_since.compare_exchange(0, now, Relaxed, Relaxed).is_ok() {
            self.connection.left_since_blocked.store(0, Relaxed);
        }
    }

    /// Notes that `bytes` have left.
    pub fn note_written(&self, bytes: u64) {
        let connection = &self.connection;
        if connection.blocked_since.load(Relaxed) != 0
            && connection.left_since_blocked.fetch_add(bytes, Relaxed) + bytes >= MIN_PROGRESS_BYTES
        {
            connection.blocked_since.store(0, Relaxed);
        }
    }

    /// Notes that everything has left.
    pub fn note_flushed(&self) {
        self.connection.blocked_since.store(0, Relaxed);
    }

    /// How a response with this stream is broken off.
    #[must_use]
    pub fn ending(&self, stream: Option<CancellationToken>) -> Ending {
        Ending { client: self.connection.number, stream, close: self.connection.close.clone() }
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.all.table().remove(self.connection.number);
    }
}

impl RequestPlace {
    /// Watches a response that has a stream of its own.
    #[must_use]
    pub fn open_response(&self, ending: Ending) -> Arc<OpenResponse> {
        let response =
            Arc::new(OpenResponse { all: self.all.clone(), handed_at: AtomicU64::new(0), ending });
        self.connection.responses().push(Arc::clone(&response));
        response
    }

    /// Watches it no longer.
    pub fn close_response(&self, response: &Arc<OpenResponse>) {
        self.connection.responses().retain(|other| !Arc::ptr_eq(other, response));
    }
}

impl Drop for RequestPlace {
    fn drop(&mut self) {
        self.all.0.requests.fetch_sub(1, Relaxed);
        self.connection.idle_since.store(self.all.now(), Relaxed);
        self.connection.requests.fetch_sub(1, Relaxed);
    }
}

impl OpenResponse {
    /// Notes that the client has bytes to take.
    pub fn note_handed(&self) {
        self.handed_at.store(self.all.now(), Relaxed);
    }

    /// Notes that the client has taken what it was handed.
    pub fn note_taken(&self) {
        self.handed_at.store(0, Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
