//! `GET /{cache}/<hash>.narinfo`. A miss is never to be kept: the next push may bring the path.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use snowbank_core::store_path::StorePathHash;

use super::super::access::may_fetch;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::{short_lived, show_visibility};
use crate::app::App;

pub(in crate::http) async fn narinfo(
    State(app): State<Arc<App>>,
    Path((name, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let fetch = may_fetch(&app, &headers, &name).await?;
    let target = &fetch.allowed.target;
    let hash = file
        .strip_suffix(".narinfo")
        .and_then(|hash| StorePathHash::from_chars(hash.as_bytes()))
        .ok_or_else(|| {
            ApiError::not_found(format!(
                "`{file}` is not a narinfo's name, <32 characters>.narinfo"
            ))
        })?;
    let found = app.narinfos.lookup(target, &hash).await?;
    let narinfo = found
        .ok_or_else(|| ApiError::not_found(format!("the cache `{name}` has no path {hash}")))?;
    app.uses.note_path(target.cache.id, narinfo.path);
    let mut response = Response::new(Body::from(narinfo.body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/x-nix-narinfo"));
    headers.insert(header::CACHE_CONTROL, short_lived(target.cache.public));
    show_visibility(headers, target.cache.public);
    fetch.sign(&mut response);
    Ok(response)
}
