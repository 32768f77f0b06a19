//! Who calls an endpoint for operators, and from where; and the noting of what was refused and
//! pushed in the audit log.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use snowbank_core::cache_name::CacheName;
use snowbank_core::wire::ErrorBody;

use super::error::ApiError;
use super::origin;
use super::token::{push_token, token};
use crate::admin::Actor;
use crate::admission::Client;
use crate::app::App;
use crate::auth::Token;
use crate::clock::unix_now;

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The token, verified.
    pub token: Option<Token>,
    /// As the audit log names them.
    pub actor: Actor,
    /// The server's address as this request shows it, without a slash at its end.
    pub base_url: Option<String>,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        Ok(Self::new(app, parts, token(app, &parts.headers).await?))
    }
}

/// Who calls an endpoint that is a part of a push: also with a token of a push session.
#[derive(Debug, Clone)]
pub(super) struct PushCaller(pub Caller);

impl FromRequestParts<Arc<App>> for PushCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        Ok(Self(Caller::new(app, parts, push_token(app, &parts.headers).await?)))
    }
}

impl Caller {
    fn new(app: &App, parts: &Parts, token: Option<Token>) -> Self {
        let base_url = origin::base_url(&app.config, &parts.extensions, &parts.headers, &parts.uri);
        Self { actor: actor(app, parts, token.as_ref()), token, base_url }
    }

    /// Whom memory and places are counted for.
    pub(super) fn client(&self) -> Client {
        Client::new(&self.actor.subject, &self.actor.remote)
    }
}

fn actor(app: &App, parts: &Parts, token: Option<&Token>) -> Actor {
    let remote = origin::remote_name(&app.config, &parts.extensions, &parts.headers);
    let (subject, token_id) = match token {
        Some(token) => (token.sub.clone(), token.jti.clone()),
        None => ("nobody".to_owned(), String::new()),
    };
    Actor { subject, token_id, remote }
}

/// What the audit log says of a request that succeeded, as its handler puts it into the response.
#[derive(Debug, Clone)]
pub(super) struct AuditDetail(pub String);

/// The cache that a request is about, where its address does not tell.
#[derive(Debug, Clone)]
pub(super) struct AuditCache(pub CacheName);

/// Notes every use of an endpoint that changes something: pushes, and how often what was refused.
/// An operator's change that was made is in the log already, by the same transaction.
pub(super) async fn audited(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let Some(action) = route.and_then(|route| action(request.method(), route.as_str())) else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    // One that does not hold is refused, and named, by the endpoint.
    let token = push_token(&app, &parts.headers).await.ok().flatten();
    let actor = actor(&app, &parts, token.as_ref());
    let cache = cache_of(parts.uri.path()).to_owned();
    let response = next.run(Request::from_parts(parts, body)).await;
    let named = response.extensions().get::<AuditCache>();
    let cache = named.map_or(cache, |cache| cache.0.to_string());
    let refused = response.extensions().get::<ErrorBody>().map(|body| body.error.code.clone());
    if refused.is_none() && !action.starts_with("push.") {
        return response;
    }
    let detail = response
        .extensions()
        .get::<AuditDetail>()
        .map_or_else(String::new, |detail| detail.0.clone());
    match refused {
        Some(code) => {
            app.audit.note_refusal(actor.entry(action, &cache, &detail, &code, unix_now()));
        }
        None => app.audit.note(actor.entry(action, &cache, &detail, "ok", unix_now())),
    }
    response
}

/// What a request to this route is called in the audit log, if it changes something.
fn action(method: &Method, route: &str) -> Option<&'static str> {
    Some(match (method, route) {
        (&Method::POST, "/api/v1/caches" | "/_api/v1/cache-config/{cache}") => "cache.create",
        (&Method::PATCH, "/api/v1/caches/{cache}" | "/_api/v1/cache-config/{cache}") => {
            "cache.configure"
        }
        (&Method::DELETE, "/api/v1/caches/{cache}" | "/_api/v1/cache-config/{cache}") => {
            "cache.destroy"
        }
        (&Method::POST, "/api/v1/caches/{cache}/restore") => "cache.restore",
        (&Method::POST, "/api/v1/caches/{cache}/purge") => "cache.purge",
        (&Method::POST, "/api/v1/caches/{cache}/rename") => "cache.rename",
        (&Method::POST, "/api/v1/caches/{cache}/rotate-key") => "cache.rotate-key",
        (&Method::POST, "/api/v1/caches/{cache}/chunks") => "push.chunks",
        (&Method::POST, "/api/v1/caches/{cache}/paths") => "push.paths",
        (&Method::PUT, "/{cache}/nar/{file}") => "push.nar",
        (&Method::PUT, "/{cache}/{file}") => "push.narinfo",
        (&Method::PUT, "/{cache}/log/{deriver}") => "push.log",
        (
            &Method::PUT,
            "/{cache}/realisations/{file}" | "/{cache}/build-trace-v2/{derivation}/{file}",
        ) => "push.realisation",
        (&Method::PUT, "/_api/v1/upload-path") => "push.attic",
        (&Method::POST, "/api/v1/caches/{cache}/delete") => "path.delete",
        (&Method::POST, "/api/v1/caches/{cache}/copy") => "path.copy",
        (&Method::POST, "/api/v1/gc") => "gc.run",
        (&Method::PUT, "/api/v1/caches/{cache}/pins/{name}") => "pin.set",
        (&Method::DELETE, "/api/v1/caches/{cache}/pins/{name}") => "pin.remove",
        (&Method::POST, "/api/v1/caches/{cache}/pins/{name}/rollback") => "pin.rollback",
        (&Method::POST, "/api/v1/push-session") => "token.push-session",
        (&Method::POST, "/api/v1/tokens") => "token.create",
        (&Method::POST, "/api/v1/tokens/revoke") => "token.revoke",
        (&Method::POST, "/api/v1/tokens/{id}/rotate") => "token.rotate",
        _ => return None,
    })
}

/// The cache that a path is about; what is no name is not written down.
fn cache_of(path: &str) -> &str {
    let rest = ["/api/v1/caches/", "/_api/v1/cache-config/"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))
        .unwrap_or_else(|| path.trim_start_matches('/'));
    let name = rest.split('/').next().unwrap_or("");
    if name.parse::<CacheName>().is_ok() { name } else { "" }
}
