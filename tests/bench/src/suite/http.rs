//! Just enough of HTTP/1.1 to ask for files and to read answers of a known length, at little cost:
//! what asks shares the processors with what is measured.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, bail, ensure};
use memchr::memmem;

/// Where an answer's body begins, and how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status.
    pub(crate) status: u16,
    /// Bytes of the head.
    pub(crate) len: usize,
    /// Bytes of the body.
    pub(crate) body: u64,
}

/// The head of an answer; `None` while it is not whole.
///
/// # Errors
/// When it is none, or does not say how long the body is.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).context("the answer's head is no text")?;
    let (first, rest) = text.split_once("\r\n").unwrap_or((text, ""));
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let mut fields = rest.split("\r\n").filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body = length.and_then(|(_, value)| value.trim().parse().ok());
    match (status, body) {
        (Some(status), Some(body)) => Ok(Some(Head { status, len: end + 4, body })),
        _ => bail!("an answer without a status or a length: {text}"),
    }
}

/// A request for `target` that leaves the connection open.
pub(crate) fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: snowbank\r\n\r\n").into_bytes()
}

/// A connection over which one file after the other is fetched.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Bytes that are read at a time.
    const BUFFER: usize = 256 << 10;

    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; Self::BUFFER] })
    }

    /// Fetches `target`, gives its body to `take` in pieces, and gives the body's length.
    ///
    /// # Errors
    /// When no whole answer with status 200 comes.
    pub(crate) fn fetch(&mut self, target: &str, take: &mut dyn FnMut(&[u8])) -> Result<u64> {
        self.stream.write_all(&get(target))?;
        let mut len = 0;
        let head = loop {
            let count = self.stream.read(&mut self.buffer[len..])?;
            ensure!(count > 0, "{target}: the connection ended before the answer");
            len += count;
            if let Some(head) = head(&self.buffer[..len])? {
                break head;
            }
        };
        ensure!(head.status == 200, "{target}: status {}", head.status);
        take(&self.buffer[head.len..len]);
        let mut done = (len - head.len) as u64;
        while done < head.body {
            let count = self.stream.read(&mut self.buffer)?;
            ensure!(count > 0, "{target}: the connection ended within the answer");
            take(&self.buffer[..count]);
            done += count as u64;
        }
        ensure!(done == head.body, "{target}: more came than was announced");
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let answer = b"HTTP/1.1 404 Not Found\r\nServer: x\r\ncontent-Length: 12\r\n\r\nnot found";
        assert_eq!(head(&answer[..40]).unwrap(), None);
        assert_eq!(
            head(answer).unwrap(),
            Some(Head { status: 404, len: answer.len() - 9, body: 12 })
        );
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
