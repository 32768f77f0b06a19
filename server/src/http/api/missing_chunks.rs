//! `POST /api/v1/caches/{cache}/missing-chunks`: which of these chunks does the cache's domain
//! lack?

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use snowbank_core::chunk::ChunkName;
use snowbank_core::wire::MissingChunksResponse;

use super::super::access::may_push;
use super::super::answer::{self, Answers};
use super::super::body::{BodyLimits, collect, declared_length};
use super::super::error::ApiError;
use super::super::extract::Path;
use super::super::origin::Remote;
use super::NAMES_PER_REQUEST;
use crate::admission::Client;
use crate::app::App;
use crate::ingest;

const NAME_BYTES: usize = 32;
/// What is made of a name: looked up, found, and answered with an index.
const COPIES: u64 = 6;
/// An index, and a comma.
const INDEX_BYTES: u64 = 5;

pub(in crate::http) async fn missing_chunks(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Remote(address): Remote,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let push = may_push(&app, &headers, &name).await?;
    let limits =
        BodyLimits::new(&app.config.limits, u64::from(NAMES_PER_REQUEST) * NAME_BYTES as u64);
    let declared = declared_length(&headers, limits)?;
    let client = Client::new(&push.subject, &address);
    let mut hold = app.budgets.bodies.open(&client);
    let body = collect(body, declared, limits, &mut hold).await?;
    let (names, rest) = body.as_chunks::<NAME_BYTES>();
    if !rest.is_empty() {
        let message = format!(
            "{} bytes are no list of chunk names, which have {NAME_BYTES} bytes each",
            body.len()
        );
        return Err(ApiError::bad_request(message));
    }
    super::super::body::grow(&mut hold, body.len() as u64 * COPIES, None).await?;
    hold.settle();
    let answers = Answers::new(&app.budgets.answers, &client);
    let room = answers.room_for_answer(64 + INDEX_BYTES * names.len() as u64).await?;
    let names: Vec<ChunkName> = names.iter().map(|name| ChunkName::from_bytes(*name)).collect();
    let missing = ingest::missing_chunks(&app.ingest, &push, &names).await?;
    answer::json(&MissingChunksResponse { missing }, room)
}
