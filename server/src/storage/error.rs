//! What can go wrong with the storage, sorted by what a caller does about it.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a storage call failed; each names the object, or the folder, that it was about.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such object.
    #[error("the storage has no object `{key}`")]
    NotFound {
        /// The object.
        key: String,
    },
    /// The object ends before the range that was asked for.
    #[error(
        "the object `{key}` is shorter than the {wanted} bytes that the database knows of; run \
         `snowbankd check`"
    )]
    Short {
        /// The object.
        key: String,
        /// Where the range would have ended.
        wanted: u64,
    },
    /// No room is left.
    #[error(
        "the storage is full: `{key}` could not be written ({source}). Make room, then push again"
    )]
    Full {
        /// What was to be written.
        key: String,
        /// What the storage said.
        source: StorageFailure,
    },
    /// The storage cannot be used, by this server or at this moment.
    #[error("the storage is unavailable: {key}: {source}. {}", source.advice())]
    Unavailable {
        /// What it was about.
        key: String,
        /// What the storage said.
        source: StorageFailure,
    },
    /// A bucket's service answers, and refuses what it is asked: its operator has to mend a key, a
    /// bucket or a clock.
    #[error("the storage refuses its requests: {key}: {source}. {}", source.advice())]
    Refused {
        /// What it was about.
        key: String,
        /// What the service said.
        source: StorageFailure,
    },
    /// A key that is no key.
    #[error("`{key}` is not an object key")]
    BadKey {
        /// The text.
        key: String,
    },
    /// Anything else.
    #[error("the storage failed on `{key}`: {source}")]
    Other {
        /// What it was about.
        key: String,
        /// What the storage said.
        source: StorageFailure,
    },
    /// The settings do not lead to a storage at all; the text names them.
    #[error("{0}")]
    Settings(String),
}

/// What a storage said: the system about a folder, or a service about a bucket.
#[derive(Debug)]
pub enum StorageFailure {
    /// The system.
    Io(io::Error),
    /// A service.
    Service(Box<ServiceFailure>),
    /// Nothing was asked: the last requests all failed, the latest of them like this.
    Paused(String),
}

/// What a service answered, or why there was no answer. Never holds a credential.
#[derive(Debug, Clone)]
pub struct ServiceFailure {
    /// What a caller does about it.
    pub kind: FailureKind,
    /// The operation that was tried.
    pub operation: &'static str,
    /// The status, where there was an answer.
    pub status: Option<u16>,
    /// The service's own code, such as `AccessDenied`.
    pub code: Option<String>,
    /// The service's own words, or what went wrong on the way to it.
    pub message: String,
    /// Under which the service's operator finds the request.
    pub request_id: Option<String>,
    /// How long the service asks to wait.
    pub retry_after: Option<Duration>,
}

/// The kinds of a [`ServiceFailure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No such object.
    NotFound,
    /// No such bucket.
    NoBucket,
    /// A range beyond the object's end.
    BeyondEnd,
    /// The credentials are wrong, or may not do that.
    Denied,
    /// The clocks are too far apart.
    ClockSkew,
    /// The region is another one.
    WrongRegion,
    /// No room, or a quota.
    Full,
    /// The name of the service does not resolve.
    Name,
    /// Nobody listens there, or the connection broke.
    Connection,
    /// TLS could not be agreed on.
    Tls,
    /// No answer in time.
    Timeout,
    /// The service is busy, or failed in a way that it may recover from.
    Busy,
    /// Anything else.
    Other,
}

impl FailureKind {
    /// Whether the same request may come out better in a moment.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, Self::Name | Self::Connection | Self::Tls | Self::Timeout | Self::Busy)
    }

    /// Whether somebody has to change something before such a request can succeed, here or at the
    /// service.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Denied | Self::NoBucket | Self::ClockSkew | Self::WrongRegion)
    }

    /// What an operator does about it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Name => "Check `endpoint` and `region`, and that this host can resolve names",
            Self::Connection => {
                "Check that the service runs, and `endpoint`: its scheme, host and port"
            }
            Self::Tls => {
                "Check that `endpoint` speaks https, and that its certificate is valid for that \
                 name; an authority of your own goes into `ca-file`"
            }
            Self::Timeout => "Check the network, firewalls between, and `request-timeout`",
            Self::Denied => {
                "Check the access key, its secret, and that it may get, put, delete and list in \
                 this bucket under this `prefix`"
            }
            Self::ClockSkew => "Set this machine's clock, with NTP for instance",
            Self::WrongRegion => "Set `region` to the bucket's",
            Self::NoBucket => {
                "Create the bucket, or correct `bucket`; `path-style` decides how it is named to \
                 the service"
            }
            Self::Full => "Make room, or raise the quota",
            Self::NotFound | Self::BeyondEnd => "Run `snowbankd check`",
            Self::Busy => "The service has to recover; it is tried again",
            Self::Other => "The service's documentation knows its message",
        }
    }
}

impl StorageFailure {
    fn advice(&self) -> &'static str {
        match self {
            Self::Io(_) => "Check that it is mounted, and that the server may read and write there",
            Self::Service(failure) => failure.kind.advice(),
            Self::Paused(_) => "It is tried again every second",
        }
    }

    /// A refusal as a client is told of it: which permission is missing, or what is wrong. Nothing
    /// of the service's own words.
    #[must_use]
    pub fn told(&self) -> String {
        let Self::Service(failure) = self else { return "it does not say why".to_owned() };
        match (failure.kind, failure.code.as_deref()) {
            (FailureKind::NoBucket, _) => "its bucket is not there".to_owned(),
            (FailureKind::ClockSkew, _) => {
                "the clocks of server and storage differ too much".to_owned()
            }
            (FailureKind::WrongRegion, _) => {
                "the server has the wrong region for its bucket".to_owned()
            }
            (_, Some("SignatureDoesNotMatch" | "InvalidAccessKeyId" | "InvalidToken")) => {
                "it does not know the server's access key, or the secret that goes with it"
                    .to_owned()
            }
            _ => format!("the server's access key lacks the permission for {}", failure.operation),
        }
    }
}

impl fmt::Display for StorageFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Service(failure) => failure.fmt(f),
            Self::Paused(latest) => {
                write!(f, "it has not answered for a while, at last like this: {latest}")
            }
        }
    }
}

impl std::error::Error for StorageFailure {}

impl fmt::Display for ServiceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        if let Some(status) = self.status {
            write!(f, "status {status}, ")?;
        }
        if let Some(code) = self.code.as_deref().filter(|code| !code.is_empty()) {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl StorageError {
    /// Sorts what the system said about `key`.
    pub(super) fn from_io(key: &str, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let key = key.to_owned();
        let kind = source.kind();
        // EIO has no kind of its own: a disk that fails.
        let broken = source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        let source = StorageFailure::Io(source);
        match kind {
            Kind::NotFound => Self::NotFound { key },
            Kind::StorageFull | Kind::QuotaExceeded => Self::Full { key, source },
            Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotADirectory
            | Kind::ResourceBusy
            | Kind::TimedOut
            | Kind::StaleNetworkFileHandle => Self::Unavailable { key, source },
            _ if broken => Self::Unavailable { key, source },
            _ => Self::Other { key, source },
        }
    }

    /// A folder that is not there, when something was to be written to it.
    pub(super) fn folder_gone(key: String) -> Self {
        Self::Unavailable { key, source: StorageFailure::Io(io::ErrorKind::NotFound.into()) }
    }

    /// Sorts what a service said about `key`.
    pub(super) fn from_service(key: &str, failure: ServiceFailure) -> Self {
        let key = key.to_owned();
        let kind = failure.kind;
        let source = StorageFailure::Service(Box::new(failure));
        match kind {
            FailureKind::NotFound => Self::NotFound { key },
            FailureKind::Full => Self::Full { key, source },
            FailureKind::BeyondEnd | FailureKind::Other => Self::Other { key, source },
            kind if kind.is_refusal() => Self::Refused { key, source },
            _ => Self::Unavailable { key, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn class(errno: Errno) -> StorageError {
        StorageError::from_io("packs/aa", io::Error::from(errno))
    }

    #[test]
    fn a_full_disk_is_told_from_a_lost_one() {
        assert!(matches!(class(Errno::NOSPC), StorageError::Full { .. }));
        assert!(matches!(class(Errno::DQUOT), StorageError::Full { .. }));
        assert!(matches!(class(Errno::IO), StorageError::Unavailable { .. }));
        assert!(matches!(class(Errno::ROFS), StorageError::Unavailable { .. }));
        assert!(matches!(class(Errno::ACCESS), StorageError::Unavailable { .. }));
        assert!(matches!(class(Errno::NOENT), StorageError::NotFound { .. }));
        assert!(matches!(class(Errno::MFILE), StorageError::Other { .. }));
    }

    #[test]
    fn every_error_names_its_object() {
        for errno in [Errno::NOSPC, Errno::IO, Errno::NOENT, Errno::MFILE] {
            assert!(class(errno).to_string().contains("packs/aa"));
        }
    }

    #[test]
    fn a_service_is_quoted_with_its_request_id_and_what_to_do() {
        let failure = ServiceFailure {
            kind: FailureKind::Denied,
            operation: "PutObject",
            status: Some(403),
            code: Some("AccessDenied".to_owned()),
            message: "no".to_owned(),
            request_id: Some("4711".to_owned()),
            retry_after: None,
        };
        let text = StorageError::from_service("packs/aa", failure).to_string();
        for part in ["packs/aa", "PutObject", "403", "AccessDenied", "4711", "Check the access key"]
        {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
