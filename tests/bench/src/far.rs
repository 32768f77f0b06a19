//! A server whose storage is an S3 server behind a proxy that adds time to every request.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use snowbank_harness::{
    Random, Server,
    s3::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY},
    storage_faults::{Faults, StorageFaults},
};

/// Bytes that a download is read in.
const BUFFER: usize = 256 * 1024;

/// The server and its storage.
pub(crate) struct FarServer {
    // Ended before what it uses.
    pub(crate) server: Server,
    proxy: StorageFaults,
    s3: S3Server,
}

impl FarServer {
    /// Starts both; every request to the storage takes `latency` longer.
    pub(crate) fn start(latency: Duration) -> Self {
        Self::start_with(latency, "")
    }

    /// The same with more settings.
    pub(crate) fn start_with(latency: Duration, settings: &str) -> Self {
        let s3 = S3Server::start();
        let proxy = StorageFaults::before(s3.address(), Random::fixed(1));
        proxy.set(Faults { latency, ..Faults::default() });
        let config = format!(
            "[storage]\ntype = \"s3\"\nbucket = \"{BUCKET}\"\nendpoint = \
             \"http://{}\"\naccess-key-id = \"{ACCESS_KEY_ID}\"\nsecret-access-key = \
             \"{SECRET_ACCESS_KEY}\"\n{settings}",
            proxy.address()
        );
        Self { server: Server::options().config(&config).start(), proxy, s3 }
    }

    /// GETs that the storage has answered.
    pub(crate) fn gets(&self) -> u64 {
        self.s3.counts().get("get").copied().unwrap_or(0)
    }

    /// All requests to the storage.
    pub(crate) fn requests(&self) -> u64 {
        self.proxy.done().requests
    }

    /// Reads `url`, relative to the cache `main`, to its end, and gives its bytes and how long that
    /// took.
    pub(crate) fn download(&self, url: &str) -> anyhow::Result<(u64, Duration)> {
        let started = Instant::now();
        let mut stream =
            TcpStream::connect(self.server.address()).context("the server does not listen")?;
        write!(stream, "GET /main/{url} HTTP/1.1\r\nHost: snowbank\r\nConnection: close\r\n\r\n")?;
        let mut buffer = vec![0; BUFFER];
        let mut head = Vec::new();
        let body_at = loop {
            let count = stream.read(&mut buffer)?;
            ensure!(count > 0, "the answer has no head");
            head.extend_from_slice(&buffer[..count]);
            if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head[..body_at]));
        let mut bytes = (head.len() - body_at) as u64;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok((bytes, started.elapsed())),
                count => bytes += count as u64,
            }
        }
    }
}
