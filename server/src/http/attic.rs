//! The HTTP API of attic, for its clients as they are.
//!
//! Reads are those of Nix. What changes something goes through the same functions as this server's
//! own API, with the same permissions; only the forms differ. A refusal has the form that attic's
//! client shows: `{"code": 404, "error": "NoSuchCache", "message": "…"}`.

mod cache_config;
mod get_missing_paths;
mod upload_path;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post, put};
use snowbank_core::attic::ErrorAnswer;
use snowbank_core::wire::{ErrorBody, ErrorDetail, code};

use crate::app::App;

/// The routes, all below `/_api/v1`, which is no cache's name.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/_api/v1/cache-config/{cache}",
            get(cache_config::show)
                .post(cache_config::create)
                .patch(cache_config::configure)
                .delete(cache_config::destroy),
        )
        .route("/_api/v1/get-missing-paths", post(get_missing_paths::get_missing_paths))
        .route("/_api/v1/upload-path", put(upload_path::upload_path))
        .layer(middleware::from_fn(in_form_of_attic))
}

/// A refusal that is to be written as attic writes it: its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AtticError(&'static str);

impl AtticError {
    fn of(status: StatusCode, code: &str) -> Self {
        Self(match status {
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "AccessError",
            StatusCode::NOT_FOUND if code == code::NO_PATH => "NoSuchObject",
            StatusCode::NOT_FOUND => "NoSuchCache",
            StatusCode::BAD_REQUEST if code == code::CONFLICT => "CacheAlreadyExists",
            status if status.is_client_error() => "RequestError",
            _ => "InternalServerError",
        })
    }

    /// The body of an answer with this status.
    pub(super) fn answer(self, status: StatusCode, detail: ErrorDetail) -> ErrorAnswer {
        ErrorAnswer {
            code: status.as_u16(),
            error: self.0.to_owned(),
            message: detail.message,
            request_id: detail.request_id,
        }
    }
}

async fn in_form_of_attic(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let status = response.status();
    let name = response
        .extensions()
        .get::<ErrorBody>()
        .map(|body| AtticError::of(status, &body.error.code));
    if let Some(name) = name {
        response.extensions_mut().insert(name);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_names_that_attic_gives_them() {
        for (status, code, name) in [
            (401, code::UNAUTHENTICATED, "Unauthorized"),
            (403, code::FORBIDDEN, "AccessError"),
            (404, code::NOT_FOUND, "NoSuchCache"),
            (400, code::CONFLICT, "CacheAlreadyExists"),
            (400, code::BAD_REQUEST, "RequestError"),
            (409, code::CONFLICT, "RequestError"),
            (422, code::NAR_MISMATCH, "RequestError"),
            (503, code::BUSY, "InternalServerError"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(AtticError::of(status, code), AtticError(name), "{status} {code}");
        }
    }
}
