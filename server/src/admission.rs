//! Admission: what a client may hold of the server at once, settled before it holds it.
//!
//! Memory for request bodies, places for commits, connections, downloads and expensive requests are
//! shared out here, by token, address and connection. Nothing here knows HTTP: a refusal is a
//! [`Refusal`], and `http/error.rs` turns it into a status.

mod budgets;
mod connections;
mod listings;
mod network;
mod places;
mod pool;
mod rates;
mod responses;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use budgets::{Budgets, Limits, ManifestRoom};
pub use connections::{
    ConnectionLimits, ConnectionPlace, Connections, Ending, OpenResponse, RequestPlace,
};
pub use listings::{Lister, ListingPlace, Listings};
pub use network::ClientNetwork;
pub use places::Place;
pub use pool::{Client, Hold, Pool};
pub use rates::Rates;
pub use responses::{ResponsePlace, ResponsePlaces};

/// A request that the server does not take now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the server {reason}; slow down and repeat")]
pub struct Refusal {
    /// The limit that was hit, as the end of "the server …".
    pub reason: &'static str,
    /// When it is worth trying again.
    pub retry_after_seconds: u32,
}

/// Counts a limit that was hit.
pub fn count_hit(limit: &'static str) {
    metrics::counter!("snowbank_limit_hits_total", "limit" => limit).increment(1);
}
