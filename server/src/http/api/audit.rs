//! `GET /api/v1/audit`: what was done and tried; for administrators.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use snowbank_core::wire::admin::AuditQuery;

use super::super::access::may_admin;
use super::super::error::ApiError;
use super::super::extract::Query;
use super::super::listing::Listing;
use crate::admin;
use crate::app::App;

pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<AuditQuery>,
    listing: Listing,
) -> Result<Response, ApiError> {
    may_admin(&listing.caller)?;
    let page = admin::list_audit(&app.admin.db, &query).await?;
    listing.answer(&page)
}
