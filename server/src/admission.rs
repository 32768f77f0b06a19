//! Admission: what a client may hold of the server at once, settled before it holds it.
//!
//! Memory for request bodies, places for commits, connections, downloads and expensive requests are shared out here, by
//! token, address and connection. Nothing here knows HTTP: a refusal is a [`Refusal`], and `http/error.rs` turns it into a
//! status.

mod budgets;
mod connections;
mod places;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use budgets::Budgets;
pub use connections::{ConnectionLimits, ConnectionPlace, Connections, Ending, OpenResponse, RequestPlace};
pub use places::{HeldPlace, Places};

/// A request that the server does not take now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the server {reason}; slow down and repeat")]
pub struct Refusal {
    /// The limit that was hit, as the end of "the server …".
    pub reason: &'static str,
    /// When it is worth trying again.
    pub retry_after_seconds: u32,
}
