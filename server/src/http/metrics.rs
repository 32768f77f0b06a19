//! `GET /metrics`, on an address of its own; and the counting of all other requests.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{self, Metrics};

const FOLD_EVERY: Duration = Duration::from_secs(5);

/// Answers Prometheus until `stop` is cancelled.
///
/// # Errors
/// When the listener breaks.
pub async fn serve_metrics(
    metrics: Metrics,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let router = Router::new().route("/metrics", get(render)).with_state(metrics.clone());
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let folding = async {
        loop {
            tokio::time::sleep(FOLD_EVERY).await;
            metrics.fold();
        }
    };
    tokio::select! {
        result = serving.into_future() => result.context("metrics are no longer served"),
        () = folding => Ok(()),
    }
}

async fn render(State(metrics): State<Metrics>) -> impl IntoResponse {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], metrics.render())
}

/// Counts a request under its route; a path that is none is counted with all others of that kind.
pub(super) async fn counted(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    // A method can be any word: only those that routes have are told apart.
    let method = match request.method().as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        _ => "other",
    };
    let timer = Timer::start();
    let response = next.run(request).await;
    count(route.as_ref().map_or("none", MatchedPath::as_str), method, response.status(), timer);
    response
}

/// Time since a request came, if anybody wants to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timer(Option<Instant>);

impl Timer {
    pub(super) fn start() -> Self {
        Self(telemetry::is_counting().then(Instant::now))
    }
}

/// Counts one answer.
pub(super) fn count(route: &str, method: &'static str, status: StatusCode, timer: Timer) {
    let Some(began) = timer.0 else { return };
    let (route, status) = (route.to_owned(), status.as_str().to_owned());
    metrics::histogram!("snowbank_http_request_seconds", "route" => route.clone())
        .record(began.elapsed().as_secs_f64());
    let labels = [("route", route), ("method", method.to_owned()), ("status", status)];
    metrics::counter!("snowbank_http_requests_total", &labels).increment(1);
}
