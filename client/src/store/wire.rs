//! The worker protocol's primitives: little-endian 64-bit integers, and strings padded with zeros
//! to eight bytes.
//!
//! Source: Nix's `serialise.hh`. Whatever the daemon says, no read allocates more than its limit
//! beforehand.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::StoreError;

/// The longest string that is taken from a daemon, in bytes.
const MAX_STRING_BYTES: u64 = 1 << 20;
/// The longest list.
const MAX_LIST_ENTRIES: u64 = 4 << 20;

/// Why a read failed: the connection, or what came over it.
#[derive(Debug)]
pub(super) enum WireError {
    Io(io::Error),
    Refused(StoreError),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for WireError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// A message of a form that the protocol does not have.
pub(super) fn malformed(what: impl Into<String>) -> WireError {
    WireError::Refused(StoreError::Protocol(what.into()))
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_u64(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len() + (8 - text.len() % 8) % 8, 0);
}

pub(super) async fn read_u64(reader: &mut (impl AsyncRead + Unpin)) -> Result<u64, WireError> {
    Ok(reader.read_u64_le().await?)
}

/// A string of any bytes, at most [`MAX_STRING_BYTES`] long.
pub(super) async fn read_bytes(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<Vec<u8>, WireError> {
    let len = read_u64(reader).await?;
    if len > MAX_STRING_BYTES {
        return Err(malformed(format!(
            "it sent a string of {len} bytes; at most {MAX_STRING_BYTES} are taken"
        )));
    }
    let mut bytes = Vec::new();
    let padded = len.next_multiple_of(8);
    (&mut *reader).take(padded).read_to_end(&mut bytes).await?;
    if (bytes.len() as u64) < padded {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let padding = bytes.drain(usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len())..);
    if padding.into_iter().any(|byte| byte != 0) {
        return Err(malformed("it sent a string with padding that is not zero"));
    }
    Ok(bytes)
}

/// A string that must be UTF-8.
pub(super) async fn read_string(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<String, WireError> {
    String::from_utf8(read_bytes(reader).await?)
        .map_err(|_| malformed("it sent a name that is not UTF-8"))
}

/// A string for people: whatever is not UTF-8 in it is replaced, colours and other control
/// sequences go.
pub(super) async fn read_message(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<String, WireError> {
    let bytes = read_bytes(reader).await?;
    Ok(plain(&String::from_utf8_lossy(&bytes)))
}

/// The number of entries of a list that follows.
pub(super) async fn read_count(reader: &mut (impl AsyncRead + Unpin)) -> Result<u64, WireError> {
    let count = read_u64(reader).await?;
    if count > MAX_LIST_ENTRIES {
        return Err(malformed(format!(
            "it sent a list of {count} entries; at most {MAX_LIST_ENTRIES} are taken"
        )));
    }
    Ok(count)
}

pub(super) async fn read_strings(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<Vec<String>, WireError> {
    let mut strings = Vec::new();
    for _ in 0..read_count(reader).await? {
        strings.push(read_string(reader).await?);
    }
    Ok(strings)
}

/// `text` without ANSI escape sequences and control characters.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                while chars.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
            }
        } else if !c.is_control() || matches!(c, '\n' | '\t') {
            plain.push(c);
        }
    }
    plain.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn strings_come_back() {
        let mut bytes = Vec::new();
        let texts = ["", "1234567", "12345678", "123456789"];
        put_u64(&mut bytes, texts.len() as u64);
        for text in texts {
            put_string(&mut bytes, text);
        }
        assert_eq!(bytes.len(), 8 + 8 + 16 + 16 + 24);
        let mut reader = &bytes[..];
        assert_eq!(read_strings(&mut reader).await.unwrap(), texts);
        assert!(reader.is_empty());
    }

    #[tokio::test]
    async fn what_a_daemon_claims_is_not_believed() {
        for (bytes, want) in [
            ([u64::MAX.to_le_bytes().as_slice(), b"x"].concat(), "bytes; at most"),
            ([1u64.to_le_bytes().as_slice(), b"xyyyyyyy"].concat(), "padding"),
            (
                [8u64.to_le_bytes().as_slice(), b"\xff\xff\xff\xff\xff\xff\xff\xff"].concat(),
                "UTF-8",
            ),
        ] {
            match read_string(&mut &bytes[..]).await {
                Err(WireError::Refused(error)) => {
                    assert!(error.to_string().contains(want), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        let short = [1000u64.to_le_bytes().as_slice(), b"abc"].concat();
        assert!(matches!(read_string(&mut &short[..]).await, Err(WireError::Io(_))));
        assert!(matches!(
            read_count(&mut &u64::MAX.to_le_bytes()[..]).await,
            Err(WireError::Refused(_))
        ));
    }

    #[test]
    fn messages_lose_their_colours() {
        assert_eq!(plain("\u{1b}[31;1merror:\u{1b}[0m no\u{7}\n"), "error: no");
    }
}
