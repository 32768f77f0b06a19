//! `GET /healthz`: the process answers. `GET /readyz`: it can also read its database, and its
//! storage, which is its own.

use std::sync::Arc;

use axum::extract::State;

use super::super::error::ApiError;
use crate::app::App;

pub(in crate::http) async fn healthz() -> &'static str {
    "ok\n"
}

pub(in crate::http) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    app.db.ping().await?;
    app.chain.health().await?;
    Ok("ready\n")
}
