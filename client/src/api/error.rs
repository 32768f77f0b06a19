//! What can go wrong with a request, told apart, each with the next step.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use snowbank_core::wire::{ErrorDetail, code};

use super::certificate_file::certificate_file;
use crate::config::{ClientCertificate, Target};
use crate::exit::{Exit, Failure};

/// A request that failed. The text names the server, the cause and what to do; never a token.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    kind: ApiErrorKind,
    message: String,
    code: Option<String>,
    retry_after: Option<Duration>,
}

/// By which a failure of TLS is known in what the libraries say.
const TLS_WORDS: [&str; 5] =
    ["certificate", "tls", "handshake", "fatal alert", "peer is incompatible"];

/// By which a server says that it wants another certificate of the client: alerts are about what the
/// other side has sent.
const WANTS_CLIENT_CERTIFICATE: [&str; 6] = [
    "fatal alert: CertificateRequired",
    "fatal alert: BadCertificate",
    "fatal alert: CertificateExpired",
    "fatal alert: CertificateUnknown",
    "fatal alert: UnsupportedCertificate",
    "fatal alert: UnknownCA",
];

/// The kinds of failure that someone treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiErrorKind {
    /// No connection (address, network, TLS), or one that broke.
    Unreachable,
    /// Nothing moved for too long.
    Timeout,
    /// 401.
    Unauthenticated,
    /// 403.
    Forbidden,
    /// 404 for a cache, or an address that the server does not have.
    NotFound,
    /// 404 for something in a cache or on the server, which are there: a path, a pin, a token.
    Absent,
    /// 409.
    Conflict,
    /// 413: something on the way takes only smaller bodies.
    TooLarge,
    /// 429.
    Busy,
    /// 408, 502, 503, 504: the server, what it needs, or the line to it is away for a moment.
    Unavailable,
    /// Any other status from 500 up.
    Server,
    /// 507.
    StorageFull,
    /// An answer that is not the protocol's.
    Protocol,
    /// Any other status from 300 up: the request was understood and refused.
    Rejected,
    /// This machine's side: a certificate file, an address, a token that cannot be sent.
    Setup,
}

impl ApiError {
    fn new(kind: ApiErrorKind, message: String) -> Self {
        Self { kind, message, code: None, retry_after: None }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ApiErrorKind {
        self.kind
    }

    /// The server's word for it, one of [`snowbank_core::wire::code`].
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The cause in a few words, for a line that says what is waited for.
    #[must_use]
    pub fn in_short(&self) -> &'static str {
        match self.kind {
            ApiErrorKind::Unreachable if self.message.contains("connection refused") => {
                "connection refused"
            }
            ApiErrorKind::Unreachable => "the server cannot be reached",
            ApiErrorKind::Timeout => "the server does not answer",
            ApiErrorKind::Busy => "the server is busy",
            ApiErrorKind::StorageFull => "the server's storage is full",
            _ => "the server failed",
        }
    }

    /// How long the server asks to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The code to exit with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self.kind {
            ApiErrorKind::Unreachable | ApiErrorKind::Timeout => Exit::Unreachable,
            ApiErrorKind::Unauthenticated => Exit::Unauthenticated,
            ApiErrorKind::Forbidden => Exit::Forbidden,
            ApiErrorKind::NotFound => Exit::NotFound,
            ApiErrorKind::Absent => Exit::Absent,
            ApiErrorKind::Conflict => Exit::Conflict,
            ApiErrorKind::Busy | ApiErrorKind::Unavailable | ApiErrorKind::Server => Exit::Server,
            ApiErrorKind::Protocol => Exit::Unexpected,
            ApiErrorKind::StorageFull => Exit::StorageFull,
            ApiErrorKind::TooLarge | ApiErrorKind::Rejected => Exit::Refused,
            ApiErrorKind::Setup => Exit::Config,
        }
    }

    pub(super) const fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// An answer of another status than success.
    pub(super) fn status(
        target: &Target,
        url: &str,
        status: StatusCode,
        detail: Option<ErrorDetail>,
        location: Option<&str>,
    ) -> Self {
        let kind = kind_of(status, detail.as_ref().map(|detail| detail.code.as_str()));
        let server = &target.server_url;
        let said = detail.as_ref().map_or_else(
            || format!("status {status}, and no word of a Snowbank server"),
            |detail| detail.message.clone(),
        );
        let message = match kind {
            ApiErrorKind::Unauthenticated if target.token.is_none() => format!(
                "{server} wants a token and there is none ({said}); run `snowbank login NAME \
                 {server}`, or set SNOWBANK_TOKEN"
            ),
            ApiErrorKind::Unauthenticated => format!(
                "{server} does not accept the token from {} ({said}); log in again with a token \
                 that is valid there",
                target.token_source
            ),
            ApiErrorKind::Forbidden => format!(
                "the token from {} does not permit this at {server} ({said}); ask the operator for \
                 one with that permission",
                target.token_source
            ),
            ApiErrorKind::NotFound if detail.is_none() => {
                format!(
                    "there is nothing at {url} ({said}); is {server} the address of a Snowbank \
                     server?"
                )
            }
            ApiErrorKind::NotFound if url.contains(&format!("/{}", target.cache)) => format!(
                "{server} has no cache `{}`, or the token from {} may not see it ({said})",
                target.cache, target.token_source
            ),
            ApiErrorKind::NotFound => {
                format!(
                    "{server} says: {said}; or the token from {} may not see it",
                    target.token_source
                )
            }
            ApiErrorKind::Absent | ApiErrorKind::Conflict => format!("{server} says: {said}"),
            ApiErrorKind::TooLarge => {
                format!(
                    "the request's body is too large for {server}, or for a proxy before it \
                     ({said})"
                )
            }
            ApiErrorKind::Busy => format!("{server} is too busy ({said}); try again later"),
            ApiErrorKind::StorageFull => format!("the storage of {server} is full ({said})"),
            ApiErrorKind::Unavailable | ApiErrorKind::Server => format!("{server} failed ({said})"),
            _ if status.is_redirection() => format!(
                "{server} redirects to {}; log in with the address that it is to be used by",
                location.unwrap_or("another address")
            ),
            _ => format!("{server} refuses the request to {url} ({said})"),
        };
        let request_id = detail.as_ref().and_then(|detail| detail.request_id.as_deref());
        let message =
            request_id.map_or_else(|| message.clone(), |id| format!("{message} [request {id}]"));
        Self { code: detail.map(|detail| detail.code), ..Self::new(kind, message) }
    }

    /// A connection that was not made, or that broke.
    pub(super) fn transport(target: &Target, url: &str, error: &reqwest::Error) -> Self {
        let Target { server_url: server, client_certificate, .. } = target;
        // Where both sides speak TLS 1.3, it comes once the connection seems to be there.
        let (own, cause) = (client_certificate.as_ref(), chain(error));
        let is_refused = WANTS_CLIENT_CERTIFICATE.iter().any(|alert| cause.contains(alert))
            // Signed by another authority of the same name.
            || (own.is_some() && cause.contains("fatal alert: DecryptError"));
        if is_refused {
            return Self::client_refused(server, own, &cause);
        }
        Self::broken(server, url, error)
    }

    /// A server that wants a client certificate, and got none or does not accept it.
    fn client_refused(server: &str, own: Option<&ClientCertificate>, cause: &str) -> Self {
        let message = match own {
            Some(own) => format!(
                "{server} does not accept the client certificate in {} ({cause}); it wants one \
                 that is valid now, and signed by an authority of its `client-ca-file`",
                own.certificate_file.display()
            ),
            None => format!(
                "{server} wants a client certificate ({cause}); name its files as \
                 `client-certificate-file` and `client-key-file` of the server in client.toml, or \
                 in SNOWBANK_CLIENT_CERTIFICATE_FILE and SNOWBANK_CLIENT_KEY_FILE"
            ),
        };
        Self::new(ApiErrorKind::Setup, message)
    }

    /// As [`ApiError::transport`], of a server that is shown no certificate.
    pub(super) fn broken(server: &str, url: &str, error: &reqwest::Error) -> Self {
        if error.is_builder() {
            let message =
                format!("{url} cannot be asked ({}); is the address right?", chain(error));
            return Self::new(ApiErrorKind::Setup, message);
        }
        if error.is_timeout() {
            let message = format!(
                "no connection to {server} within the time allowed; is the address right, and does \
                 a firewall let it through?"
            );
            return Self::new(ApiErrorKind::Timeout, message);
        }
        let cause = chain(error);
        let lower = cause.to_lowercase();
        let message = if !error.is_connect() {
            format!("the connection to {server} broke ({cause})")
        } else if refused(error) {
            format!(
                "cannot connect to {server}: connection refused; is snowbankd running there, and \
                 is the address right?"
            )
        } else if lower.contains("corrupt message") {
            format!(
                "cannot connect to {server} securely ({cause}); does it speak plain http:// at \
                 this port?"
            )
        } else if TLS_WORDS.iter().any(|word| lower.contains(word)) {
            format!("cannot connect to {server} securely: {}; {}", tls_fault(&cause), trusted())
        } else if error.is_dns() || lower.contains("dns") {
            format!(
                "cannot connect to {server}: its name is not found ({cause}); is the address right?"
            )
        } else {
            format!(
                "cannot connect to {server} ({cause}); is the address right, and is the network up?"
            )
        };
        Self::new(ApiErrorKind::Unreachable, message)
    }

    pub(super) fn stalled(server: &str, url: &str, limit: Duration) -> Self {
        let message =
            format!("{server} has not moved for {} s (at {url}); try again later", limit.as_secs());
        Self::new(ApiErrorKind::Timeout, message)
    }

    /// What was begun could not be finished; the server has said why.
    pub(super) fn unfinished(server: &str, said: &str) -> Self {
        Self::new(ApiErrorKind::Server, format!("{server} could not finish ({said})"))
    }

    /// What a commit's line says of one path.
    pub(crate) fn of_line(code: &str, message: &str) -> Self {
        let kind = match code {
            code::BUSY => ApiErrorKind::Busy,
            code::STORAGE_UNAVAILABLE | code::STORAGE_REFUSED => ApiErrorKind::Unavailable,
            code::INTERNAL => ApiErrorKind::Server,
            code::STORAGE_FULL => ApiErrorKind::StorageFull,
            _ => ApiErrorKind::Rejected,
        };
        Self { code: Some(code.to_owned()), ..Self::new(kind, message.to_owned()) }
    }

    pub(super) fn cut_off(server: &str, url: &str) -> Self {
        let message = format!("{server} ended its answer before it was complete (at {url})");
        Self::new(ApiErrorKind::Unreachable, message)
    }

    pub(super) fn protocol(server: &str, url: &str, reason: &dyn fmt::Display) -> Self {
        let message = format!(
            "cannot understand the answer of {server} (at {url}): {reason}; is it a Snowbank \
             server of this version?"
        );
        Self::new(ApiErrorKind::Protocol, message)
    }

    /// An answer of a binary cache that need not be a Snowbank server.
    pub(super) fn upstream(server: &str, url: &str, reason: &dyn fmt::Display) -> Self {
        Self::new(ApiErrorKind::Protocol, format!("{server} gives no narinfo (at {url}): {reason}"))
    }

    pub(super) fn unusable(server: &str, error: &reqwest::Error) -> Self {
        let message = format!(
            "cannot make connections to {server} ({}); without certificates in the system, name a \
             file of them in NIX_SSL_CERT_FILE or SSL_CERT_FILE",
            chain(error)
        );
        Self::new(ApiErrorKind::Setup, message)
    }

    pub(super) fn certificates(variable: &str, file: &Path, reason: &dyn fmt::Display) -> Self {
        let message = format!(
            "the certificates in {} cannot be used: {reason}; {variable} names that file, correct \
             or unset it",
            file.display()
        );
        Self::new(ApiErrorKind::Setup, message)
    }

    pub(super) fn client_certificate(own: &ClientCertificate, reason: &str) -> Self {
        let message = format!(
            "the client certificate in {} with the key in {} cannot be used: {reason}",
            own.certificate_file.display(),
            own.key_file.display()
        );
        Self::new(ApiErrorKind::Setup, message)
    }

    /// The causes of `error`, in a line.
    pub(super) fn causes(error: &reqwest::Error) -> String {
        chain(error)
    }

    pub(super) fn token_unusable(target: &Target) -> Self {
        let message = format!(
            "the token from {} has characters that no token has; log in again",
            target.token_source
        );
        Self::new(ApiErrorKind::Setup, message)
    }

    #[cfg(test)]
    pub(crate) fn for_tests(kind: ApiErrorKind, retry_after: Option<Duration>) -> Self {
        Self::new(kind, format!("{kind:?}")).with_retry_after(retry_after)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::new(error.exit(), error)
    }
}

/// The kind of failure that a status is, with the server's code.
fn kind_of(status: StatusCode, code: Option<&str>) -> ApiErrorKind {
    match status.as_u16() {
        404 if matches!(
            code,
            Some(code::NO_PATH | code::NO_PIN | code::NO_TOKEN | code::NO_PUSH_SESSIONS)
        ) =>
        {
            ApiErrorKind::Absent
        }
        401 => ApiErrorKind::Unauthenticated,
        403 => ApiErrorKind::Forbidden,
        404 => ApiErrorKind::NotFound,
        409 => ApiErrorKind::Conflict,
        413 => ApiErrorKind::TooLarge,
        429 => ApiErrorKind::Busy,
        // 408: the server waited for this side; the line is slow, or was interrupted.
        408 | 502..=504 => ApiErrorKind::Unavailable,
        507 => ApiErrorKind::StorageFull,
        500.. => ApiErrorKind::Server,
        _ => ApiErrorKind::Rejected,
    }
}

/// What is wrong with a server's certificate, in words.
fn tls_fault(cause: &str) -> String {
    let fault = |word: &str| cause.contains(word);
    let words = if fault("UnknownIssuer") {
        "its certificate is signed by an authority that is not trusted here"
    } else if fault("CaUsedAsEndEntity") {
        "its certificate is that of an authority (self-signed, with CA:TRUE), which no server may \
         use; it needs one that the authority has signed"
    } else if fault("NotValidForName") {
        "its certificate is for another name"
    } else if fault("NotValidYet") {
        "its certificate is not valid yet, or this machine's clock is slow"
    } else if fault("Expired") {
        "its certificate has expired, or this machine's clock is fast"
    } else {
        return cause.to_owned();
    };
    format!("{words} ({cause})")
}

/// Which authorities are trusted, and how to trust others.
fn trusted() -> String {
    match certificate_file() {
        Some((variable, file)) => {
            format!(
                "trusted are the certificates in {}, which {variable} names, and no others",
                file.display()
            )
        }
        None => "trusted are the system's certificates; for those of an authority of your own, \
            name their file in NIX_SSL_CERT_FILE or SSL_CERT_FILE"
            .to_owned(),
    }
}

/// The causes of `error` without the first, whose text repeats the address.
fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        next = cause.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

fn refused(error: &reqwest::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
        {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::tls_fault;

    #[test]
    fn a_certificate_that_is_refused_is_described() {
        for (cause, words) in [
            ("invalid peer certificate: UnknownIssuer", "an authority that is not trusted here"),
            (
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                "self-signed, with CA:TRUE",
            ),
            ("invalid peer certificate: certificate expired: NotValidForName", "for another name"),
            ("invalid peer certificate: Expired", "has expired"),
            ("invalid peer certificate: NotValidYet", "clock is slow"),
            ("received fatal alert: ProtocolVersion", "received fatal alert"),
        ] {
            let said = tls_fault(cause);
            assert!(said.contains(words) && said.contains(cause), "{said}");
        }
    }
}
