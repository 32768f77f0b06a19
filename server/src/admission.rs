//! Admission: what a client may hold of the server at once, settled before it holds it.
//!
//! Memory for request bodies, places for commits, connections and expensive requests are shared out here, by token and by
//! address. Nothing here knows HTTP: a refusal is a [`Refusal`], and `http/error.rs` turns it into a status.

mod budgets;
mod listings;
mod network;
mod rates;

use thiserror::Error;

pub use budgets::Budgets;
pub use listings::{Lister, ListingPlace, Listings};
pub use network::ClientNetwork;
pub use rates::Rates;

/// A request that the server does not take now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the server {reason}; slow down and repeat")]
pub struct Refusal {
    /// The limit that was hit, as the end of "the server …".
    pub reason: &'static str,
    /// When it is worth trying again.
    pub retry_after_seconds: u32,
}
