//! Hostile clients, many at once: sockets that stay silent, answers that nobody reads, bodies that
//! drip, questions without end.
//!
//! An [`Attack`] is a set of such clients against one server. Each comes back when the server has
//! closed its connection or refused it, after [`PAUSE`]: a flood of requests, which measures the
//! machine's processors, is not the point. They come from as many addresses of 127.200.0.0/16 as
//! they are told to, none of which [`honest`](crate::honest) clients use. All of them end when the
//! attack is dropped.

mod asking;
pub(crate) mod connection;
mod crafted;
mod dripping;
mod ground;
mod silent;
mod tally;
mod unread;
mod unread_streams;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use tokio::runtime::Runtime;

use self::{connection::Line, tally::Counters};
pub use self::{
    connection::get,
    crafted::Claim,
    dripping::Drip,
    ground::{Ground, GroundSize},
    silent::Silence,
    tally::Tally,
    unread::Reading,
};

/// How long a client that was refused or cut off waits before it comes back.
pub const PAUSE: Duration = Duration::from_millis(500);

/// Hostile clients at work.
pub struct Attack {
    line: Arc<Line>,
    runtime: Option<Runtime>,
}

impl Attack {
    /// An attack on the server at `server` from so many addresses, with nobody in it yet.
    #[must_use]
    pub fn on(server: SocketAddr, addresses: u16) -> Self {
        // One thread: the attackers share the machine with the server.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap_or_else(|e| panic!("no runtime: {e}"));
        Self {
            line: Arc::new(Line { server, addresses, counters: Counters::default() }),
            runtime: Some(runtime),
        }
    }

    /// Sends in `count` clients, each with its number.
    fn send_in<F>(&self, count: usize, client: impl Fn(usize, Arc<Line>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = self
            .runtime
            .as_ref()
            .unwrap_or_else(|| panic!("an attack that was not dropped has a runtime"));
        for number in 0..count {
            runtime.spawn(client(number, Arc::clone(&self.line)));
        }
    }

    /// What has become of its clients so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.line.counters.read()
    }
}

impl fmt::Debug for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attack").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits for no client; their sockets are closed.
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}
