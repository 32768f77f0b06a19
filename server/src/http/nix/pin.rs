//! `GET /{cache}/pins/NAME`: the store path that a name stands for, for whoever deploys: it is
//! there, at this moment, to be fetched. The store path alone and an end of line; JSON where that
//! is asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::super::access::may_fetch;
use super::super::api::pins::existing;
use super::super::error::ApiError;
use super::super::extract::{Path, Query};
use crate::admin;
use crate::app::App;
use crate::clock::unix_now;

/// What the address says of the form of the answer.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct Form {
    format: Option<String>,
}

pub(in crate::http) async fn pin(
    State(app): State<Arc<App>>,
    Path((cache, name)): Path<(String, String)>,
    Query(Form { format }): Query<Form>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let fetch = may_fetch(&app, &headers, &cache).await?;
    let cache = &fetch.allowed.target.cache;
    let pinned = admin::pinned_path(&app.db, cache, &existing(&name)?, unix_now()).await?;
    let as_json = format.map_or_else(|| accepts_json(&headers), |format| format == "json");
    let mut response = if as_json {
        Json(pinned).into_response()
    } else {
        format!("{}\n", pinned.store_path).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    // The next push may move it.
    let kept = if cache.public { "no-cache" } else { "private, no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    fetch.sign(&mut response);
    Ok(response)
}

/// Whether JSON is asked for by name: what takes anything gets the plain text.
fn accepts_json(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        values.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
    types.any(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_to_those_who_ask_for_it() {
        for (accept, is_json) in [
            ("application/json", true),
            ("text/plain;q=0.5, Application/JSON; q=0.9", true),
            ("*/*", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(accepts_json(&headers), is_json, "{accept}");
        }
        assert!(!accepts_json(&HeaderMap::new()));
    }
}
