//! Requests for listings and other questions that cost the database more than a look-up: each has a place before it is
//! answered, and its answer is made here.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::caller::Caller;
use super::error::ApiError;
use super::origin;
use crate::admission::{ClientNetwork, Lister, ListingPlace};
use crate::app::App;

/// Who asks for a listing, with a place among those that are answered. It is admitted before anything is looked up, so that
/// a refusal says nothing of what is asked for.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) caller: Caller,
    place: ListingPlace,
}

impl FromRequestParts<Arc<App>> for Listing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let lister = if let Some(token) = &caller.token {
            Lister::Token(&token.jti)
        } else {
            let address = origin::remote(&app.config, &parts.extensions, &parts.headers);
            Lister::Anonymous(address.map(ClientNetwork::of))
        };
        let place = app.listings.admit(lister).await?;
        Ok(Self { caller, place })
    }
}

impl Listing {
    /// The answer as a whole, of at most about a MiB; the place is given back once it is made.
    pub(super) fn answer(self, page: &impl Serialize) -> Result<Response, ApiError> {
        let body = serde_json::to_vec(page).map_err(|error| ApiError::unserializable(&error))?;
        drop(self.place);
        let json = HeaderValue::from_static("application/json");
        Ok(([(header::CONTENT_TYPE, json)], body).into_response())
    }
}
