//! A load balancer before the replicas of a site: each request goes to another replica, in turn.
//!
//! It behaves as one with passive health checks does: a replica that refuses the connection is
//! skipped, for this request only; what goes wrong later is answered with 502, or cut off where the
//! answer had begun. Nothing is sent twice.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::{Request, Response, StatusCode, body::Incoming};
use tokio::net::TcpStream;

use crate::{
    loopback::{AnyBody, BoxError, Handle, Loopback, forward, full, lingering},
    process,
};

/// A load balancer on an address of its own.
#[derive(Debug)]
pub struct Balancer(Loopback<RoundRobin>);

impl Balancer {
    /// Starts one before these replicas.
    #[must_use]
    pub fn before(replicas: Vec<SocketAddr>) -> Self {
        let handler = RoundRobin { replicas, next: AtomicUsize::new(0) };
        Self(Loopback::start(process::own_address(), handler))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

#[derive(Debug)]
struct RoundRobin {
    replicas: Vec<SocketAddr>,
    next: AtomicUsize,
}

impl RoundRobin {
    /// Connects to the replica whose turn it is, or the first after it that listens.
    async fn connect(&self) -> Option<TcpStream> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        for offset in 0..self.replicas.len() {
            if let Ok(stream) =
                TcpStream::connect(self.replicas[(turn + offset) % self.replicas.len()]).await
            {
                return Some(stream);
            }
        }
        None
    }
}

impl Handle for RoundRobin {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<AnyBody>, BoxError> {
        let Some(stream) = self.connect().await else {
            return Ok(answer(StatusCode::BAD_GATEWAY, "no replica listens"));
        };
        let answered = forward(stream, request.map(lingering)).await;
        Ok(answered.unwrap_or_else(|error| {
            answer(StatusCode::BAD_GATEWAY, &format!("the replica is gone: {error}"))
        }))
    }
}

fn answer(status: StatusCode, text: &str) -> Response<AnyBody> {
    let mut response = Response::new(full(format!("{text}\n")));
    *response.status_mut() = status;
    response
}
