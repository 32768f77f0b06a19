//! An HTTP client that gives a request up once nothing of it moves: no byte out, no byte in.
//!
//! A request has no time limit as a whole, since a slow line is not a dead one. A body goes out in
//! small pieces, and each piece that the connection takes resets the clock. What the connection has
//! taken may still wait in the system's buffers, where nobody sees it move: after its last piece, a
//! body has as much time more as it takes at [`MIN_RATE`], within bounds.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::{
    RuntimeComponents, RuntimeComponentsBuilder,
};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep};

/// What a connection is handed of a body at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Bytes per second at which the system's buffers have to empty.
const MIN_RATE: u64 = 256 * 1024;
/// The most time that the buffers get to empty, in units of the patience.
const MAX_EXTRA: u32 = 2;

/// Why a request was given up.
#[derive(Debug, Clone, Copy, Error)]
#[error("nothing has moved for {} s", .0.as_secs())]
struct StallError(Duration);

/// The client `inner`, with patience for what does not move.
#[derive(Debug)]
pub(super) struct PatientClient {
    pub(super) inner: SharedHttpClient,
    pub(super) patience: Duration,
}

impl HttpClient for PatientClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(PatientConnector { inner, patience: self.patience })
    }

    fn validate_base_client_config(
        &self,
        parts: &RuntimeComponentsBuilder,
        bag: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.inner.validate_base_client_config(parts, bag)
    }

    fn validate_final_config(
        &self,
        parts: &RuntimeComponents,
        bag: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.inner.validate_final_config(parts, bag)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

#[derive(Debug)]
struct PatientConnector {
    inner: SharedHttpConnector,
    patience: Duration,
}

impl HttpConnector for PatientConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let patience = self.patience;
        let clock = Clock::start(patience);
        let body = request.take_body();
        *request.body_mut() = match body.content_length() {
            Some(0) => body,
            _ => SdkBody::from_body_1_x(SentBody {
                body,
                piece: Bytes::new(),
                handed: 0,
                clock: clock.clone(),
            }),
        };
        let answer = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            let answer = tokio::select! {
                answer = answer => answer?,
                stalled = clock.run_out() => return Err(ConnectorError::timeout(stalled.into())),
            };
            Ok(answer.map(|body| SdkBody::from_body_1_x(ReceivedBody::new(body, patience))))
        })
    }
}

/// When a request is given up, unless something moves.
#[derive(Debug, Clone)]
struct Clock {
    started_at: Instant,
    patience: Duration,
    /// Milliseconds since the start.
    ends_at: Arc<AtomicU64>,
}

impl Clock {
    fn start(patience: Duration) -> Self {
        let clock = Self { started_at: Instant::now(), patience, ends_at: Arc::default() };
        clock.allow(patience);
        clock
    }

    /// From now on, `patience` may pass without anything that moves.
    fn allow(&self, patience: Duration) {
        let ends_at = (self.started_at.elapsed() + patience).as_millis();
        self.ends_at.store(u64::try_from(ends_at).unwrap_or(u64::MAX), Relaxed);
    }

    async fn run_out(&self) -> StallError {
        let started_at = Instant::now();
        loop {
            let ends_at = self.started_at + Duration::from_millis(self.ends_at.load(Relaxed));
            if Instant::now() >= ends_at {
                return StallError(started_at.elapsed().min(self.patience));
            }
            tokio::time::sleep_until(ends_at).await;
        }
    }
}

/// A request's body in small pieces.
struct SentBody {
    body: SdkBody,
    /// What was taken from `body` and not yet handed over.
    piece: Bytes,
    handed: u64,
    clock: Clock,
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while this.piece.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            match frame?.into_data() {
                Ok(bytes) => this.piece = bytes,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = this.piece.split_to(this.piece.len().min(PIECE_BYTES));
        this.handed += piece.len() as u64;
        let patience = this.clock.patience;
        let extra = if this.is_end_stream() {
            Duration::from_secs(this.handed / MIN_RATE)
        } else {
            Duration::ZERO
        };
        this.clock.allow(patience + extra.min(patience * MAX_EXTRA));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, own) = (Body::size_hint(&self.body), self.piece.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + own);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + own);
        }
        hint
    }
}

/// An answer's body, which fails once nothing of it comes.
struct ReceivedBody {
    body: SdkBody,
    patience: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl ReceivedBody {
    fn new(body: SdkBody, patience: Duration) -> Self {
        Self { body, patience, sleep: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl fmt::Debug for ReceivedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedBody").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.sleep.as_mut().reset(Instant::now() + this.patience);
            return Poll::Ready(frame);
        }
        ready!(this.sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(StallError(this.patience).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}
