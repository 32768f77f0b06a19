//! Connections of hostile clients, and as much of HTTP/1.1 as those and honest ones need.

use std::{
    io::{Error, ErrorKind, Result},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::tally::Counters;

/// How long a client tries to connect before it tries anew.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes that the system keeps for a client that does not read: the least that it allows.
const LITTLE: u32 = 4096;

/// A server under attack, and the attackers' addresses.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) server: SocketAddr,
    pub(super) addresses: u16,
    pub(super) counters: Counters,
}

impl Line {
    /// Connects from the address of client `number`, with little room for what the server sends.
    pub(super) async fn connect(&self, number: usize) -> Result<TcpStream> {
        let [high, low] =
            u16::try_from(number % usize::from(self.addresses.max(1))).unwrap_or(0).to_be_bytes();
        let connected =
            connect(Ipv4Addr::new(127, 200, high, low), self.server, Some(LITTLE)).await;
        Counters::add(if connected.is_ok() {
            &self.counters.opened
        } else {
            &self.counters.unconnected
        });
        connected
    }
}

/// Connects from `from` to `server`, giving up after a while.
pub(crate) async fn connect(
    from: Ipv4Addr,
    server: SocketAddr,
    buffer: Option<u32>,
) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
    let stream = timeout(CONNECT_LIMIT, socket.connect(server)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A `GET` of `target`, which begins with a slash, without a token.
#[must_use]
pub fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: snowbank\r\n\r\n").into_bytes()
}

/// The head of a `POST` of `length` bytes.
pub(super) fn post_head(target: &str, token: &str, content_type: &str, length: usize) -> Vec<u8> {
    format!(
        "POST {target} HTTP/1.1\r\nHost: snowbank\r\nAuthorization: Bearer \
         {token}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// The status in the first bytes of an answer.
pub(super) fn status(bytes: &[u8]) -> Option<u16> {
    std::str::from_utf8(bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

/// An answer that was read to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) status: u16,
    pub(crate) body: u64,
}

/// Sends `request` and reads the whole answer, which must say its length.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut [u8],
) -> Result<Read> {
    let bad = |what| Error::new(ErrorKind::InvalidData, what);
    stream.write_all(request).await?;
    let mut filled = 0;
    let end = loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        filled += count;
        if let Some(at) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let status = status(&buffer[..end]).ok_or_else(|| bad("an answer without a status"))?;
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<u64>().ok());
    let body = length.ok_or_else(|| bad("an answer without a length"))?;
    let mut done = (filled - end) as u64;
    while done < body {
        let count = stream.read(buffer).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        done += count as u64;
    }
    Ok(Read { status, body })
}
