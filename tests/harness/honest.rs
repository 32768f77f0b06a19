//! Honest clients beside whatever else happens to a server: narinfos, the health check, small
//! pushes, a download, over and over.
//!
//! What they meet with is noted. A narinfo is asked for at fixed times; where one answer takes
//! longer than that, the requests that would have been made meanwhile count as well, each with the
//! rest of the time: else a server that stands still for a second would look as if one request had
//! been slow.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    Api, Pusher, Random,
    craft::{Deposit, Node},
    hostile::{Ground, connection, get},
    pusher::PushFailed,
};

/// Where honest clients come from.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 201, 0, 1);
/// How often each of the two clients, one that keeps its connection and one that does not, asks for
/// a narinfo.
const NARINFO_EVERY: Duration = Duration::from_millis(20);
const READYZ_EVERY: Duration = Duration::from_millis(200);
/// Pause between two pushes, and between two downloads.
const PAUSE: Duration = Duration::from_millis(500);
/// How long each of these may take before it has failed.
const NARINFO_LIMIT: Duration = Duration::from_secs(10);
const READYZ_LIMIT: Duration = Duration::from_secs(5);
const PUSH_LIMIT: Duration = Duration::from_secs(30);
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a pushed file.
const PUSHED_BYTES: usize = 100_000;

/// How long something took, each time.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    times: Vec<Duration>,
    /// How often it succeeded.
    pub done: usize,
    /// How often it failed, or took too long.
    pub failed: usize,
    why: Option<String>,
}

impl Waits {
    fn add(&mut self, time: Duration, outcome: Result<(), String>) {
        self.times.push(time);
        match outcome {
            Ok(()) => self.done += 1,
            Err(why) => {
                self.failed += 1;
                self.why.get_or_insert(why);
            }
        }
    }

    /// Adds the requests that would have been made while this one was under way.
    fn add_missed(&mut self, time: Duration, every: Duration) {
        let mut left = time.saturating_sub(every);
        while left > every {
            self.times.push(left);
            left -= every;
        }
    }

    fn join(mut self, other: Self) -> Self {
        self.times.extend(other.times);
        let (done, failed) = (self.done + other.done, self.failed + other.failed);
        Self { times: self.times, done, failed, why: self.why.or(other.why) }
    }

    /// The time within which `percent` of them ended; zero where there were none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
    }

    /// The longest of them.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.times.iter().max().copied().unwrap_or_default()
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let [half, most] = [50, 99].map(|percent| milliseconds(self.percentile(percent)));
        let slowest = milliseconds(self.slowest());
        write!(
            f,
            "{} done, {} failed, p50 {half:.2} ms, p99 {most:.2} ms, slowest {slowest:.0} ms",
            self.done, self.failed
        )?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, "; the first failure: {why}"))
    }
}

/// What honest clients met with.
#[derive(Clone, Debug)]
pub struct Experience {
    /// Narinfos, on a connection that is kept and on new ones.
    pub narinfo: Waits,
    /// `/readyz`, on a new connection each time.
    pub readyz: Waits,
    /// Pushes of a small path.
    pub pushes: Waits,
    /// Downloads of a NAR.
    pub downloads: Waits,
}

/// Honest clients at work.
#[derive(Debug)]
pub struct HonestClients {
    is_over: Arc<AtomicBool>,
    small: JoinHandle<(Waits, Waits)>,
    pushes: JoinHandle<Waits>,
    downloads: JoinHandle<Waits>,
}

impl HonestClients {
    /// Sends them in.
    #[must_use]
    pub fn begin(server: SocketAddr, ground: &Ground) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = || Arc::clone(&is_over);
        let (narinfos, download, token) =
            (ground.narinfos.clone(), ground.download.clone(), ground.honest_token.clone());
        let (over_small, over_pushes, over_downloads) = (over(), over(), over());
        Self {
            small: thread::spawn(move || block_on(small_reads(server, narinfos, over_small))),
            pushes: thread::spawn(move || push(server, &token, &over_pushes)),
            downloads: thread::spawn(move || block_on(downloads(server, download, over_downloads))),
            is_over,
        }
    }

    /// Tells each to begin nothing more.
    pub fn ask_to_end(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// Whether each has finished.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.small.is_finished() && self.pushes.is_finished() && self.downloads.is_finished()
    }

    /// Lets each finish what it has begun, and gives what they met with.
    #[must_use]
    pub fn finish(self) -> Experience {
        self.ask_to_end();
        let (narinfo, readyz) = join(self.small);
        Experience { narinfo, readyz, pushes: join(self.pushes), downloads: join(self.downloads) }
    }
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|_| panic!("an honest client panicked; see above"))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|e| panic!("no runtime: {e}")).block_on(work)
}

async fn small_reads(
    server: SocketAddr,
    narinfos: Vec<String>,
    is_over: Arc<AtomicBool>,
) -> (Waits, Waits) {
    let requests: Vec<Vec<u8>> = narinfos.iter().map(|target| get(target)).collect();
    let narinfo = |keeps_connection| Asker {
        server,
        requests: requests.clone(),
        keeps_connection,
        every: NARINFO_EVERY,
        limit: NARINFO_LIMIT,
        counts_missed: true,
    };
    let readyz = Asker {
        server,
        requests: vec![get("/readyz")],
        keeps_connection: false,
        every: READYZ_EVERY,
        limit: READYZ_LIMIT,
        counts_missed: false,
    };
    let (kept, fresh) = (narinfo(true), narinfo(false));
    let (kept, fresh, readyz) =
        tokio::join!(kept.run(&is_over), fresh.run(&is_over), readyz.run(&is_over));
    (kept.join(fresh), readyz)
}

async fn downloads(server: SocketAddr, target: String, is_over: Arc<AtomicBool>) -> Waits {
    let asker = Asker {
        server,
        requests: vec![get(&target)],
        keeps_connection: false,
        every: PAUSE,
        limit: DOWNLOAD_LIMIT,
        counts_missed: false,
    };
    asker.run(&is_over).await
}

/// Asks for one thing after the other.
struct Asker {
    server: SocketAddr,
    requests: Vec<Vec<u8>>,
    keeps_connection: bool,
    every: Duration,
    limit: Duration,
    /// Whether requests count that would have been made while one was under way.
    counts_missed: bool,
}

impl Asker {
    async fn run(self, is_over: &AtomicBool) -> Waits {
        let (mut waits, mut stream, mut buffer) = (Waits::default(), None, vec![0; 64 << 10]);
        let mut clock = interval(self.every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for request in self.requests.iter().cycle() {
            clock.tick().await;
            if is_over.load(Relaxed) {
                break;
            }
            let began = Instant::now();
            let asked = timeout(self.limit, self.ask(&mut stream, request, &mut buffer)).await;
            let outcome =
                asked.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.limit)));
            let time = began.elapsed();
            if outcome.is_err() || !self.keeps_connection {
                stream = None;
            }
            waits.add(time, outcome);
            if self.counts_missed {
                waits.add_missed(time, self.every);
            }
        }
        waits
    }

    async fn ask(
        &self,
        stream: &mut Option<TcpStream>,
        request: &[u8],
        buffer: &mut [u8],
    ) -> Result<(), String> {
        let open = if let Some(open) = stream {
            open
        } else {
            let opened = connection::connect(ADDRESS, self.server, None).await;
            stream.insert(opened.map_err(|error| format!("cannot connect: {error}"))?)
        };
        let read =
            connection::exchange(open, request, buffer).await.map_err(|error| error.to_string())?;
        if read.status == 200 && read.body > 0 {
            Ok(())
        } else {
            Err(format!("status {}", read.status))
        }
    }
}

/// Pushes something small, over and over; where the server is busy, a push is tried again.
fn push(server: SocketAddr, token: &str, is_over: &AtomicBool) -> Waits {
    // Another seed each time: what has been pushed before would cost nothing.
    let seed =
        getrandom::u64().unwrap_or_else(|e| panic!("the system gives no random number: {e}"));
    let (mut random, mut waits) = (Random::fixed(seed), Waits::default());
    while !is_over.load(Relaxed) {
        let contents = Node::File(random.bytes(PUSHED_BYTES));
        let deposit = Deposit::of(&mut random, "honest", &contents);
        let began = Instant::now();
        let outcome = push_one(server, token, &deposit, began);
        waits.add(began.elapsed(), outcome);
        thread::sleep(PAUSE);
    }
    waits
}

/// One push over connections of its own, as a CI job makes it.
fn push_one(
    server: SocketAddr,
    token: &str,
    deposit: &Deposit,
    began: Instant,
) -> Result<(), String> {
    let url = format!("http://{server}");
    let api = Api::from_address(&url, Some(token), IpAddr::V4(ADDRESS), PUSH_LIMIT);
    let pusher = Pusher::new(&api, "main");
    loop {
        match pusher.try_push(&[deposit]) {
            Ok(_) if began.elapsed() > PUSH_LIMIT => {
                return Err(format!("it took longer than {PUSH_LIMIT:?}"));
            }
            Ok(_) => return Ok(()),
            Err(PushFailed::Unavailable(..)) if began.elapsed() < PUSH_LIMIT => {
                thread::sleep(PAUSE / 5);
            }
            Err(failed) => return Err(failed.to_string()),
        }
    }
}
