//! `GET /.well-known/snowbank`: what kind of server this is, for tools that find an address. It
//! says nothing of caches.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use serde_json::{Value, json};

use crate::app::App;

pub(in crate::http) async fn describe(
    State(app): State<Arc<App>>,
) -> ([(HeaderName, HeaderValue); 1], Json<Value>) {
    let limits = &app.config.limits;
    let kept = [(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"))];
    let description = json!({
        "server": "snowbank",
        "version": env!("CARGO_PKG_VERSION"),
        "api": ["/api/v1"],
        "upload": {
            "snowbank": true,
            "nix_copy": true,
            "nar_compressions": ["none", "xz", "bzip2", "zstd", "br", "gzip", "lz4"],
        },
        "serves": ["narinfo", "nar", "log", "realisations", "build-trace-v2", "pins"],
        "nar_compressions": ["zstd", "none"],
        "limits": {
            "max_nar_size": limits.max_nar_size.bytes(),
            "bundle_bytes": app.bundle_bytes(),
        },
    });
    (kept, Json(description))
}
