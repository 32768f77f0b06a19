//! Parts of a request's address as handlers take them: axum's extractors, with refusals that have
//! the documented body.
//!
//! Handlers use these and never axum's own, whose refusals are plain text; clippy.toml forbids
//! those.
#![expect(clippy::disallowed_types, reason = "this is where they are wrapped")]

use axum::extract::FromRequestParts;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The parts of the path that the route names.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

/// The fields of the query.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(value) =
            axum::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Query(value) =
            axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// What is wrong with a path, if that is the client's doing.
pub(super) fn path_fault(rejection: &PathRejection) -> Option<String> {
    let PathRejection::FailedToDeserializePathParams(failed) = rejection else { return None };
    match failed.kind() {
        ErrorKind::InvalidUtf8InPathParam { .. } => Some(
            "the address is not UTF-8 after its percent signs were decoded; mend its encoding"
                .to_owned(),
        ),
        _ => Some(
            "a part of the address does not parse; docs/protocol.md has the form of each"
                .to_owned(),
        ),
    }
}

/// What is wrong with a query.
pub(super) fn query_fault(rejection: &QueryRejection) -> String {
    // It names the field, and of a value no more than its kind.
    format!(
        "the query of the address does not parse ({}); docs/protocol.md has its fields",
        rejection.body_text()
    )
}
