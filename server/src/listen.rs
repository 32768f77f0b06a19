//! Sockets that clients connect to: TCP, or a file. Opened here, or passed by systemd, which keeps
//! them open while no server runs.
//!
//! Nothing here knows HTTP.

mod passed;
mod tls;
mod unix;

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

pub use passed::{PassedError, PassedSockets};
pub use tls::{Tls, TlsError};
pub use unix::{SocketFile, UnixError};

use crate::config::{ListenAddress, SocketMode};

/// Connections that wait to be accepted. More than the system's default: when a thousand come at
/// once, one that finds no room is tried again by its client after a second.
const BACKLOG: u32 = 4096;

/// A connection as the system gives it.
pub type Stream = Either<TcpStream, UnixStream>;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A TCP address.
    #[error("cannot listen on {address}: {cause}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The cause, and what to do.
        cause: String,
    },
    /// A socket file.
    #[error(transparent)]
    Unix(#[from] UnixError),
}

/// One socket.
#[derive(Debug)]
pub enum Listener {
    /// An address and a port.
    Tcp(TcpListener),
    /// A socket file. The second part is there where this server made it.
    Unix(UnixListener, Option<SocketFile>),
}

impl Listener {
    /// Opens the configured address.
    ///
    /// # Errors
    /// When it is not to be had; the error says what to do.
    pub fn open(address: &ListenAddress, mode: SocketMode) -> Result<Self, ListenError> {
        match address {
            ListenAddress::Tcp(address) => open_tcp(*address).map(Self::Tcp),
            ListenAddress::Unix(path) => {
                let (listener, file) = unix::open(path, mode)?;
                Ok(Self::Unix(listener, Some(file)))
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
            Self::Unix(listener, _) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().map_or_else(PathBuf::new, PathBuf::from);
                Ok(ListenAddress::Unix(path))
            }
        }
    }

    fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(context)
                .map_ok(|(stream, peer)| (Either::Left(stream), Some(peer))),
            Self::Unix(listener, _) => {
                listener.poll_accept(context).map_ok(|(stream, _)| (Either::Right(stream), None))
            }
        }
    }
}

/// All sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<Listener>,
    first: AtomicUsize,
}

impl Listeners {
    /// At least one.
    #[must_use]
    pub fn new(all: Vec<Listener>) -> Self {
        Self { all, first: AtomicUsize::new(0) }
    }

    /// Where they listen.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn addresses(&self) -> io::Result<Vec<ListenAddress>> {
        self.all.iter().map(Listener::address).collect()
    }

    /// The next connection of any of them, with the address at its other end, which only TCP has.
    ///
    /// # Errors
    /// When the system has no descriptors left, for example. The next call may succeed.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        poll_fn(|context| {
            // Each is the first in its turn, so that none waits for another that is busy.
            let first = self.first.fetch_add(1, Relaxed) % self.all.len().max(1);
            let (late, early) = self.all.split_at(first);
            early
                .iter()
                .chain(late)
                .map(|listener| listener.poll_accept(context))
                .find(Poll::is_ready)
                .unwrap_or(Poll::Pending)
        })
        .await
    }

    /// Stops listening, and removes the socket files that this server made.
    pub fn close(self) {
        for listener in self.all {
            if let Listener::Unix(listener, Some(file)) = listener {
                drop(listener);
                file.remove();
            }
        }
    }
}

/// Opens a TCP socket.
///
/// # Errors
/// When the address is not to be had.
pub fn open_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| {
        let cause = match error.kind() {
            ErrorKind::AddrInUse => "another program does. Stop that one, or choose another \
                address with --listen ADDR"
                .to_owned(),
            ErrorKind::PermissionDenied => "the system does not allow this user to. Choose a port \
                above 1023 with --listen ADDR"
                .to_owned(),
            ErrorKind::AddrNotAvailable => "this machine does not have that address. Choose one \
                of its own with --listen ADDR"
                .to_owned(),
            _ => format!("{error}. Choose another address with --listen ADDR"),
        };
        ListenError::Tcp { address, cause }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_named_with_what_to_do() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let message = open_tcp(address).unwrap_err().to_string();
        assert!(
            message.contains(&address.to_string()) && message.contains("--listen"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn each_socket_has_its_turn_while_another_is_busy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.sock");
        let tcp =
            Listener::open(&ListenAddress::Tcp(([127, 0, 0, 1], 0).into()), SocketMode::default());
        let unix = Listener::open(&ListenAddress::Unix(path.clone()), SocketMode::default());
        let listeners = Listeners::new(vec![tcp.unwrap(), unix.unwrap()]);
        let ListenAddress::Tcp(address) = listeners.addresses().unwrap().remove(0) else {
            panic!("the first is TCP")
        };
        let mut busy = Vec::new();
        for _ in 0..4 {
            busy.push(TcpStream::connect(address).await.unwrap());
        }
        let _quiet = UnixStream::connect(&path).await.unwrap();
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (_, peer) = listeners.accept().await.unwrap();
            kinds.push(peer.is_some());
        }
        kinds.sort_unstable();
        assert_eq!(kinds, [false, true]);
        listeners.close();
        assert!(!path.exists(), "the socket file goes with its server");
    }
}
