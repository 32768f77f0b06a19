//! HTTP: the table of all routes, and nothing of what they mean.
//!
//! The two reads that nearly all requests are for, narinfos and NARs, stand in the table as well,
//! but seldom reach it: `service` recognizes them by their path and calls the same functions.
//!
//! An endpoint is a file and a short function: it reads the request, asks `access` for a proof that
//! the caller may, calls a domain function, and turns the result into a response. `error` is the
//! only place that knows status codes of failures.

mod access;
mod answer;
mod api;
mod attic;
mod body;
mod caller;
mod drain;
mod error;
mod extract;
mod handshake;
mod json;
mod listing;
mod metrics;
mod ndjson;
mod nix;
mod origin;
mod rejection;
mod request_id;
mod sent;
mod serve;
mod service;
mod socket;
mod streams;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};

pub use metrics::serve_metrics;
pub use serve::serve;

use crate::app::App;

/// Every route of the server.
pub fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(api::health::healthz))
        .route("/readyz", get(api::health::readyz))
        .route("/.well-known/snowbank", get(api::description::describe))
        .route("/api/v1/whoami", get(api::whoami::whoami))
        .route("/api/v1/tokens", get(api::tokens::list).post(api::tokens::create))
        .route("/api/v1/tokens/revoke", post(api::tokens::revoke))
        .route("/api/v1/tokens/{id}", get(api::tokens::show))
        .route("/api/v1/tokens/{id}/rotate", post(api::tokens::rotate))
        .route("/api/v1/push-session", post(api::push_session::create))
        .route("/api/v1/audit", get(api::audit::list))
        .route("/api/v1/gc", post(api::collection::collect))
        .route("/api/v1/caches", get(api::caches::list).post(api::caches::create))
        .route(
            "/api/v1/caches/{cache}",
            get(api::cache_info::cache_info)
                .patch(api::caches::configure)
                .delete(api::caches::destroy),
        )
        .route("/api/v1/caches/{cache}/details", get(api::caches::details))
        .route("/api/v1/caches/{cache}/restore", post(api::caches::restore))
        .route("/api/v1/caches/{cache}/purge", post(api::caches::purge))
        .route("/api/v1/caches/{cache}/rename", post(api::caches::rename))
        .route("/api/v1/caches/{cache}/rotate-key", post(api::caches::rotate_key))
        .route("/api/v1/caches/{cache}/missing-paths", post(api::missing_paths::missing_paths))
        .route("/api/v1/caches/{cache}/missing-chunks", post(api::missing_chunks::missing_chunks))
        .route("/api/v1/caches/{cache}/verify-paths", post(api::verify_paths::verify_paths))
        .route("/api/v1/caches/{cache}/chunks", post(api::chunks::chunks))
        .route("/api/v1/caches/{cache}/paths", get(api::cache_paths::list).post(api::paths::paths))
        .route("/api/v1/caches/{cache}/paths/{path}", get(api::cache_paths::show))
        .route("/api/v1/caches/{cache}/withdrawn", get(api::cache_paths::withdrawn))
        .route("/api/v1/caches/{cache}/delete", post(api::cache_paths::delete))
        .route("/api/v1/caches/{cache}/copy", post(api::cache_paths::copy))
        .route("/api/v1/caches/{cache}/pins", get(api::pins::list))
        .route(
            "/api/v1/caches/{cache}/pins/{name}",
            get(api::pins::show).put(api::pins::set).delete(api::pins::remove),
        )
        .route("/api/v1/caches/{cache}/pins/{name}/rollback", post(api::pins::rollback))
        .route(
            "/{cache}/nix-cache-info",
            get(nix::cache_info::nix_cache_info).put(nix::upload::cache_info),
        )
        .route("/{cache}/public-key", get(nix::public_key::public_key))
        // A plain GET of these two is answered by `service`, before the table.
        .route("/{cache}/{file}", get(nix::narinfo::narinfo).put(nix::upload::file))
        .route("/{cache}/nar/{file}", get(nix::nar::nar).put(nix::upload::nar))
        .route("/{cache}/pins/{name}", get(nix::pin::pin))
        .route("/{cache}/log/{deriver}", get(nix::files::log).put(nix::files::put_log))
        .route(
            "/{cache}/realisations/{file}",
            get(nix::files::realisation).put(nix::files::put_realisation),
        )
        .route(
            "/{cache}/build-trace-v2/{derivation}/{file}",
            get(nix::files::build_trace).put(nix::files::put_build_trace),
        )
        .route("/{cache}/debuginfo/{file}", put(nix::upload::debug_info))
        .merge(attic::routes())
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::wrong_method)
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(&app), caller::audited))
        .layer(axum::middleware::from_fn(metrics::counted))
        .layer(axum::middleware::from_fn(request_id::with_request_id))
        // Outermost: what went wrong is in the log before the client is waited for.
        .layer(axum::middleware::from_fn(drain::drain_refused))
        .with_state(app)
}
