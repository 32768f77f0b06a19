//! What hyper calls for each request.
//!
//! Reads of narinfos and NARs are nearly all that a cache is asked for. They are recognised by their path and answered here,
//! by the same functions that the router has for them; everything else, and whatever is written in an unusual way, goes
//! through the router, which costs several times as much per request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, Request, Uri, request};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::BoxFuture;
use hyper::body::{Body as _, Incoming};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::error::ApiError;
use super::extract::Path;
use super::metrics::{Timer, count};
use super::origin::Peer;
use super::request_id::RequestId;
use super::{nix, routes};
use crate::app::App;

/// The whole of the HTTP interface. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Front {
    app: Arc<App>,
    router: TowerToHyperService<Router>,
    peer: Option<Peer>,
}

impl Front {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { router: TowerToHyperService::new(routes(Arc::clone(&app))), app, peer: None }
    }

    /// The same for a connection from this address.
    pub(super) fn of(&self, peer: SocketAddr) -> Self {
        Self { peer: Some(Peer(peer.ip())), ..self.clone() }
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let is_plain = request.method() == Method::GET && request.body().is_end_stream();
        let read = is_plain.then(|| Read::parse(request.uri().path())).flatten();
        let app = || State(Arc::clone(&self.app));
        // What is boxed here is moved as a whole: each kind of read by itself, and the router's by hyper.
        match read {
            Some(Read::Narinfo { cache, file }) => {
                let (request::Parts { uri, headers, .. }, _) = request.into_parts();
                let narinfo = nix::narinfo::narinfo(app(), Path((cache, file)), headers);
                Box::pin(answer("/{cache}/{file}", uri, narinfo))
            }
            Some(Read::Nar { cache, file }) => {
                let (request::Parts { uri, headers, .. }, _) = request.into_parts();
                let nar = nix::nar::nar(app(), Path((cache, file)), Method::GET, headers);
                Box::pin(answer("/{cache}/nar/{file}", uri, nar))
            }
            None => {
                if let Some(peer) = self.peer {
                    request.extensions_mut().insert(peer);
                }
                Box::pin(self.router.call(request))
            }
        }
    }
}

/// A read as Nix makes it.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Narinfo { cache: String, file: String },
    Nar { cache: String, file: String },
}

impl Read {
    fn parse(path: &str) -> Option<Self> {
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        };
        let (cache, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (is_nar, file) = match rest.strip_prefix("nar/") {
            Some(file) => (true, file),
            None => (false, rest),
        };
        if !plain(cache) || !plain(file) || (!is_nar && !file.ends_with(".narinfo")) {
            return None;
        }
        let (cache, file) = (cache.to_owned(), file.to_owned());
        Some(if is_nar { Self::Nar { cache, file } } else { Self::Narinfo { cache, file } })
    }
}

/// Awaits the answer of a handler whose route is called `route`. Nothing is logged of one that succeeds.
async fn answer(
    route: &'static str,
    uri: Uri,
    handler: impl Future<Output = Result<Response, ApiError>>,
) -> Result<Response, Infallible> {
    let (id, timer) = (RequestId::new(), Timer::start());
    let response = handler.await.into_response();
    count(route, "GET", response.status(), timer);
    Ok(id.put_into(response, |id| id.span(&Method::GET, &uri)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_recognised_and_nothing_else_is() {
        let (cache, file) = ("main".to_owned(), "0000.narinfo".to_owned());
        assert_eq!(Read::parse("/main/0000.narinfo"), Some(Read::Narinfo { cache: cache.clone(), file }));
        let file = "0abc.nar.zst".to_owned();
        assert_eq!(Read::parse("/main/nar/0abc.nar.zst"), Some(Read::Nar { cache, file }));
        for other in [
            "",
            "/",
            "//",
            "/main",
            "/main/",
            "/main/nar/",
            "/main/nix-cache-info",
            "/api/v1/whoami",
            "/main/a/b.narinfo",
            "/main/nar/a/b",
            "/ma%69n/0000.narinfo",
            "//0000.narinfo",
            "/healthz",
        ] {
            assert_eq!(Read::parse(other), None, "{other}");
        }
    }
}
