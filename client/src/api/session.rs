//! Push sessions: while one is under way, requests carry its token in the place of the target's.
//! That token is held in memory only, and wiped with the client.

use std::sync::PoisonError;

use reqwest::Method;
use snowbank_core::wire::{BeginPushSession, PushSession};

use super::{Api, ApiError, JSON, Request};
use crate::config::Secret;

impl Api {
    /// When the target's own token ends, in Unix seconds, if it says so. Nothing is verified.
    #[must_use]
    pub fn token_expires_at(&self) -> Option<i64> {
        snowbank_core::token::expires_at(self.shared.target.token.as_ref()?.expose())
    }

    /// `POST /api/v1/push-session`: begins a session for the target's cache, or renews the one that
    /// is under way. Requests carry its token from now on. Gives its times; the token stays here.
    ///
    /// # Errors
    /// As [`Api::cache_info`]; [`NotFound`](super::ApiErrorKind::NotFound) or
    /// [`Absent`](super::ApiErrorKind::Absent) of a server that gives no sessions.
    pub async fn open_push_session(&self) -> Result<PushSession, ApiError> {
        let url = format!("{}/api/v1/push-session", self.server_url());
        let body = self.to_json(&url, &BeginPushSession { caches: vec![self.cache().clone()] })?;
        let request =
            Request { method: Method::POST, url, content_type: JSON, encoding: None, body };
        let mut session: PushSession = self.json(request).await?;
        let token = Secret::from_text(&std::mem::take(&mut session.token.0));
        *self.shared.session.write().unwrap_or_else(PoisonError::into_inner) = token;
        Ok(session)
    }

    /// The token that requests carry.
    pub(super) fn token(&self) -> Option<Secret> {
        let session = self.shared.session.read().unwrap_or_else(PoisonError::into_inner);
        session.clone().or_else(|| self.shared.target.token.clone())
    }

    /// Ends the session on this side.
    pub fn close_push_session(&self) {
        *self.shared.session.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
