//! `GET /{cache}/nix-cache-info`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::super::access::may_fetch;
use super::super::error::ApiError;
use super::super::extract::Path;
use super::{short_lived, show_visibility};
use crate::app::App;
use crate::serving;

pub(in crate::http) async fn nix_cache_info(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let fetch = may_fetch(&app, &headers, &name).await?;
    let body = serving::nix_cache_info(&fetch.allowed.target);
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/x-nix-cache-info"));
    headers.insert(header::CACHE_CONTROL, short_lived(fetch.allowed.target.cache.public));
    show_visibility(headers, fetch.allowed.target.cache.public);
    fetch.sign(&mut response);
    Ok(response)
}
