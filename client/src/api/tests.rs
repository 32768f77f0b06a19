//! Requests against scripted answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use snowbank_core::wire::{CommitLine, CommitRequest, MissingPathsRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Api, ApiErrorKind, Timeouts};
use crate::config::{Secret, Target};
use crate::exit::Exit;

const SHORT: Timeouts =
    Timeouts { connect: Duration::from_secs(2), stall: Duration::from_millis(300) };

/// A server that gives one of `answers` to each connection, in turn, and the last one from then on.
struct Script {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl Script {
    async fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let turn = count.fetch_add(1, Ordering::Relaxed);
                let answer = answers[turn.min(answers.len() - 1)].clone();
                tokio::spawn(answer_one(stream, answer));
            }
        });
        Self { url, requests }
    }

    fn api(&self) -> Api {
        api(&self.url, Some("s3cret"))
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn answer_one(mut stream: TcpStream, answer: Vec<u8>) {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if request.len() >= head.len() + 4 + length.unwrap_or(0) {
            break;
        }
    }
    // An answer in pieces, with pauses where a NUL stands.
    for piece in answer.split(|byte| *byte == 0) {
        let _ = stream.write_all(piece).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn api(url: &str, token: Option<&str>) -> Api {
    let target = Target {
        server_url: url.to_owned(),
        cache: "main".parse().unwrap(),
        token: token.and_then(Secret::from_text),
        token_source: "/home/x/token".to_owned(),
        client_certificate: None,
        filter: crate::config::PathFilter::NONE,
    };
    Api::with_timeouts(&target, SHORT).unwrap()
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn refusal(status: &str, code: &str) -> Vec<u8> {
    let body =
        format!(r#"{{"error":{{"code":"{code}","message":"said {code}","request_id":"r17"}}}}"#);
    answer(status, "", &body)
}

const STORED: &str = r#"{"stored":1,"known":0,"stored_bytes":5}"#;

#[tokio::test]
async fn failures_are_told_apart_and_say_what_to_do() {
    let cases = [
        (
            "401 Unauthorized",
            "unauthenticated",
            ApiErrorKind::Unauthenticated,
            Exit::Unauthenticated,
            "log in again",
        ),
        (
            "403 Forbidden",
            "forbidden",
            ApiErrorKind::Forbidden,
            Exit::Forbidden,
            "ask the operator",
        ),
        ("404 Not Found", "not-found", ApiErrorKind::NotFound, Exit::NotFound, "no cache `main`"),
        ("404 Not Found", "no-such-pin", ApiErrorKind::Absent, Exit::Absent, "says"),
        ("409 Conflict", "conflict", ApiErrorKind::Conflict, Exit::Conflict, "says"),
        ("413 Content Too Large", "too-large", ApiErrorKind::TooLarge, Exit::Refused, "too large"),
        ("422 Unprocessable", "chunk-invalid", ApiErrorKind::Rejected, Exit::Refused, "refuses"),
    ];
    for (status, code, kind, exit, word) in cases {
        let server = Script::start(vec![refusal(status, code)]).await;
        let error = server.api().send_bundle(Bytes::from_static(b"x")).await.unwrap_err();
        let said = error.to_string();
        assert_eq!((error.kind(), error.exit(), error.code()), (kind, exit, Some(code)), "{said}");
        for word in [word, &server.url, &format!("said {code}"), "[request r17]"] {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
        assert!(!said.contains("s3cret"));
        assert_eq!(server.requests(), 1, "{status} is not repeated");
    }
}

#[tokio::test]
async fn without_a_token_the_error_says_how_to_get_one() {
    let server = Script::start(vec![refusal("401 Unauthorized", "unauthenticated")]).await;
    let error = api(&server.url, None).whoami().await.unwrap_err().to_string();
    assert!(error.contains("snowbank login") && error.contains("SNOWBANK_TOKEN"), "{error}");
}

#[tokio::test]
async fn what_is_no_snowbank_server_is_told() {
    let server = Script::start(vec![answer("404 Not Found", "", "<html>nginx</html>")]).await;
    let error = server.api().cache_info().await.unwrap_err().to_string();
    assert!(error.contains("is http://") && error.contains("a Snowbank server?"), "{error}");
    let server = Script::start(vec![answer("200 OK", "", "<html>hello</html>")]).await;
    let error = server.api().cache_info().await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Protocol, "{error}");
    let server =
        Script::start(vec![answer("301 Moved", "location: https://new.example/x\r\n", "")]).await;
    let error = server.api().cache_info().await.unwrap_err().to_string();
    assert!(error.contains("https://new.example/x"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = api(&url, None).cache_info().await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Unreachable);
    assert!(error.to_string().contains("connection refused; is snowbankd running"), "{error}");
    let error = api("http://no-such-host.invalid", None).cache_info().await.unwrap_err();
    assert!(
        error.kind() == ApiErrorKind::Unreachable
            && error.to_string().contains("name is not found"),
        "{error}"
    );
}

#[tokio::test]
async fn what_passes_is_waited_for_and_the_body_is_sent_again() {
    let answers = vec![
        refusal("503 Service Unavailable", "storage-unavailable"),
        answer("429 Too Many Requests", "retry-after: 1\r\n", ""),
        Vec::new(),
        answer("200 OK", "", STORED),
    ];
    let server = Script::start(answers).await;
    let started = std::time::Instant::now();
    let body = Bytes::from(vec![7; 1 << 20]);
    assert_eq!(server.api().send_bundle(body).await.unwrap().stored, 1);
    assert_eq!(server.requests(), 4);
    assert!(started.elapsed() >= Duration::from_secs(1), "Retry-After is honoured");
}

#[tokio::test]
async fn a_full_disk_is_not_waited_for_long() {
    let server = Script::start(vec![refusal("507 Insufficient Storage", "storage-full")]).await;
    let error = server.api().send_bundle(Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!((error.exit(), server.requests()), (Exit::StorageFull, 3));
}

#[tokio::test]
async fn a_server_that_goes_silent_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let holder = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let error = api(&url, None).missing_paths(&MissingPathsRequest::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.exit()), (ApiErrorKind::Timeout, Exit::Unreachable), "{error}");
    holder.abort();
}

#[tokio::test]
async fn heartbeats_keep_a_commit_alive_and_lines_come_as_they_are_ready() {
    let lines = "{\"type\":\"heartbeat\"}\n\0{\"type\":\"heart\0beat\"}\n\0\
                 {\"type\":\"error\",\"store_path\":\"/p\",\"code\":\"busy\",\"message\":\"m\"}\n\0\
                 {\"type\":\"end\",\"paths\":1}\n";
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let server = Script::start(vec![format!("{head}{lines}").into_bytes()]).await;
    let mut got = Vec::new();
    server.api().commit(&CommitRequest::default(), |line| got.push(line)).await.unwrap();
    assert!(
        matches!(got.as_slice(), [CommitLine::Error { store_path, .. }] if store_path == "/p"),
        "{got:?}"
    );
}

#[tokio::test]
async fn a_commit_whose_answer_is_cut_off_is_an_error_after_its_lines() {
    let line = "{\"type\":\"error\",\"store_path\":\"/p\",\"code\":\"busy\",\"message\":\"m\"}\n\
                {\"type\":\"en";
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let server = Script::start(vec![format!("{head}{line}").into_bytes()]).await;
    let mut got = 0;
    let error = server.api().commit(&CommitRequest::default(), |_| got += 1).await.unwrap_err();
    assert_eq!((error.kind(), got), (ApiErrorKind::Unreachable, 1), "{error}");
}

#[tokio::test]
async fn answers_about_other_chunks_are_refused() {
    let name = snowbank_core::chunk::ChunkName::from_bytes([1; 32]);
    for body in [r#"{"missing":[2]}"#, r#"{"missing":[1,0]}"#, r#"{"missing":[0,0]}"#] {
        let server = Script::start(vec![answer("200 OK", "", body)]).await;
        let error = server.api().missing_chunks(&[name, name]).await.unwrap_err();
        assert_eq!(error.kind(), ApiErrorKind::Protocol, "{body}");
    }
    let server = Script::start(vec![answer("200 OK", "", r#"{"missing":[1]}"#)]).await;
    assert_eq!(server.api().missing_chunks(&[name, name]).await.unwrap(), [1]);
}
