//! One connection to Nix: how it is made, the handshake, and the messages that come before each
//! answer.
//!
//! Source: Nix's `worker-protocol.hh`, `remote-store.cc`, `daemon.cc`. Spoken is version 1.34 (Nix
//! 2.8's), or the daemon's if that is lower, down to 1.21 (Nix 2.3's); a newer daemon speaks ours.

use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::StoreError;
use super::location::{Access, Location};
use super::stdio::OwnDaemon;
use super::wire::{
    WireError, malformed, put_u64, read_bytes, read_count, read_message, read_string, read_u64,
};

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;
/// Major and minor version.
const CLIENT_VERSION: (u64, u64) = (1, 34);
/// Nix 2.3, the oldest in use.
const OLDEST_MINOR: u64 = 21;

/// The messages between a request and its answer.
mod message {
    pub const NEXT: u64 = 0x6f6c_6d67;
    pub const READ: u64 = 0x6461_7461;
    pub const WRITE: u64 = 0x6461_7416;
    pub const LAST: u64 = 0x616c_7473;
    pub const ERROR: u64 = 0x6378_7470;
    pub const START_ACTIVITY: u64 = 0x5354_5254;
    pub const STOP_ACTIVITY: u64 = 0x5354_4f50;
    pub const RESULT: u64 = 0x5253_4c54;
}

pub(super) type Reader = BufReader<Box<dyn AsyncRead + Send + Unpin>>;
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection on which a request may be sent. After any error it must not be used again.
pub(super) struct Connection {
    pub reader: Reader,
    pub writer: Writer,
    /// The lower of both sides' minor versions.
    pub minor: u64,
    /// The `nix-daemon` at the other end, if it is ours. Killed on drop.
    daemon: Option<OwnDaemon>,
}

impl Connection {
    /// Connects, and greets.
    pub(super) async fn open(location: &Location) -> Result<Self, StoreError> {
        let mut connection = match &location.access {
            Access::Socket(socket) => Self::connect(socket)
                .await
                .map_err(|source| StoreError::Connect { socket: socket.clone(), source })?,
            Access::Stdio(uri) => Self::start(uri)?,
            Access::SocketOrStdio(socket, uri) => match Self::connect(socket).await {
                Ok(connection) => connection,
                Err(error) if is_nobody_there(&error) => Self::start(uri)?,
                Err(source) => {
                    return Err(StoreError::Connect { socket: socket.clone(), source });
                }
            },
        };
        match connection.greet().await {
            Ok(()) => Ok(connection),
            Err(error) => Err(connection.explain(error).await),
        }
    }

    async fn connect(socket: &Path) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        Ok(Self::new(Box::new(reader), Box::new(writer), None))
    }

    fn start(uri: &str) -> Result<Self, StoreError> {
        let (daemon, stdin, stdout) = OwnDaemon::start(uri)?;
        Ok(Self::new(Box::new(stdout), Box::new(stdin), Some(daemon)))
    }

    fn new(
        reader: Box<dyn AsyncRead + Send + Unpin>,
        writer: Writer,
        daemon: Option<OwnDaemon>,
    ) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, reader), writer, minor: 0, daemon }
    }

    async fn greet(&mut self) -> Result<(), WireError> {
        let mut hello = Vec::new();
        put_u64(&mut hello, CLIENT_MAGIC);
        self.send(&hello).await?;
        if read_u64(&mut self.reader).await? != DAEMON_MAGIC {
            return Err(malformed("what answers is no Nix daemon"));
        }
        let theirs = read_u64(&mut self.reader).await?;
        let (major, minor) = (theirs >> 8, theirs & 0xff);
        if major != CLIENT_VERSION.0 || minor < OLDEST_MINOR {
            return Err(malformed(format!(
                "it speaks protocol {major}.{minor}; spoken here are 1.{OLDEST_MINOR} (Nix 2.3) to \
                 all later 1.x"
            )));
        }
        self.minor = minor.min(CLIENT_VERSION.1);

        let mut hello = Vec::new();
        put_u64(&mut hello, CLIENT_VERSION.0 << 8 | CLIENT_VERSION.1);
        put_u64(&mut hello, 0); // CPU affinity, obsolete
        put_u64(&mut hello, 0); // reserve space, obsolete
        self.send(&hello).await?;
        // The daemon's trust in us comes with 1.35, features with 1.38; a client of 1.34 is sent
        // neither.
        if self.minor >= 33 {
            let version = read_message(&mut self.reader).await?;
            tracing::debug!("talking to Nix {version}, protocol 1.{}", self.minor);
        }
        self.await_answer().await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.writer.write_all(bytes).await?;
        Ok(self.writer.flush().await?)
    }

    /// Reads what comes before an answer. The answer's fields are next when this returns.
    pub(super) async fn await_answer(&mut self) -> Result<(), WireError> {
        await_answer(&mut self.reader, self.minor).await
    }

    /// The error for a user, with what a `nix-daemon` of ours wrote before it broke the connection
    /// off.
    pub(super) async fn explain(self, error: WireError) -> StoreError {
        let source = match error {
            WireError::Refused(error) => return error,
            WireError::Io(source) => source,
        };
        let stderr = match self.daemon {
            Some(daemon) => daemon.last_words().await,
            None => String::new(),
        };
        StoreError::Broken { stderr, source }
    }
}

/// See [`Connection::await_answer`].
pub(super) async fn await_answer(reader: &mut Reader, minor: u64) -> Result<(), WireError> {
    loop {
        match read_u64(reader).await? {
            message::LAST => return Ok(()),
            message::ERROR => return Err(StoreError::Nix(read_error(reader, minor).await?).into()),
            message::NEXT => {
                // Read first: what is inside the macro is not evaluated when nobody listens.
                let text = read_message(reader).await?;
                tracing::debug!("nix: {text}");
            }
            message::WRITE => drop(read_bytes(reader).await?),
            message::START_ACTIVITY => {
                for _id_level_type in 0..3 {
                    read_u64(reader).await?;
                }
                let text = read_message(reader).await?;
                if !text.is_empty() {
                    tracing::debug!("nix: {text}");
                }
                skip_fields(reader).await?;
                let _parent = read_u64(reader).await?;
            }
            message::STOP_ACTIVITY => drop(read_u64(reader).await?),
            message::RESULT => {
                let _id = read_u64(reader).await?;
                let _kind = read_u64(reader).await?;
                skip_fields(reader).await?;
            }
            message::READ => return Err(malformed("it asks for data that no request of ours has")),
            other => return Err(malformed(format!("it sent an unknown message, {other:#x}"))),
        }
    }
}

async fn skip_fields(reader: &mut Reader) -> Result<(), WireError> {
    for _ in 0..read_count(reader).await? {
        match read_u64(reader).await? {
            0 => drop(read_u64(reader).await?),
            1 => drop(read_bytes(reader).await?),
            other => return Err(malformed(format!("it sent a field of unknown type {other}"))),
        }
    }
    Ok(())
}

/// The text of an error: structured since 1.26, a message and a status before.
async fn read_error(reader: &mut Reader, minor: u64) -> Result<String, WireError> {
    if minor < 26 {
        let text = read_message(reader).await?;
        let _status = read_u64(reader).await?;
        return Ok(text);
    }
    let _type = read_string(reader).await?;
    let _level = read_u64(reader).await?;
    let _name = read_string(reader).await?;
    let text = read_message(reader).await?;
    let no_position = |has: u64| {
        if has == 0 { Ok(()) } else { Err(malformed("it sent an error with a position")) }
    };
    no_position(read_u64(reader).await?)?;
    for _ in 0..read_count(reader).await? {
        no_position(read_u64(reader).await?)?;
        let _trace = read_message(reader).await?;
    }
    Ok(text)
}

/// Whether no daemon listens there, rather than one that may not be talked to.
fn is_nobody_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
    )
}
