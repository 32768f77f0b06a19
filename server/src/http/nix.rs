//! What any Nix asks of a substituter, and what a deployment asks before: which path a pin stands
//! for. Nothing of it writes anything.

pub(super) mod cache_info;
pub(super) mod files;
pub(super) mod nar;
pub(super) mod narinfo;
pub(super) mod pin;
pub(super) mod public_key;
pub(super) mod upload;

use axum::http::{HeaderMap, HeaderValue};

/// The header by which attic says that anyone may read a cache.
const VISIBILITY: &str = "x-attic-cache-visibility";

/// Says that anyone may read what is answered, for proxies that were set up for attic.
fn show_visibility(headers: &mut HeaderMap, public: bool) {
    if public {
        headers.insert(VISIBILITY, HeaderValue::from_static("public"));
    }
}

/// `Cache-Control` for what never changes under its URL.
fn immutable(public: bool) -> HeaderValue {
    HeaderValue::from_static(if public {
        "public, max-age=31536000, immutable"
    } else {
        "private, max-age=31536000, immutable"
    })
}

/// `Cache-Control` for what may change or go within seconds.
fn short_lived(public: bool) -> HeaderValue {
    HeaderValue::from_static(if public { "public, max-age=3" } else { "private, max-age=3" })
}
