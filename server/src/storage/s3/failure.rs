//! What the service answered, sorted. Status and code decide; a code is believed before a status.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::super::{FailureKind, ServiceFailure};
use super::calls::BodyFailure;

/// A failure of the SDK.
pub(super) fn from_sdk<E>(
    operation: &'static str,
    error: &SdkError<E, HttpResponse>,
) -> ServiceFailure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let blank = |kind, message: String| ServiceFailure {
        kind,
        operation,
        status: None,
        code: None,
        message,
        request_id: None,
        retry_after: None,
    };
    match error {
        SdkError::ServiceError(answer) => {
            let (raw, error) = (answer.raw(), answer.err());
            let header = |name: &str| raw.headers().get(name).map(str::to_owned);
            let status = raw.status().as_u16();
            let code = error.code().map(str::to_owned);
            let region = header("x-amz-bucket-region")
                .map(|region| format!("; the bucket's region is {region}"));
            let words = error.message().unwrap_or_default().trim().trim_end_matches('.');
            let words = if words.is_empty() { "no message" } else { words };
            ServiceFailure {
                kind: if says_full(status, words) {
                    FailureKind::Full
                } else {
                    kind_of(status, code.as_deref())
                },
                operation,
                status: Some(status),
                message: format!("{words}{}", region.unwrap_or_default()),
                code,
                request_id: header("x-amz-request-id").or_else(|| header("cf-ray")),
                retry_after: header("retry-after")
                    .and_then(|text| text.trim().parse().ok())
                    .map(Duration::from_secs),
            }
        }
        SdkError::TimeoutError(_) => {
            blank(FailureKind::Timeout, "the connection could not be made in time".to_owned())
        }
        SdkError::DispatchFailure(failure) => {
            let text =
                failure.as_connector_error().map_or_else(|| chain(error), |error| chain(error));
            let kind =
                if failure.is_timeout() { FailureKind::Timeout } else { kind_of_text(&text) };
            blank(kind, text)
        }
        SdkError::ResponseError(answer) => {
            let status = answer.raw().status().as_u16();
            let mut failure =
                blank(FailureKind::Busy, format!("the answer makes no sense: {}", chain(error)));
            failure.status = Some(status);
            failure.kind = match kind_of(status, None) {
                // An answer that was good and could not be read is worth another try.
                FailureKind::Other => FailureKind::Busy,
                kind => kind,
            };
            failure
        }
        _ => {
            let text = chain(error);
            let kind = if text.to_ascii_lowercase().contains("credential") {
                FailureKind::Denied
            } else {
                kind_of_text(&text)
            };
            blank(kind, text)
        }
    }
}

/// A body that did not come whole.
pub(super) fn from_body(operation: &'static str, error: &BodyFailure) -> ServiceFailure {
    let kind = match error {
        BodyFailure::Stalled(_) => FailureKind::Timeout,
        BodyFailure::Broken(_) => FailureKind::Connection,
        BodyFailure::TooLong => FailureKind::Other,
    };
    let message = chain(error);
    ServiceFailure {
        kind,
        operation,
        status: None,
        code: None,
        message,
        request_id: None,
        retry_after: None,
    }
}

/// Whether the words of a refusal say that a quota is used up. Garage has no code of its own for
/// that, nor has Backblaze B2.
fn says_full(status: u16, words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    matches!(status, 400 | 403 | 413) && has(&["quota", "storage cap", "cap exceeded"])
        || matches!(status, 400..600)
            && has(&["no space left", "not enough space", "disk full", "storage full"])
}

fn kind_of(status: u16, code: Option<&str>) -> FailureKind {
    match (status, code.unwrap_or_default()) {
        (_, "NoSuchBucket") => FailureKind::NoBucket,
        (_, "NoSuchKey") => FailureKind::NotFound,
        (_, "RequestTimeTooSkewed") => FailureKind::ClockSkew,
        (_, "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed")
        | (301 | 307 | 308, _) => FailureKind::WrongRegion,
        (
            _,
            "QuotaExceeded"
            | "XMinioStorageFull"
            | "XMinioAdminBucketQuotaExceeded"
            | "StorageCapExceeded",
        )
        | (507, _) => FailureKind::Full,
        (_, "InvalidRange") | (416, _) => FailureKind::BeyondEnd,
        // The last two: a temporary credential that ran out; the next attempt has a new one.
        (
            _,
            "SlowDown"
            | "RequestTimeout"
            | "InternalError"
            | "ServiceUnavailable"
            | "OperationAborted"
            | "ExpiredToken"
            | "TokenRefreshRequired",
        )
        | (408 | 409 | 425 | 429, _) => FailureKind::Busy,
        (401 | 403, _) => FailureKind::Denied,
        (404, _) => FailureKind::NotFound,
        // What is not there yet will not be there in a minute either.
        (501 | 505, _) => FailureKind::Other,
        (500.., _) => FailureKind::Busy,
        _ => FailureKind::Other,
    }
}

/// Where a connection failed, which only its words tell.
fn kind_of_text(text: &str) -> FailureKind {
    let text = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["dns error", "failed to lookup", "name or service", "name resolution"]) {
        FailureKind::Name
    } else if has(&[
        "certificate",
        "tls",
        "handshake",
        "corrupt message",
        "invalidcontenttype",
        "unknownissuer",
    ]) {
        FailureKind::Tls
    } else {
        FailureKind::Connection
    }
}

/// An error and its causes, without repetition.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_by_what_to_do() {
        assert_eq!(kind_of(404, Some("NoSuchKey")), FailureKind::NotFound);
        assert_eq!(kind_of(404, None), FailureKind::NotFound);
        assert_eq!(kind_of(404, Some("NoSuchBucket")), FailureKind::NoBucket);
        assert_eq!(kind_of(403, Some("SignatureDoesNotMatch")), FailureKind::Denied);
        assert_eq!(kind_of(403, Some("RequestTimeTooSkewed")), FailureKind::ClockSkew);
        assert_eq!(kind_of(403, Some("QuotaExceeded")), FailureKind::Full);
        assert_eq!(kind_of(400, Some("AuthorizationHeaderMalformed")), FailureKind::WrongRegion);
        assert_eq!(kind_of(503, Some("SlowDown")), FailureKind::Busy);
        assert_eq!(kind_of(429, None), FailureKind::Busy);
        assert_eq!(kind_of(501, Some("NotImplemented")), FailureKind::Other);
        assert_eq!(kind_of(416, None), FailureKind::BeyondEnd);
    }

    #[test]
    fn a_quota_is_known_by_its_words() {
        let garage = "Forbidden: Bucket size quota is reached, maximum total size of objects for \
            this bucket: 4194304";
        assert!(says_full(403, garage));
        assert!(says_full(403, "Cannot upload files, storage cap exceeded"));
        assert!(says_full(500, "write /data/x: no space left on device"));
        assert!(!says_full(503, "Request quota exceeded, slow down"), "of requests, not of bytes");
        assert!(!says_full(403, "Access Denied"));
    }

    #[test]
    fn a_connection_says_where_it_failed() {
        assert_eq!(
            kind_of_text("io error: dns error: failed to lookup address information"),
            FailureKind::Name
        );
        assert_eq!(
            kind_of_text("tcp connect error: Connection refused (os error 111)"),
            FailureKind::Connection
        );
        assert_eq!(
            kind_of_text("received corrupt message of type InvalidContentType"),
            FailureKind::Tls
        );
        assert_eq!(kind_of_text("invalid peer certificate: UnknownIssuer"), FailureKind::Tls);
    }
}
