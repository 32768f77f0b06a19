//! The only mapping from failures to status codes and bodies.
//!
//! What a client is told names the thing, the cause and the next step. What went wrong inside the
//! server goes to the log, once, under the request's id, and is told as no more than "try again" or
//! "ask the operator". A refusal never says what the server computed.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use snowbank_core::frame::FrameError;
use snowbank_core::token::hide_tokens;
use snowbank_core::wire::{CommitLine, ErrorBody, code};

use super::body::BodyError;
use super::rejection::{path_fault, query_fault};
use crate::admin::AdminError;
use crate::admission::Refusal;
use crate::auth::AuthError;
use crate::chain::ChainError;
use crate::db::DbError;
use crate::directory::DirectoryError;
use crate::gc::GcError;
use crate::ingest::{
    CopyError, NarUploadError, ReceiveError, StoreFailure, UploadError, VerifyError,
};
use crate::pack::{PackWriteError, ReadError};
use crate::serving::ServeError;
use crate::storage::{MarkerError, NoRoom, StorageError, StorageFailure};

/// A failure as the client is told.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after_seconds: Option<u32>,
    challenge: bool,
    inside: Option<Cause>,
}

/// What went wrong inside the server, for its log.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) what: &'static str,
    pub(super) error: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after_seconds: None,
            challenge: false,
            inside: None,
        }
    }

    /// What asks for a push session where there are none.
    pub(super) fn no_push_sessions() -> Self {
        let message = "this server gives no push sessions (`[auth] push-session` is off); a push \
            ends with its token";
        Self::absent(code::NO_PUSH_SESSIONS, message.to_owned())
    }

    /// With what the log is to say.
    pub(super) fn log(self, what: &'static str, error: &impl ToString) -> Self {
        Self { inside: Some(Cause { what, error: error.to_string() }), ..self }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::BAD_REQUEST, message)
    }

    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::LIMIT_EXCEEDED, message)
    }

    /// 401 with a challenge that Nix, curl and browsers answer from a netrc or by asking.
    fn unauthenticated(message: impl Into<String>) -> Self {
        Self {
            challenge: true,
            ..Self::new(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, message)
        }
    }

    /// A cache's name that is no name.
    pub(super) fn no_cache(name: &str) -> Self {
        Self::not_found(format!(
            "there is no cache `{name}` here that this token may use; look for a misspelt name"
        ))
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code::NOT_FOUND, message)
    }

    /// 404 for something in a cache or on the server that is there itself.
    fn absent(code: &'static str, message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn busy(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self {
            retry_after_seconds: Some(retry_after_seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, code::BUSY, message)
        }
    }

    /// Every place is taken; nothing of the request was looked at.
    pub(super) fn overloaded() -> Self {
        let message = "the server has as many requests under way as it may; slow down and repeat";
        Self {
            retry_after_seconds: Some(2),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code::BUSY, message)
        }
    }

    pub(super) fn unavailable(what: &str) -> Self {
        let message = format!("the server's {what} does not answer; try again in a moment");
        Self {
            retry_after_seconds: Some(2),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code::STORAGE_UNAVAILABLE, message)
        }
    }

    /// What the storage said helps its operator, and whoever pushes has somebody to ask.
    fn refused(failure: &StorageFailure) -> Self {
        let message = format!(
            "the server's storage refuses its requests: {}. Its operator has to mend that; the \
             server's log has more",
            failure.told()
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code::STORAGE_REFUSED, message)
    }

    fn full() -> Self {
        let message = "the server's storage is full; nothing of this request was kept. Its \
            operator has to make room; then push again, and only what is missing is sent";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, code::STORAGE_FULL, message)
    }

    /// The message, for an answer that is under way already; what it leaves to the log is logged.
    pub(super) fn into_message(self) -> String {
        if let Some(Cause { what, error }) = self.inside {
            tracing::error!(error, "{what}");
        }
        hide_tokens(&self.message).into_owned()
    }

    /// An answer that has no form in JSON, which none is known to be.
    pub(super) fn unserializable(error: &serde_json::Error) -> Self {
        Self::internal().log("an answer was not made", error)
    }

    pub(super) fn internal() -> Self {
        let message = "the server failed; its log has the reason under this request's id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        // `request_id` renders and logs these, once the id is known.
        // A message may repeat what was asked for, and people paste tokens where ids belong.
        response.extensions_mut().insert(ErrorBody::new(self.code, hide_tokens(&self.message)));
        if let Some(inside) = self.inside {
            response.extensions_mut().insert(inside);
        }
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.challenge {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"snowbank\", charset=\"UTF-8\""),
            );
        }
        response
    }
}

/// The answer to a path that is no route.
pub(super) async fn no_route(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}

/// The answer to a method that a route does not have.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} is not possible at {}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, code::BAD_REQUEST, message)
}

impl From<Infallible> for ApiError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        path_fault(&rejection).map_or_else(
            || Self::internal().log("a route and its handler differ", &rejection),
            Self::bad_request,
        )
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(query_fault(&rejection))
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::busy(refusal.to_string(), refusal.retry_after_seconds)
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let message = error.to_string();
        match error {
            AuthError::Database(error) => error.into(),
            AuthError::Shared(error) => error.into(),
            AuthError::Forbidden { .. } | AuthError::NotAdmin | AuthError::SessionMisused => {
                Self::new(StatusCode::FORBIDDEN, code::FORBIDDEN, message)
            }
            AuthError::NotHere { .. } => Self::not_found(message),
            AuthError::Secret(_)
            | AuthError::Sign(_)
            | AuthError::VerifiesOnly { .. }
            | AuthError::Generate
            | AuthError::DamagedKey { .. }
            | AuthError::KeyFile(_) => Self::internal().log("tokens cannot be verified", &error),
            AuthError::IssuerUnavailable { retry_after_seconds, .. } => Self {
                retry_after_seconds: Some(retry_after_seconds),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code::ISSUER_UNAVAILABLE, message)
            },
            _ => Self::unauthenticated(message),
        }
    }
}

impl From<&DbError> for ApiError {
    fn from(error: &DbError) -> Self {
        let told = match error {
            DbError::Full(_) => Self::full(),
            DbError::Busy(_) | DbError::Unavailable(_) => Self::unavailable("database"),
            _ => Self::internal(),
        };
        told.log("the database failed", error)
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        Self::from(&error)
    }
}

impl From<Arc<DbError>> for ApiError {
    fn from(error: Arc<DbError>) -> Self {
        Self::from(&*error)
    }
}

impl From<Arc<DirectoryError>> for ApiError {
    fn from(error: Arc<DirectoryError>) -> Self {
        match &*error {
            DirectoryError::Database(error) => Self::from(error),
            DirectoryError::Shared(error) => Self::from(&**error),
            DirectoryError::Key { .. } => Self::internal().log("a cache cannot be opened", &error),
        }
    }
}

impl From<NoRoom> for ApiError {
    fn from(error: NoRoom) -> Self {
        let told =
            Self::new(StatusCode::INSUFFICIENT_STORAGE, code::STORAGE_FULL, error.to_string());
        told.log("a push was refused", &error)
    }
}

impl From<GcError> for ApiError {
    fn from(error: GcError) -> Self {
        let message = error.to_string();
        match error {
            GcError::Busy | GcError::Off(_) => {
                Self::new(StatusCode::CONFLICT, code::CONFLICT, message)
            }
            GcError::Database(error) => error.into(),
            GcError::Storage(error) => error.into(),
            GcError::Chain(error) => error.into(),
            error => Self::internal().log("a collection failed", &error),
        }
    }
}

impl From<Arc<ChainError>> for ApiError {
    fn from(error: Arc<ChainError>) -> Self {
        let told = |message: &str| Self {
            retry_after_seconds: Some(10),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code::STORAGE_UNAVAILABLE, message)
        };
        let told = match &*error {
            ChainError::Database(error) => return error.into(),
            ChainError::Foreign { .. } => told(
                "the server's storage belongs to another Snowbank; look at what is mounted, and at \
                 `[storage]`",
            ),
            error if error.is_lost() => told(
                "another copy of this server's database has taken over its storage; nothing is \
                 written or removed. Its operator has to decide which of the two counts",
            ),
            ChainError::Marker(MarkerError::Missing | MarkerError::Unmarked(_)) => told(
                "the server's storage is empty or not its own; look whether it is mounted, and at \
                 `[storage]`",
            ),
            ChainError::Marker(MarkerError::Storage(StorageError::Refused { source, .. })) => {
                Self::refused(source)
            }
            ChainError::Marker(MarkerError::Damaged) => {
                told("the marker of the server's storage is damaged")
            }
            _ => Self::unavailable("storage"),
        };
        told.log("the storage is not known to be this database's", &error)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        let told = match error {
            StorageError::Full { .. } => Self::full(),
            StorageError::Unavailable { .. } => Self::unavailable("storage"),
            StorageError::Refused { ref source, .. } => Self::refused(source),
            _ => Self::internal(),
        };
        told.log("the storage failed", &error)
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        match error {
            BodyError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, code::TOO_LARGE, message)
            }
            BodyError::TooSlow { .. } => {
                Self::new(StatusCode::REQUEST_TIMEOUT, code::TOO_SLOW, message)
            }
            BodyError::Busy(refusal) => refusal.into(),
            BodyError::Broken(_) => Self::bad_request(message),
        }
    }
}

impl ApiError {
    /// What one path of an upload came to.
    pub(super) fn of_line(line: CommitLine) -> Self {
        match line {
            CommitLine::Different { store_path, nar_hash } => {
                let other = nar_hash.map_or_else(String::new, |hash| format!(", {hash}"));
                let message = format!(
                    "the cache has {store_path} with another content{other}; the first one stays"
                );
                Self::new(StatusCode::CONFLICT, code::CONFLICT, message)
            }
            CommitLine::Error { code, message, .. } => {
                let known = |codes: &[&'static str]| codes.iter().copied().find(|one| *one == code);
                if let Some(code) = known(&[code::STORAGE_UNAVAILABLE, code::STORAGE_REFUSED]) {
                    let status = StatusCode::SERVICE_UNAVAILABLE;
                    return Self {
                        retry_after_seconds: Some(2),
                        ..Self::new(status, code, message)
                    };
                }
                if let Some(code) = known(&[code::STORAGE_FULL]) {
                    return Self::new(StatusCode::INSUFFICIENT_STORAGE, code, message);
                }
                let refused = [
                    code::NAR_MISMATCH,
                    code::NAR_MISSING,
                    code::NARINFO_INVALID,
                    code::LIMIT_EXCEEDED,
                    code::REFERENCES_MISSING,
                ];
                match known(&refused) {
                    Some(code) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message),
                    None => Self::internal().log("a path could not be committed", &message),
                }
            }
            _ => Self::internal(),
        }
    }
}

impl From<UploadError<BodyError>> for ApiError {
    fn from(error: UploadError<BodyError>) -> Self {
        let message = error.to_string();
        let refused =
            |code, message: String| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message);
        match error {
            UploadError::Body(error) => error.into(),
            UploadError::Nar(error @ NarUploadError::TooLarge { .. }) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, code::TOO_LARGE, error.to_string())
            }
            UploadError::Nar(NarUploadError::Mismatch { .. }) => {
                refused(code::NAR_MISMATCH, message)
            }
            UploadError::Nar(_) => refused(code::NAR_INVALID, message),
            UploadError::Window { .. } | UploadError::Store(StoreFailure::Entries) => {
                refused(code::LIMIT_EXCEEDED, message)
            }
            UploadError::Store(StoreFailure::Pack(error)) => error.into(),
            UploadError::Store(StoreFailure::Database(error)) => error.into(),
            UploadError::Busy(refusal) | UploadError::Store(StoreFailure::Busy(refusal)) => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, ..Self::from(refusal) }
            }
            UploadError::Store(error) => Self::internal().log("a NAR was not stored", &error),
            UploadError::Verify(VerifyError::TooLarge { .. }) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, code::TOO_LARGE, message)
            }
            UploadError::Verify(VerifyError::Missing(_)) | UploadError::Lost => Self {
                retry_after_seconds: Some(2),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    code::BUSY,
                    UploadError::<BodyError>::Lost.to_string(),
                )
            },
            UploadError::Verify(VerifyError::Database(error)) | UploadError::Database(error) => {
                error.into()
            }
            UploadError::Verify(VerifyError::Read(ReadError::Storage(error))) => error.into(),
            UploadError::Verify(error) => Self::internal().log("a NAR was not read back", &error),
            UploadError::Chain(error) => error.into(),
            UploadError::Stopped(error) => Self::internal().log("a NAR was not stored", &error),
        }
    }
}

impl<B> From<ReceiveError<B>> for ApiError
where
    B: std::error::Error + Into<Self> + 'static,
{
    fn from(error: ReceiveError<B>) -> Self {
        let refused = |code, message| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message);
        match error {
            ReceiveError::Body(error) => error.into(),
            ReceiveError::Busy(refusal) => refusal.into(),
            ReceiveError::Bundle(error) => {
                refused(code::BUNDLE_INVALID, format!("the bundle: {error}"))
            }
            // What the bytes are instead is the server's knowledge.
            ReceiveError::Chunk { name, source: FrameError::Name { .. } } => refused(
                code::CHUNK_INVALID,
                format!("chunk {name}: its bytes and slots give another name"),
            ),
            ReceiveError::Chunk { name, source } => {
                refused(code::CHUNK_INVALID, format!("chunk {name}: {source}"))
            }
            ReceiveError::Store(PackWriteError::Storage(error)) => error.into(),
            ReceiveError::Chain(error) => error.into(),
            ReceiveError::Store(PackWriteError::Database(error))
            | ReceiveError::Database(error) => error.into(),
            ReceiveError::Store(error) => {
                Self::internal().log("a pack could not be written", &error)
            }
            ReceiveError::Random(error) => {
                Self::internal().log("a bundle was not verified", &error)
            }
            ReceiveError::Stopped(error) => {
                Self::internal().log("a bundle was not verified", &error)
            }
        }
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        let message = error.to_string();
        match error {
            AdminError::NameTaken(_)
            | AdminError::NameDestroyed(_)
            | AdminError::InUse(_)
            | AdminError::Referred(_)
            | AdminError::Pinned(_)
            | AdminError::GenerationGone { .. }
            | AdminError::Raced => Self::new(StatusCode::CONFLICT, code::CONFLICT, message),
            AdminError::NoCache(_) | AdminError::NotDestroyed(_) => Self::not_found(message),
            AdminError::NoToken(_) | AdminError::NeverIssued { .. } => {
                Self::absent(code::NO_TOKEN, message)
            }
            AdminError::NoPath(_) => Self::absent(code::NO_PATH, message),
            AdminError::NoPin(_) | AdminError::NoGeneration { .. } => {
                Self::absent(code::NO_PIN, message)
            }
            AdminError::BadSetting(_) | AdminError::BadToken(_) | AdminError::PartOfToken(_) => {
                Self::bad_request(message)
            }
            AdminError::Pin(_) => Self::limit(message),
            AdminError::Database(error) => error.into(),
            AdminError::Auth(error) => error.into(),
            AdminError::NoTokenKey
            | AdminError::OtherServerKey
            | AdminError::Secret(_)
            | AdminError::Key(_) => {
                Self::internal().log("what an operator asked for failed", &error)
            }
        }
    }
}

impl From<CopyError> for ApiError {
    fn from(error: CopyError) -> Self {
        let message = error.to_string();
        match error {
            CopyError::NoPath { .. } => Self::absent(code::NO_PATH, message),
            CopyError::StoreDir { .. } => {
                Self::new(StatusCode::BAD_REQUEST, code::STORE_DIR_MISMATCH, message)
            }
            CopyError::Different { .. } | CopyError::Gone => {
                Self::new(StatusCode::CONFLICT, code::CONFLICT, message)
            }
            CopyError::TooMany => Self::limit(message),
            CopyError::Database(error) => error.into(),
            CopyError::Chain(error) => error.into(),
            CopyError::Verify(_) => {
                Self::internal().log("a NAR could not be brought to another domain", &error)
            }
        }
    }
}

impl From<ServeError> for ApiError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Database(error) | ServeError::Read(ReadError::Database(error)) => {
                error.into()
            }
            ServeError::Shared(error) => error.into(),
            ServeError::Read(ReadError::Storage(error)) => error.into(),
            error => Self::internal().log("a NAR could not be served", &error),
        }
    }
}
