//! A proxy that makes loopback a link: so many bits per second each way, shared by all connections,
//! and every byte arrives a fixed time after it has left.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use snowbank_harness::process;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    runtime::Runtime,
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Bytes that leave in one piece.
const PIECE: usize = 16 << 10;
/// How much time that passed unused may be made up for: timers are late by a millisecond or so.
const CREDIT: Duration = Duration::from_millis(4);

/// The proxy. Connections under way are cut when it is dropped.
#[derive(Debug)]
pub(crate) struct SlowLink {
    address: SocketAddr,
    up: Arc<Lane>,
    down: Arc<Lane>,
    runtime: Option<Runtime>,
}

impl SlowLink {
    /// Starts one before `upstream`; `delay` is that of each direction.
    pub(crate) fn before(
        upstream: SocketAddr,
        bits_per_second: u32,
        delay: Duration,
    ) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let address = process::own_address();
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let [up, down] = [(); 2].map(|()| Arc::new(Lane::new(bits_per_second, delay)));
        runtime.spawn(accept(listener, upstream, Arc::clone(&up), Arc::clone(&down)));
        Ok(Self { address, up, down, runtime: Some(runtime) })
    }

    /// `http://127.…:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that have passed to the server, and from it.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.up.bytes.load(Ordering::Relaxed), self.down.bytes.load(Ordering::Relaxed))
    }

    /// How long `bytes` in one plain stream take on such a link until their receiver's answer is
    /// there: what the link is worth by itself.
    pub(crate) fn plain_stream(
        bytes: usize,
        bits_per_second: u32,
        delay: Duration,
    ) -> Result<Duration> {
        let listener = std::net::TcpListener::bind(process::own_address())?;
        let link = Self::before(listener.local_addr()?, bits_per_second, delay)?;
        let other_end = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let received = io::copy(&mut (&mut stream).take(bytes as u64), &mut io::sink())?;
            stream.write_all(&received.to_le_bytes())
        });
        let began = Instant::now();
        let mut stream = std::net::TcpStream::connect(link.address)?;
        stream.write_all(&vec![0; bytes])?;
        let mut received = [0; 8];
        stream.read_exact(&mut received)?;
        let took = began.elapsed();
        other_end.join().map_err(|_| anyhow!("the receiver panicked"))??;
        ensure!(u64::from_le_bytes(received) == bytes as u64, "not all bytes have passed");
        Ok(took)
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One direction.
#[derive(Debug)]
struct Lane {
    seconds_per_byte: f64,
    delay: Duration,
    /// When the last piece has left.
    free: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Lane {
    fn new(bits_per_second: u32, delay: Duration) -> Self {
        let seconds_per_byte = 8.0 / f64::from(bits_per_second);
        Self { seconds_per_byte, delay, free: Mutex::new(Instant::now()), bytes: AtomicU64::new(0) }
    }

    /// When the next `len` bytes will have left.
    fn reserve(&self, len: usize) -> Instant {
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        let time = Duration::from_secs_f64(
            self.seconds_per_byte * f64::from(u32::try_from(len).unwrap_or(u32::MAX)),
        );
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = Instant::now().checked_sub(CREDIT).unwrap_or(*free);
        *free = (*free).max(earliest) + time;
        *free
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, up: Arc<Lane>, down: Arc<Lane>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        let (up, down) = (Arc::clone(&up), Arc::clone(&down));
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(upstream).await else { return };
            // Harmless when it fails: only slower.
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::join!(carry(near_in, far_out, &up), carry(far_in, near_out, &down));
        });
    }
}

/// Carries bytes one way until either end has had enough.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lane: &Lane) {
    // Never more than what is on its way: each piece has left before the next is read.
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let send = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(len @ 1..) = from.read(&mut piece).await {
            let left = lane.reserve(len);
            sleep_until(left).await;
            if sender.send((left + lane.delay, piece[..len].to_vec())).is_err() {
                break;
            }
        }
    };
    let receive = async move {
        while let Some((arrives, piece)) = receiver.recv().await {
            sleep_until(arrives).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The other end may have gone already.
        let _ = to.shutdown().await;
    };
    tokio::join!(send, receive);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_counted_and_comes_whole() {
        let took =
            SlowLink::plain_stream(1_000_000, 1_000_000_000, Duration::from_millis(1)).unwrap();
        assert!(
            took >= Duration::from_millis(9),
            "a megabyte needs 8 ms at 1 Gbit/s, and 1 ms each way: {took:?}"
        );
    }
}
