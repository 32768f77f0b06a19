//! `GET /{cache}/public-key`: the keys that sign the cache's narinfos, as nix.conf wants them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::super::access::may_fetch;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::short_lived;
use crate::app::App;

pub(in crate::http) async fn public_key(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let fetch = may_fetch(&app, &headers, &name).await?;
    let target = &fetch.allowed.target;
    let keys: Vec<String> = target.keys.iter().map(|key| format!("{}\n", key.public())).collect();
    let mut response = keys.concat().into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, short_lived(target.cache.public));
    fetch.sign(&mut response);
    Ok(response)
}
