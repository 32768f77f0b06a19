//! The push session of a push: asked for at its beginning where its token ends soon, and renewed
//! before it ends.
//!
//! A server that gives no sessions is pushed to as before, with the token alone; only when that
//! ends during the push is there a warning. A token that may not push, or is not valid, gets no
//! session either, and the push's own requests say so.

use std::convert::Infallible;
use std::future;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use snowbank_core::wire::PushSession;

use crate::api::{Api, ApiError, ApiErrorKind};

/// A push asks for a session where its token ends within this time.
const SHORT: Duration = Duration::from_hours(1);
/// Time until a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How a push comes to its end with its token.
#[derive(Debug)]
pub(super) enum PushToken {
    /// It lasts long enough, or does not say when it ends, or there is none.
    Long,
    /// It ends after this time, and the server gives no session.
    Short(Duration),
    /// A session goes on after its end.
    Session(PushSession),
}

impl PushToken {
    /// Asks for a session if the token of `api` ends soon.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(super) async fn prepare(api: &Api) -> Result<Self, ApiError> {
        let Some(left) = api.token_expires_at().map(time_until).filter(|left| *left < SHORT) else {
            return Ok(Self::Long);
        };
        match api.open_push_session().await {
            Ok(session) => Ok(Self::Session(session)),
            Err(error) if is_of_line(&error) => Err(error),
            Err(error) => {
                tracing::debug!("the push goes on without a push session: {error}");
                Ok(Self::Short(left))
            }
        }
    }

    /// Renews the session in time, or warns when the token ends. Never comes back.
    pub(super) async fn keep(self, api: &Api) -> Infallible {
        match self {
            Self::Long => {}
            Self::Short(left) => {
                sleep(left).await;
                tracing::warn!(
                    "the token has ended during the push, and {} gives no push sessions: it \
                     refuses the rest; push again with a new token, which sends only what is \
                     missing",
                    api.server_url()
                );
            }
            Self::Session(session) => renew(api, session).await,
        }
        future::pending().await
    }
}

/// Renews the session at half of its time, until that makes it no longer.
async fn renew(api: &Api, mut session: PushSession) {
    while session.is_renewable() {
        sleep(Duration::from_secs(session.expires_in) / 2).await;
        session = loop {
            match api.open_push_session().await {
                Ok(session) => break session,
                // The push's own requests fail for the same reason.
                Err(error) if is_refusal(&error) => {
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

/// Whether the server does not take the token, or has switched sessions off.
fn is_refusal(error: &ApiError) -> bool {
    use ApiErrorKind::{Absent, Forbidden, NotFound, Unauthenticated};
    matches!(error.kind(), Unauthenticated | Forbidden | NotFound | Absent)
}

/// From now to a time in Unix seconds.
fn time_until(at: i64) -> Duration {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0));
    at.duration_since(SystemTime::now()).unwrap_or_default()
}
