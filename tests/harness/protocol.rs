//! Plain HTTP to a server: requests that the real client would never send, and answers as they
//! came.

use std::{io::Read, net::IpAddr, time::Duration};

use reqwest::{
    Method, StatusCode,
    blocking::{Body, Client, ClientBuilder, Response},
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap},
};
use serde::de::DeserializeOwned;
use snowbank_core::wire::{
    CacheInfo, CommitLine, CommitRequest, ErrorBody, ErrorDetail, PathCommit,
};

use crate::Server;

/// A server, and the token that goes with every request.
#[derive(Clone, Debug)]
pub struct Api {
    http: Client,
    url: String,
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    fn read(mut response: Response) -> std::io::Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        response.read_to_end(&mut body)?;
        Ok(Self { status, headers, body })
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        self.headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default()
    }

    /// The body as JSON.
    #[must_use]
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{}: {e}: {}", self.status, self.text()))
    }

    /// The error that a refusal carries.
    #[must_use]
    #[track_caller]
    pub fn error(&self) -> ErrorDetail {
        assert!(
            self.status.as_u16() >= 400,
            "expected a refusal, got {}: {}",
            self.status,
            self.text()
        );
        self.json::<ErrorBody>().error
    }

    /// Asserts that it is a refusal with this status and code and a message; gives the message.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> String {
        let error = self.error();
        assert_eq!(
            (self.status.as_u16(), error.code.as_str()),
            (status, code),
            "{}",
            error.message
        );
        assert!(error.message.len() > 10, "a refusal says what is wrong: {error:?}");
        error.message
    }

    /// The lines of a commit's answer; panics when it is no such answer or was cut off.
    #[must_use]
    #[track_caller]
    pub fn commit_lines(&self) -> Vec<CommitLine> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        let text = self.text();
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let mut lines: Vec<CommitLine> = text.lines().map(parse).collect();
        assert!(
            matches!(lines.pop(), Some(CommitLine::End { .. })),
            "the answer was cut off: {text}"
        );
        lines.retain(|line| !matches!(line, CommitLine::Heartbeat));
        lines
    }
}

impl Api {
    /// A server asked with `token`.
    #[must_use]
    pub fn new(url: &str, token: Option<&str>) -> Self {
        Self::with_client(url, token, Client::builder().timeout(Duration::from_mins(2)))
    }

    /// A server asked with `token` from this address of the machine, each request ending within
    /// `limit`.
    #[must_use]
    pub fn from_address(url: &str, token: Option<&str>, from: IpAddr, limit: Duration) -> Self {
        Self::with_client(url, token, Client::builder().timeout(limit).local_address(from))
    }

    /// A server asked with `token` through this client.
    #[must_use]
    pub fn with_client(url: &str, token: Option<&str>, client: ClientBuilder) -> Self {
        let http = client.no_proxy().build().unwrap_or_else(|e| panic!("no HTTP client: {e}"));
        Self { http, url: url.to_owned(), token: token.map(str::to_owned) }
    }

    /// A server asked with its root token.
    #[must_use]
    pub fn root(server: &Server) -> Self {
        Self::new(&server.url(), Some(&server.root_token()))
    }

    /// A server asked without a token.
    #[must_use]
    pub fn anonymous(server: &Server) -> Self {
        Self::new(&server.url(), None)
    }

    /// Sends a request; `path` begins with a slash.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> anyhow::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(Answer::read(request.send()?)?)
    }

    #[track_caller]
    fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.try_send(method, path, headers, body.into())
            .unwrap_or_else(|e| panic!("{}{path}: {e:#}", self.url))
    }

    /// `PUT`.
    #[must_use]
    #[track_caller]
    pub fn put(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.send(Method::PUT, path, headers, body)
    }

    /// Any method, with a body in JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self, method: Method, path: &str, body: &serde_json::Value) -> Answer {
        self.send(
            method,
            path,
            &[(CONTENT_TYPE.as_str(), "application/json")],
            body.to_string().into_bytes(),
        )
    }

    /// `GET`.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new())
    }

    /// `GET` with headers.
    #[must_use]
    #[track_caller]
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, Vec::new())
    }

    /// `HEAD`.
    #[must_use]
    #[track_caller]
    pub fn head(&self, path: &str) -> Answer {
        self.send(Method::HEAD, path, &[], Vec::new())
    }

    /// `POST` of JSON.
    #[must_use]
    #[track_caller]
    pub fn post_json(&self, path: &str, body: &impl serde::Serialize) -> Answer {
        let body = serde_json::to_vec(body).unwrap_or_else(|e| panic!("{path}: no JSON: {e}"));
        self.send(Method::POST, path, &[(CONTENT_TYPE.as_str(), "application/json")], body)
    }

    /// `POST` of bytes.
    #[must_use]
    #[track_caller]
    pub fn post_bytes(&self, path: &str, body: Vec<u8>) -> Answer {
        self.send(Method::POST, path, &[(CONTENT_TYPE.as_str(), "application/octet-stream")], body)
    }

    /// What the cache says of itself.
    #[must_use]
    #[track_caller]
    pub fn cache_info(&self, cache: &str) -> CacheInfo {
        let answer = self.get(&format!("/api/v1/caches/{cache}"));
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    /// Sends a bundle to `main`.
    #[must_use]
    #[track_caller]
    pub fn send_bundle(&self, bundle: Vec<u8>) -> Answer {
        self.post_bytes("/api/v1/caches/main/chunks", bundle)
    }

    /// Commits paths to `main`.
    #[must_use]
    #[track_caller]
    pub fn commit(&self, paths: Vec<PathCommit>) -> Answer {
        self.post_json(
            "/api/v1/caches/main/paths",
            &CommitRequest { paths, ..CommitRequest::default() },
        )
    }
}
