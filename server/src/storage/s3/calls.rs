//! Every request to the service: bounded in number, memory and time, tried again where that helps, and counted.
//!
//! An operation ends by its deadline (`retry-for`, and at least one attempt): an attempt has `request-timeout`, what passes
//! is tried again after a pause that doubles and is drawn at random, and a service that keeps failing is not asked for a
//! while (`circuit`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::primitives::ByteStreamError;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::super::{FailureKind, ServiceFailure, StorageError, StorageFailure};
use super::circuit::Circuit;
use crate::config::S3Config;

/// Memory in flight is counted in units of this many bytes.
const UNIT: u64 = 64 * 1024;
/// The first pause is at most this long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer, unless the service asks for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The least pause after "too many requests": some services allow one write per second to a key.
const BUSY_PAUSE: Duration = Duration::from_millis(1_100);
/// A body that gives nothing for this long has stalled.
const STALLED: Duration = Duration::from_secs(10);

/// What is counted apart.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Put,
    Get,
    /// Reading the marker, which servers do at all times.
    Marker,
    Head,
    List,
    Delete,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Marker => "marker",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// Why a body did not come whole.
#[derive(Debug, Error)]
pub(super) enum BodyFailure {
    #[error("the answer's body broke off: {0}")]
    Broken(#[source] ByteStreamError),
    #[error("the answer's body gave nothing for {} seconds", .0.as_secs())]
    Stalled(Duration),
    #[error("the answer's body is longer than what was asked for")]
    TooLong,
}

/// The bounds, shared by all requests of one storage.
#[derive(Debug)]
pub(super) struct Calls {
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    all_units: u32,
    request_timeout: Duration,
    retry_for: Duration,
    circuit: Circuit,
}

impl Calls {
    pub(super) fn new(config: &S3Config) -> Self {
        let all_units = u32::try_from(config.memory_in_flight.bytes() / UNIT).unwrap_or(u32::MAX / 2).max(1);
        metrics::gauge!("snowbank_storage_circuit_open").set(0.0);
        Self {
            requests: Arc::new(Semaphore::new(config.max_requests)),
            memory: Arc::new(Semaphore::new(all_units as usize)),
            all_units,
            request_timeout: config.request_timeout.duration(),
            retry_for: config.retry_for.duration(),
            circuit: Circuit::default(),
        }
    }

    /// Whether the service is asked.
    pub(super) fn is_closed(&self) -> bool {
        self.circuit.is_closed()
    }

    /// Attempts an operation on `key`, whose body takes `bytes` of memory, until it succeeds or fails for good.
    pub(super) async fn run<T, F>(
        &self,
        operation: Operation,
        key: &str,
        bytes: u64,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, ServiceFailure>>,
    {
        let deadline = Instant::now() + self.retry_for;
        let mut pause = FIRST_PAUSE;
        loop {
            self.circuit.admit(Instant::now()).map_err(|latest| StorageError::Unavailable {
                key: key.to_owned(),
                source: StorageFailure::Paused(latest),
            })?;
            let failure = match self.attempt(operation, bytes, Box::pin(attempt())).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let wait = wait_after(&failure, pause);
            let again = failure.kind.passes() && self.circuit.is_closed() && Instant::now() + wait < deadline;
            count(operation, if again { "retried" } else { outcome(failure.kind) });
            if !again {
                return Err(StorageError::from_service(key, failure));
            }
            tracing::debug!(key, %failure, "a storage request is tried again");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One attempt (boxed by the caller: the SDK's futures are large), with a place among the requests and room for its body.
    async fn attempt<T>(
        &self,
        operation: Operation,
        bytes: u64,
        request: impl Future<Output = Result<T, ServiceFailure>>,
    ) -> Result<T, ServiceFailure> {
        // Whose the storage is has to be known at all times, also while all places are taken; one request at a time asks.
        let _held = match operation {
            Operation::Marker => None,
            _ => Some((self.room(bytes).await, Arc::clone(&self.requests).acquire_owned().await.ok())),
        };
        let started = Instant::now();
        let result = timeout(self.request_timeout, request).await.unwrap_or_else(|_| {
            Err(ServiceFailure {
                kind: FailureKind::Timeout,
                operation: operation.name(),
                status: None,
                code: None,
                message: format!("no answer within {} s", self.request_timeout.as_secs()),
                request_id: None,
                retry_after: None,
            })
        });
        metrics::histogram!("snowbank_storage_request_seconds", "operation" => operation.name())
            .record(started.elapsed().as_secs_f64());
        match &result {
            Ok(_) => {
                count(operation, "ok");
                if bytes > 0 && matches!(operation, Operation::Put) {
                    metrics::counter!("snowbank_storage_sent_bytes_total").increment(bytes);
                }
                self.answered();
            }
            // A refused credential is an answer, and still nothing works.
            Err(failure) if failure.kind.passes() || failure.kind == FailureKind::Denied => {
                if self.circuit.failed(Instant::now(), &failure.to_string()) {
                    metrics::gauge!("snowbank_storage_circuit_open").set(1.0);
                    tracing::error!(%failure, "the storage does not answer; requests that need it are refused until it does");
                }
            }
            Err(_) => self.answered(),
        }
        result
    }

    fn answered(&self) {
        if self.circuit.succeeded() {
            metrics::gauge!("snowbank_storage_circuit_open").set(0.0);
            tracing::info!("the storage answers again");
        }
    }

    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.all_units);
        // The semaphore is never closed.
        Arc::clone(&self.memory).acquire_many_owned(units).await.ok()
    }

    /// The bytes of an answer's body from `skip` on, at most `len`; `expected` is how many to make room for.
    pub(super) async fn collect(
        &self,
        mut body: ByteStream,
        skip: u64,
        len: u64,
        expected: u64,
    ) -> Result<Vec<u8>, BodyFailure> {
        let stalled = self.request_timeout.min(STALLED);
        let most = len.min(super::super::MAX_WHOLE_BYTES);
        let mut bytes = Vec::with_capacity(usize::try_from(expected.min(most)).unwrap_or(0));
        let mut before = skip;
        while let Some(part) = timeout(stalled, body.next()).await.map_err(|_| BodyFailure::Stalled(stalled))? {
            let part = part.map_err(BodyFailure::Broken)?;
            let dropped = usize::try_from(before).unwrap_or(usize::MAX).min(part.len());
            before -= dropped as u64;
            let wanted = &part[dropped..];
            let room = usize::try_from(most).unwrap_or(usize::MAX) - bytes.len();
            if wanted.len() > room {
                if skip == 0 && len > super::super::MAX_WHOLE_BYTES {
                    return Err(BodyFailure::TooLong);
                }
                // The rest of an object whose range was not heeded.
                bytes.extend_from_slice(&wanted[..room]);
                break;
            }
            bytes.extend_from_slice(wanted);
        }
        metrics::counter!("snowbank_storage_received_bytes_total").increment(bytes.len() as u64);
        Ok(bytes)
    }
}

fn count(operation: Operation, outcome: &'static str) {
    metrics::counter!("snowbank_storage_requests_total", "operation" => operation.name(), "outcome" => outcome)
        .increment(1);
}

/// That an object is not there, or ends early, is an answer like another.
fn outcome(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::NotFound | FailureKind::BeyondEnd => "ok",
        _ => "failed",
    }
}

/// Between half the pause and all of it, so that many who failed together do not come back together.
fn wait_after(failure: &ServiceFailure, pause: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness the pauses are merely alike.
    let _ = getrandom::fill(&mut random);
    let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    let drawn = pause.mul_f64(0.5 + share / 2.0);
    let least = match failure.status {
        Some(429) => BUSY_PAUSE,
        _ => Duration::ZERO,
    };
    drawn.max(least).max(failure.retry_after.unwrap_or_default().min(LONGEST_PAUSE * 2))
}
