//! Sockets that systemd passes (`LISTEN_FDS`). It keeps them open from one server to the next, so
//! connections that come in between wait and are not refused.

use std::fmt;
use std::io;

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use super::Listener;

/// A passed descriptor that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the socket {number} that systemd passes is none for connections of TCP or of a Unix socket \
     ({source}). Give the socket unit `ListenStream=` alone"
)]
pub struct PassedError {
    number: usize,
    source: io::Error,
}

/// What systemd passes.
pub struct PassedSockets(ListenFd);

impl fmt::Debug for PassedSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassedSockets").field("count", &self.0.len()).finish()
    }
}

impl PassedSockets {
    /// Takes the variables out of the environment; to be called before there are other threads.
    #[must_use]
    pub fn from_environment() -> Self {
        Self(ListenFd::from_env())
    }

    /// The sockets; none where there is no socket unit.
    ///
    /// # Errors
    /// When one is of another kind.
    pub fn listeners(&mut self) -> Result<Vec<Listener>, PassedError> {
        (0..self.0.len())
            .map(|number| self.listener(number).map_err(|source| PassedError { number, source }))
            .collect()
    }

    fn listener(&mut self, number: usize) -> io::Result<Listener> {
        if let Ok(Some(listener)) = self.0.take_unix_listener(number) {
            listener.set_nonblocking(true)?;
            return Ok(Listener::Unix(UnixListener::from_std(listener)?, None));
        }
        let taken = self.0.take_tcp_listener(number)?;
        let listener = taken.ok_or_else(|| io::Error::other("it was taken before"))?;
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(TcpListener::from_std(listener)?))
    }
}
