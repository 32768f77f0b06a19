//! `GET /api/v1/audit`: what was done and tried; for administrators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use snowbank_core::wire::admin::{AuditPage, AuditQuery};

use super::super::access::may_admin;
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::extract::Query;
use crate::admin;
use crate::app::App;

pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<AuditQuery>,
    caller: Caller,
) -> Result<Json<AuditPage>, ApiError> {
    may_admin(&caller)?;
    Ok(Json(admin::list_audit(&app.admin.db, &query).await?))
}
