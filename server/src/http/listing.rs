//! Requests for listings and other questions that cost the database more than a look-up: each has a
//! place before it is answered, and its answer is made here.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Serialize;

use super::caller::Caller;
use super::error::ApiError;
use super::origin;
use crate::admission::{ClientNetwork, Ending, Lister, ListingPlace, ResponsePlace};
use crate::app::App;

/// Who asks for a listing, with a place among those that are answered. It is admitted before
/// anything is looked up, so that a refusal says nothing of what is asked for.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) caller: Caller,
    room: Option<ResponsePlace>,
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
        // Before there is an answer, so that answers which nobody reads have room; and before the
        // place, which others want.
        let room = match parts.extensions.get::<Ending>() {
            Some(ending) => Some(app.answers.enter(ending.clone()).await?),
            None => None,
        };
        let place = app.listings.admit(lister).await?;
        Ok(Self { caller, room, place })
    }
}

impl Listing {
    /// The answer as a whole, of at most about a MiB; the place is given back once it is made, and
    /// its room once it has left.
    pub(super) fn answer(self, page: &impl Serialize) -> Result<Response, ApiError> {
        let body = serde_json::to_vec(page).map_err(|error| ApiError::unserializable(&error))?;
        drop(self.place);
        let body = match self.room {
            Some(room) => {
                room.note_handed(body.len() as u64);
                Bytes::from_owner(Answer { body, _room: room })
            }
            None => body.into(),
        };
        let json = HeaderValue::from_static("application/json");
        Ok(([(header::CONTENT_TYPE, json)], body).into_response())
    }
}

/// An answer, with room for it until its last byte has left.
struct Answer {
    body: Vec<u8>,
    _room: ResponsePlace,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}
