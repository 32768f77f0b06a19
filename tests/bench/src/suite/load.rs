//! Loads: many small requests over connections that stay open, and downloads of large files.
//!
//! Both sides of a comparison get the same requests from the same code. It shares the machine's
//! processors with what it measures: the requests of a load come from one thread, downloads from
//! one per connection.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    http::{self, Connection},
    series::float,
};

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Answers per second.
    pub(crate) rate: f64,
    /// Milliseconds within which half of the answers came.
    pub(crate) p50: f64,
    /// Milliseconds within which 99 % of the answers came.
    pub(crate) p99: f64,
}

/// Asks for `targets` in turn over `connections` connections, each beginning elsewhere and asking
/// again as soon as it has its answer, for as long as `time`; the first tenth does not count. Every
/// answer must have `status`.
///
/// # Errors
/// When a connection breaks or another status comes.
pub(crate) fn requests(
    address: SocketAddr,
    targets: &[String],
    status: u16,
    connections: usize,
    time: Duration,
) -> Result<Load> {
    ensure!(!targets.is_empty(), "there is nothing to ask for");
    let requests: Arc<Vec<Vec<u8>>> =
        Arc::new(targets.iter().map(|target| http::get(target)).collect());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut latencies: Vec<u32> = runtime.block_on(async {
        let mut running = JoinSet::new();
        let begin = Instant::now();
        let (from, to) = (begin + time / 10, begin + time / 10 + time);
        for number in 0..connections {
            let asker = Asker {
                requests: Arc::clone(&requests),
                next: number * requests.len() / connections,
                status,
            };
            running.spawn(asker.run(address, from, to));
        }
        let mut all = Vec::new();
        while let Some(one) = running.join_next().await {
            all.extend(one??);
        }
        Ok::<_, anyhow::Error>(all)
    })?;
    ensure!(!latencies.is_empty(), "no answer came within {time:?}");
    latencies.sort_unstable();
    let percentile =
        |percent: usize| f64::from(latencies[(latencies.len() - 1) * percent / 100]) / 1000.0;
    let rate = float(latencies.len() as u64) / time.as_secs_f64();
    Ok(Load { rate, p50: percentile(50), p99: percentile(99) })
}

struct Asker {
    requests: Arc<Vec<Vec<u8>>>,
    next: usize,
    status: u16,
}

impl Asker {
    /// Microseconds that each answer took that came between `from` and `to`.
    async fn run(mut self, address: SocketAddr, from: Instant, to: Instant) -> Result<Vec<u32>> {
        let mut stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (mut buffer, mut latencies) = (vec![0; 16 << 10], Vec::new());
        loop {
            let asked = Instant::now();
            stream.write_all(&self.requests[self.next]).await?;
            self.next = (self.next + 1) % self.requests.len();
            self.read(&mut stream, &mut buffer).await?;
            let now = Instant::now();
            if now >= to {
                return Ok(latencies);
            }
            if now >= from {
                latencies.push(u32::try_from((now - asked).as_micros()).unwrap_or(u32::MAX));
            }
        }
    }

    async fn read(&self, stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
        let mut held = 0;
        loop {
            ensure!(held < buffer.len(), "an answer longer than a narinfo");
            let count = stream.read(&mut buffer[held..]).await?;
            ensure!(count > 0, "the connection ended");
            held += count;
            if let Some(head) = http::head(&buffer[..held])? {
                ensure!(
                    head.status == self.status,
                    "status {} where {} was expected",
                    head.status,
                    self.status
                );
                if held as u64 >= head.len as u64 + head.body {
                    return Ok(());
                }
            }
        }
    }
}

/// What downloads came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Download {
    /// Bytes of the bodies.
    pub(crate) bytes: u64,
    /// How long it took until the last was there.
    pub(crate) time: Duration,
}

impl Download {
    /// Megabytes per second on the wire.
    pub(crate) fn rate(&self) -> f64 {
        float(self.bytes) / 1e6 / self.time.as_secs_f64()
    }
}

/// `targets` as often as `times`, one round after the other.
pub(crate) fn rounds(targets: &[String], times: usize) -> Vec<String> {
    std::iter::repeat_n(targets, times).flatten().cloned().collect()
}

/// Fetches every target once over `connections` connections; whichever is free takes the next.
///
/// # Errors
/// When one does not come whole.
pub(crate) fn download(
    address: SocketAddr,
    targets: &[String],
    connections: usize,
) -> Result<Download> {
    let next = AtomicUsize::new(0);
    let fetch = || {
        let mut connection = Connection::open(address)?;
        let mut bytes = 0;
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            bytes += connection.fetch(target, &mut |_| {})?;
        }
        Ok::<u64, anyhow::Error>(bytes)
    };
    let began = Instant::now();
    let bytes = thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(fetch)).collect();
        threads
            .into_iter()
            .map(|one| one.join().map_err(|_| anyhow!("a download panicked"))?)
            .sum::<Result<u64>>()
    })?;
    Ok(Download { bytes, time: began.elapsed() })
}
