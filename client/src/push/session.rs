//! The push session of a push: asked for at its beginning where its token ends soon, and renewed
//! before it ends.
//!
//! A server that gives no sessions is pushed to as before, with the token alone; only when that
//! ends a push is there a warning. A token that may not push, or is not valid, gets no session
//! either, and the push's own requests say so.

use std::convert::Infallible;
use std::future;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use snowbank_core::wire::PushSession;

use super::PushError;
use crate::api::{Api, ApiError, ApiErrorKind};

/// A push asks for a session where its token ends within this time.
const SHORT: Duration = Duration::from_hours(1);
/// Time until a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How far the clocks of a server and of this machine may differ.
const MAX_SKEW: Duration = Duration::from_mins(1);

/// How a push comes to its end with its token.
#[derive(Debug)]
pub(super) enum PushToken {
    /// Nothing is to be done: it lasts long enough, or is none that the server takes.
    Long,
    /// It ends at this time, in Unix seconds, and the server gives no session.
    Short(i64),
    /// A session goes on after its end.
    Session(PushSession),
}

impl PushToken {
    /// Asks for a session if the token of `api` ends soon.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(super) async fn prepare(api: &Api) -> Result<Self, ApiError> {
        let Some(end) = api.token_expires_at().filter(|&end| time_until(end) < SHORT) else {
            return Ok(Self::Long);
        };
        match api.open_push_session().await {
            Ok(session) => Ok(Self::Session(session)),
            Err(error) if is_of_line(&error) => Err(error),
            Err(error) => {
                tracing::debug!("the push goes on without a push session: {error}");
                let has_sessions = is_of_token(&error);
                Ok(if has_sessions { Self::Long } else { Self::Short(end) })
            }
        }
    }

    /// Renews the session in time. Never comes back.
    pub(super) async fn keep(&self, api: &Api) -> Infallible {
        if let Self::Session(session) = self {
            renew(api, session).await;
        }
        future::pending().await
    }

    /// Warns of a token that ended, and took the push with it.
    pub(super) fn explain(&self, api: &Api, result: &Result<(), PushError>) {
        if let (Self::Short(end), Err(PushError::Api(error))) = (self, result)
            && error.kind() == ApiErrorKind::Unauthenticated
            && time_until(*end) < MAX_SKEW
        {
            tracing::warn!(
                "the token has ended during the push, and {} gives no push sessions: it refused \
                 the rest; push again with a new token, which sends only what is missing",
                api.server_url()
            );
        }
    }
}

/// Renews the session at half of its time, until that makes it no longer.
async fn renew(api: &Api, session: &PushSession) {
    let (mut renewable, mut lasts) = (session.is_renewable(), session.expires_in);
    while renewable {
        sleep(Duration::from_secs(lasts) / 2).await;
        (renewable, lasts) = loop {
            match api.open_push_session().await {
                Ok(session) => break (session.is_renewable(), session.expires_in),
                // The push's own requests fail for the same reason.
                Err(error) if is_of_token(&error) || is_absent(&error) => {
                    tracing::debug!("the push session cannot be renewed: {error}");
                    return;
                }
                Err(_) => sleep(RETRY).await,
            }
        };
    }
}

/// Whether a failure is of the line or the moment, and none of the token's.
fn is_of_line(error: &ApiError) -> bool {
    use ApiErrorKind::{Busy, Timeout, Unavailable, Unreachable};
    matches!(error.kind(), Unreachable | Timeout | Unavailable | Busy)
}

/// Whether the server does not take the token for what was asked.
fn is_of_token(error: &ApiError) -> bool {
    matches!(error.kind(), ApiErrorKind::Unauthenticated | ApiErrorKind::Forbidden)
}

/// Whether the server gives no sessions.
fn is_absent(error: &ApiError) -> bool {
    matches!(error.kind(), ApiErrorKind::NotFound | ApiErrorKind::Absent)
}

/// From now to a time in Unix seconds.
fn time_until(at: i64) -> Duration {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0));
    at.duration_since(SystemTime::now()).unwrap_or_default()
}
