//! What strict services refuse, each rule with who has it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, IF_NONE_MATCH, RANGE},
    http::request::Parts,
};

use super::{S3Request, Seen};
use crate::loopback::{AnyBody, full};

/// R2: one write a second to one key.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// All services: the least length of a part that is not the last.
const MIN_PART_BYTES: u64 = 5 << 20;

/// A request that breaks a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
}

impl Refusal {
    /// The answer, as services word it.
    pub(super) fn response(self) -> Response<AnyBody> {
        let mut response = Response::new(full(error_xml(self.code, self.message)));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/xml"));
        response
    }
}

/// The body of an error.
pub(crate) fn error_xml(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" \
         encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>HARNESS-REQUEST-ID</RequestId></Error>"
    )
}

/// Notes a request, and says whether it breaks a rule. `buckets` is the folder that has a folder
/// for each.
pub(super) fn check(head: &Parts, seen: &mut Seen, buckets: &Path) -> Option<Refusal> {
    let query = Query(head.uri.query().unwrap_or_default());
    let operation = operation(&head.method, head.uri.path(), query);
    let bucket = head.uri.path().trim_start_matches('/').split('/').next().unwrap_or_default();
    let refusal = if buckets.join(bucket).is_dir() {
        broken_rule(head, operation, query, seen)
    } else {
        // The server below would make it.
        let message = "The specified bucket does not exist.";
        Some(Refusal { status: StatusCode::NOT_FOUND, code: "NoSuchBucket", message })
    };
    seen.requests.push(S3Request {
        operation,
        path: head.uri.path().to_owned(),
        range: head
            .headers
            .get(RANGE)
            .map(|range| String::from_utf8_lossy(range.as_bytes()).into_owned()),
        refused: refusal.map(|refusal| refusal.code),
    });
    refusal
}

#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn get(self, name: &str) -> Option<&'a str> {
        let mut pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

fn operation(method: &Method, path: &str, query: Query<'_>) -> &'static str {
    let of_bucket = path.trim_matches('/').split_once('/').is_none();
    match method.as_str() {
        _ if query.get("uploads").is_some() || query.get("uploadId").is_some() => "multipart",
        "PUT" => "put",
        "GET" if of_bucket => "list",
        // Servers read it at all times.
        "GET" if path.ends_with("/snowbank-instance") => "marker",
        "GET" => "get",
        "HEAD" => "head",
        "DELETE" => "delete",
        "POST" if query.get("delete").is_some() => "delete-many",
        _ => "other",
    }
}

fn broken_rule(
    head: &Parts,
    operation: &str,
    query: Query<'_>,
    seen: &mut Seen,
) -> Option<Refusal> {
    let headers = &head.headers;
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refuse = |status, code, message| Some(Refusal { status, code, message });
    // R2 takes no signed streaming payload; others store its framing as data.
    let streaming = text("x-amz-content-sha256").starts_with("STREAMING-")
        || text(CONTENT_ENCODING.as_str()).contains("aws-chunked")
        || headers.contains_key("x-amz-trailer")
        || headers.contains_key("x-amz-decoded-content-length");
    if streaming {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "streaming payloads are not implemented",
        );
    }
    // All services.
    if [Method::PUT, Method::POST].contains(&head.method) && !headers.contains_key(CONTENT_LENGTH) {
        return refuse(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLength",
            "a body says how long it is",
        );
    }
    // One provider; others ignore it, which is worse.
    if head.method == Method::PUT && headers.contains_key(IF_NONE_MATCH) {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "conditional writes are not implemented",
        );
    }
    if let Some(refusal) = checksum_rule(headers, operation) {
        return Some(refusal);
    }
    if operation == "multipart" {
        return part_rule(head, query, seen);
    }
    // R2; B2 and AWS slow down only when it is a lot.
    if operation == "put" {
        let now = Instant::now();
        let path = head.uri.path();
        if seen.written.get(path).is_some_and(|last| now.duration_since(*last) < BETWEEN_WRITES) {
            let message = "Reduce your concurrent request rate for the same object.";
            return refuse(StatusCode::TOO_MANY_REQUESTS, "ServiceUnavailable", message);
        }
        seen.written.insert(path.to_owned(), now);
    }
    None
}

/// `DeleteObjects` needs a checksum or an MD5 (all services); elsewhere some know no checksum
/// extension.
fn checksum_rule(headers: &HeaderMap, operation: &str) -> Option<Refusal> {
    let is_checksum = |name: &str| {
        (name.starts_with("x-amz-checksum-") && name != "x-amz-checksum-mode")
            || name == "x-amz-sdk-checksum-algorithm"
    };
    let has_checksum = headers.keys().any(|name| is_checksum(name.as_str()));
    if operation == "delete-many" {
        let (status, code) = (StatusCode::BAD_REQUEST, "InvalidRequest");
        let missing = !has_checksum && !headers.contains_key("content-md5");
        return missing.then_some(Refusal {
            status,
            code,
            message: "Missing required header for this request",
        });
    }
    let (status, code) = (StatusCode::NOT_IMPLEMENTED, "NotImplemented");
    has_checksum.then_some(Refusal {
        status,
        code,
        message: "checksum extensions are not implemented",
    })
}

/// R2: all parts but the last are equally long; all services: and not short.
fn part_rule(head: &Parts, query: Query<'_>, seen: &mut Seen) -> Option<Refusal> {
    let upload = query.get("uploadId")?.to_owned();
    if let Some(number) = query.get("partNumber").and_then(|number| number.parse().ok()) {
        let length =
            head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        seen.parts.entry(upload).or_default().insert(number, length.unwrap_or(0));
        return None;
    }
    if head.method != Method::POST {
        return None;
    }
    let mut lengths: Vec<u64> =
        seen.parts.remove(&upload).unwrap_or_default().into_values().collect();
    let last = lengths.pop().unwrap_or(0);
    let first = lengths.first().copied().unwrap_or(last);
    let (status, code) = (StatusCode::BAD_REQUEST, "InvalidPart");
    if lengths.iter().any(|length| *length != first) || last > first {
        return Some(Refusal {
            status,
            code,
            message: "All non-trailing parts must have the same length.",
        });
    }
    let short = lengths.iter().any(|length| *length < MIN_PART_BYTES);
    short.then_some(Refusal {
        status,
        code: "EntityTooSmall",
        message: "a part is shorter than 5 MiB",
    })
}
