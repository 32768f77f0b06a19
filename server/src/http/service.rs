//! What hyper calls for each request.
//!
//! Reads of narinfos and NARs are nearly all that a cache is asked for. They are recognised by
//! their path and answered here, by the same functions that the router has for them; everything
//! else, and whatever is written in an unusual way, goes through the router, which costs several
//! times as much per request.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, Request, Uri, request};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use futures_util::future::BoxFuture;
use hyper::body::{Body as _, Incoming};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::error::ApiError;
use super::extract::Path;
use super::metrics::{Timer, count};
use super::origin::{Peer, remote_of};
use super::request_id::RequestId;
use super::sent::SentBody;
use super::{nix, routes, streams};
use crate::admission::{ConnectionPlace, Ending};
use crate::app::App;

/// The whole of the HTTP interface, for one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct HttpService {
    app: Arc<App>,
    router: TowerToHyperService<Router>,
    peer: Option<Peer>,
    place: Option<Arc<ConnectionPlace>>,
}

impl HttpService {
    pub(super) fn new(app: Arc<App>) -> Self {
        let router = TowerToHyperService::new(routes(Arc::clone(&app)));
        Self { router, app, peer: None, place: None }
    }

    /// The same for a connection of this peer, with this place.
    pub(super) fn of(&self, peer: Peer, place: Arc<ConnectionPlace>) -> Self {
        Self { peer: Some(peer), place: Some(place), ..self.clone() }
    }

    /// The client that a trusted proxy names, as a number.
    fn client_behind_proxy(&self, request: &Request<Incoming>) -> Option<u64> {
        let peer = self.peer.filter(|peer| peer.is_trusted(&self.app.config.trusted_proxies))?;
        let client = remote_of(&self.app.config, peer, request.headers())?;
        // Connections are numbered from 1; an address has the highest bit.
        Some(BuildHasherDefault::<DefaultHasher>::default().hash_one(client) | 1 << 63)
    }

    /// Answers a request that has a place.
    async fn answer(self, mut request: Request<Incoming>, ending: Option<Ending>) -> Response {
        let is_plain = request.method() == Method::GET && request.body().is_end_stream();
        let read = is_plain.then(|| Read::parse(request.uri().path())).flatten();
        let app = State(Arc::clone(&self.app));
        // What is boxed here is moved as a whole: each kind of read by itself, and the router's by
        // hyper.
        match read {
            Some(Read::Narinfo { cache, file }) => {
                let (request::Parts { uri, headers, .. }, _) = request.into_parts();
                let narinfo = nix::narinfo::narinfo(app, Path((cache, file)), headers);
                answer("/{cache}/{file}", uri, narinfo).await
            }
            Some(Read::Nar { cache, file }) => {
                let (request::Parts { uri, headers, .. }, _) = request.into_parts();
                let ending = ending.map(Extension);
                let nar = nix::nar::nar(app, Path((cache, file)), Method::GET, headers, ending);
                answer("/{cache}/nar/{file}", uri, Box::pin(nar)).await
            }
            None => {
                let extensions = request.extensions_mut();
                if let Some(peer) = self.peer {
                    extensions.insert(peer);
                }
                if let Some(ending) = ending {
                    extensions.insert(ending);
                }
                match Box::pin(self.router.call(request)).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
        }
    }
}

impl Service<Request<Incoming>> for HttpService {
    type Response = axum::http::Response<SentBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (service, place) =
            (self.clone(), self.place.as_ref().map(|place| (place.request(), place.is_reserve())));
        Box::pin(async move {
            let (place, refused) = match place {
                Some((None, _)) => (None, true),
                Some((place, true)) => (place, !is_health_check(request.uri().path())),
                Some((place, false)) => (place, false),
                None => (None, false),
            };
            if refused {
                let (uri, error) = (request.uri().clone(), ApiError::overloaded());
                let response = answer("none", uri, std::future::ready(Err(error))).await;
                return Ok(response.map(|body| SentBody::new(body, None, None)));
            }
            let stream = streams::current();
            let has_stream = stream.is_some();
            let ending = service.place.as_ref().map(|place| Ending {
                client: service.client_behind_proxy(&request).unwrap_or(place.number()),
                ..place.ending(stream)
            });
            let response = service.answer(request, ending.clone()).await;
            Ok(response.map(|body| SentBody::new(body, place, ending.filter(|_| has_stream))))
        })
    }
}

fn is_health_check(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
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
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
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

/// Awaits the answer of a handler whose route is called `route`. Nothing is logged of one that
/// succeeds.
async fn answer(
    route: &'static str,
    uri: Uri,
    handler: impl Future<Output = Result<Response, ApiError>>,
) -> Response {
    let (id, timer) = (RequestId::new(), Timer::start());
    let response = handler.await.into_response();
    count(route, "GET", response.status(), timer);
    id.put_into(response, |id| id.span(&Method::GET, &uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_recognised_and_nothing_else_is() {
        let (cache, file) = ("main".to_owned(), "0000.narinfo".to_owned());
        assert_eq!(
            Read::parse("/main/0000.narinfo"),
            Some(Read::Narinfo { cache: cache.clone(), file })
        );
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
