//! A proxy before an object storage that makes it slow, unreliable, or gone, all switchable while
//! it runs.
//!
//! Requests pass with every header unchanged (`Host` is signed). What goes wrong is drawn from a
//! seeded generator; a request meets at most one fault.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::BodyExt as _;
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
};
use tokio::net::TcpStream;

use crate::{
    Random,
    loopback::{AnyBody, BoxError, Break, Handle, Loopback, broken, forward, full, incoming, lock},
    process, s3,
    slow_link::SlowLink,
};

/// What goes wrong, and how often; shares are of all requests, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Added before each request is handed on.
    pub latency: Duration,
    /// Answered with 500, 503 or `SlowDown`.
    pub errors: u32,
    /// Connections cut: in the request's body, in the answer's, or between them.
    pub cuts: u32,
    /// Never answered, or not to the end.
    pub stalls: u32,
    /// Whether requests that remove objects are refused, all of them.
    pub no_deletes: bool,
    /// What becomes of all requests that read.
    pub reads: Trouble,
    /// What becomes of all requests that write or remove.
    pub writes: Trouble,
    /// Bytes per second that all requests' bodies share; 0 for no limit.
    pub upload_rate: u64,
    /// Bytes per second that all answers' bodies share; 0 for no limit.
    pub download_rate: u64,
}

/// What becomes of a request, whichever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// The connection is cut.
    Cut,
    /// It is answered once this is over, as by a stopped process that goes on.
    Hang,
    /// It is refused, with this status, code and message.
    Refuse(u16, &'static str, &'static str),
}

/// What it has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Requests, whatever became of them.
    pub requests: u64,
    /// Answered with an error.
    pub errors: u64,
    /// Cut in the request's body.
    pub cut_requests: u64,
    /// Cut after the storage had done what was asked, before it could say so.
    pub lost_answers: u64,
    /// Cut in the answer's body.
    pub cut_answers: u64,
    /// Stalled.
    pub stalls: u64,
}

/// The proxy. Connections under way are cut when it is dropped.
#[derive(Debug)]
pub struct StorageFaults(Loopback<Proxy>);

impl StorageFaults {
    /// Starts one before the storage at `upstream`; nothing goes wrong until [`Self::set`] says so.
    #[must_use]
    pub fn before(upstream: SocketAddr, random: Random) -> Self {
        let state = State { faults: Faults::default(), done: Done::default(), random };
        let links = [SlowLink::default(), SlowLink::default()];
        let handler = Proxy { upstream, state: Mutex::new(state), links };
        Self(Loopback::start(process::own_address(), handler))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// What goes wrong from now on.
    pub fn set(&self, faults: Faults) {
        lock(&self.0.handler().state).faults = faults;
    }

    /// Cuts every connection and refuses new ones.
    pub fn go_away(&self) {
        self.0.close();
    }

    /// Is there again.
    pub fn come_back(&self) {
        self.0.open();
    }

    /// What it has done so far.
    #[must_use]
    pub fn done(&self) -> Done {
        lock(&self.0.handler().state).done
    }
}

#[derive(Debug)]
struct State {
    faults: Faults,
    done: Done,
    random: Random,
}

#[derive(Debug)]
struct Proxy {
    upstream: SocketAddr,
    state: Mutex<State>,
    /// For bodies there, and back.
    links: [SlowLink; 2],
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Well,
    Error(StatusCode, &'static str, &'static str),
    CutRequest,
    LostAnswer,
    BrokenAnswer(Break),
    NoAnswer,
}

impl State {
    fn draw(&mut self, has_body: bool) -> Fate {
        const ERRORS: [(StatusCode, &str); 4] = [
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            (StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
            (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        ];
        self.done.requests += 1;
        let (drawn, kind) = (self.random.below(1_000), self.random.below(4));
        let Faults { errors, cuts, stalls, .. } = self.faults;
        let (errors, cuts, stalls) = (u64::from(errors), u64::from(cuts), u64::from(stalls));
        if drawn < errors {
            self.done.errors += 1;
            // `below` keeps the index within bounds.
            let (status, code) = ERRORS[usize::try_from(kind).unwrap_or(0)];
            Fate::Error(status, code, "Please reduce your request rate.")
        } else if drawn < errors + cuts {
            match kind {
                0 | 1 if has_body => {
                    self.done.cut_requests += 1;
                    Fate::CutRequest
                }
                0 | 2 => {
                    self.done.lost_answers += 1;
                    Fate::LostAnswer
                }
                _ => {
                    self.done.cut_answers += 1;
                    Fate::BrokenAnswer(Break::Cut)
                }
            }
        } else if drawn < errors + cuts + stalls {
            self.done.stalls += 1;
            if kind < 2 { Fate::NoAnswer } else { Fate::BrokenAnswer(Break::Stall) }
        } else {
            Fate::Well
        }
    }
}

impl Proxy {
    async fn hand_on(&self, request: Request<AnyBody>) -> Result<Response<AnyBody>, BoxError> {
        let Faults { upload_rate, download_rate, .. } = lock(&self.state).faults;
        let [there, back] = &self.links;
        let request = request.map(|body| there.slow(body, upload_rate));
        let answer = forward(TcpStream::connect(self.upstream).await?, request).await?;
        Ok(answer.map(|body| back.slow(body, download_rate)))
    }

    /// What is wrong with requests like this one.
    fn trouble(&self, is_write: bool) -> Trouble {
        let faults = lock(&self.state).faults;
        if is_write { faults.writes } else { faults.reads }
    }
}

impl Handle for Proxy {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<AnyBody>, BoxError> {
        let length = request.body().size_hint().exact().unwrap_or(0);
        let (fate, latency) = {
            let mut state = lock(&self.state);
            let drawn = state.draw(length > 0);
            let refused = state.faults.no_deletes && removes(&request);
            let denied = Fate::Error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied.");
            (if refused { denied } else { drawn }, state.faults.latency)
        };
        tokio::time::sleep(latency).await;
        let is_write =
            request.method() != hyper::Method::GET && request.method() != hyper::Method::HEAD;
        while self.trouble(is_write) == Trouble::Hang {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let fate = match self.trouble(is_write) {
            Trouble::Cut => return Err("the connection is cut, on purpose".into()),
            Trouble::Refuse(status, code, message) => {
                Fate::Error(StatusCode::from_u16(status)?, code, message)
            }
            Trouble::None | Trouble::Hang => fate,
        };
        match fate {
            Fate::Well => self.hand_on(request.map(incoming)).await,
            Fate::Error(status, code, message) => {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                Ok(error(status, code, message))
            }
            Fate::CutRequest => {
                // The storage sees the cut as well.
                let half = request.map(|body| broken(incoming(body), length / 2 + 1, Break::Cut));
                let _ = self.hand_on(half).await;
                Err("the connection is cut within the request, on purpose".into())
            }
            Fate::LostAnswer => {
                let _ = self.hand_on(request.map(incoming)).await;
                Err("the connection is cut before the answer, on purpose".into())
            }
            Fate::BrokenAnswer(how) => {
                let answer = self.hand_on(request.map(incoming)).await?;
                let length = answer.body().size_hint().exact().unwrap_or(0);
                if length == 0 {
                    return match how {
                        Break::Cut => {
                            Err("the connection is cut before the answer, on purpose".into())
                        }
                        Break::Stall => std::future::pending().await,
                    };
                }
                Ok(answer.map(|body| broken(body, length / 2, how)))
            }
            Fate::NoAnswer => std::future::pending().await,
        }
    }
}

/// Whether it asks to remove one object or many.
fn removes(request: &Request<Incoming>) -> bool {
    let many = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|one| one.starts_with("delete")));
    request.method() == hyper::Method::DELETE || (request.method() == hyper::Method::POST && many)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<AnyBody> {
    let mut response = Response::new(full(s3::error_xml(code, message)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}
