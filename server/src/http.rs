//! HTTP: the table of all routes, and nothing of what they mean.
//!
//! An endpoint is a file and a short function: it reads the request, asks `access` for a proof that the caller may, calls
//! a domain function, and turns the result into a response. `error` is the only place that knows status codes of failures.

mod access;
mod api;
mod body;
mod budget;
mod drain;
mod error;
mod front;
mod metrics;
mod ndjson;
mod nix;
mod request_id;
mod serve;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

pub use budget::Budgets;
pub use metrics::serve_metrics;
pub use serve::serve;

use crate::app::App;

/// Every route of the server.
pub fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(api::health::healthz))
        .route("/readyz", get(api::health::readyz))
        .route("/api/v1/whoami", get(api::whoami::whoami))
        .route("/api/v1/caches/{cache}", get(api::cache_info::cache_info))
        .route("/api/v1/caches/{cache}/missing-paths", post(api::missing_paths::missing_paths))
        .route("/api/v1/caches/{cache}/missing-chunks", post(api::missing_chunks::missing_chunks))
        .route("/api/v1/caches/{cache}/chunks", post(api::chunks::chunks))
        .route("/api/v1/caches/{cache}/paths", post(api::paths::paths))
        .route("/{cache}/nix-cache-info", get(nix::cache_info::nix_cache_info))
        .route("/{cache}/{file}", get(nix::narinfo::narinfo))
        .route("/{cache}/nar/{file}", get(nix::nar::nar))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(axum::middleware::from_fn(metrics::counted))
        .layer(axum::middleware::from_fn(request_id::with_request_id))
        // Outermost: what went wrong is in the log before the client is waited for.
        .layer(axum::middleware::from_fn(drain::drain_refused))
        .with_state(app)
}
