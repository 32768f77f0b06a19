//! Every request to the service: bounded in number and memory, tried again where that helps, and
//! counted.
//!
//! An attempt ends when nothing of it moves for `request-timeout` (`stall`). What passes is tried
//! again after a pause that doubles and is drawn at random, for `retry-for` after the first
//! failure. A service that keeps failing is not asked for a while (`circuit`); requests wait for
//! it. Bodies that slow each other down travel fewer at once (`lane`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::primitives::ByteStreamError;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::super::{FailureKind, ServiceFailure, StorageError, StorageFailure};
use super::circuit::{Circuit, Pass, Refusal};
use super::lane::{Journey, Lane};
use crate::config::S3Config;

/// Memory in flight is counted in units of this many bytes.
const MEMORY_UNIT_BYTES: u64 = 64 * 1024;
/// The first pause is at most this long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer, unless the service asks for it.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The least pause after "too many requests": some services allow one write per second to a key.
const BUSY_PAUSE: Duration = Duration::from_millis(1_100);
/// A body that gives nothing for this long has stalled.
const STALL_TIME: Duration = Duration::from_secs(10);
/// All attempts at the marker together: it is read every few seconds, and who reads it knows soon
/// whether the service answers.
const MARKER_PATIENCE: Duration = Duration::from_secs(4);

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Reading or writing.
#[derive(Debug)]
struct Direction {
    name: &'static str,
    circuit: Circuit,
    lane: Lane,
}

impl Direction {
    fn new(name: &'static str, config: &S3Config) -> Self {
        let lane = Lane::new(config.max_requests, config.request_timeout.duration());
        let direction = Self { name, circuit: Circuit::new(config.retry_for.duration()), lane };
        direction.record_circuit(false);
        direction
    }

    fn record_circuit(&self, is_open: bool) {
        metrics::gauge!("snowbank_storage_circuit_open", "direction" => self.name)
            .set(if is_open { 1.0 } else { 0.0 });
    }

    fn answered(&self) {
        if self.circuit.succeeded() {
            self.record_circuit(false);
            tracing::info!(direction = self.name, "the storage answers again");
        }
    }

    fn failed(&self, failure: &ServiceFailure) {
        if self.circuit.failed(Instant::now(), &failure.to_string()) {
            self.record_circuit(true);
            let direction = self.name;
            tracing::error!(direction, %failure, "the storage does not answer; requests that need \
                it wait until it does");
        }
    }
}

/// The bounds, shared by all requests of one storage.
#[derive(Debug)]
pub(super) struct Calls {
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    all_units: u32,
    request_timeout: Duration,
    retry_for: Duration,
    reading: Direction,
    writing: Direction,
}

impl Calls {
    pub(super) fn new(config: &S3Config) -> Self {
        let all_units = u32::try_from(config.memory_in_flight.bytes() / MEMORY_UNIT_BYTES)
            .unwrap_or(u32::MAX / 2)
            .max(1);
        Self {
            requests: Arc::new(Semaphore::new(config.max_requests)),
            memory: Arc::new(Semaphore::new(all_units as usize)),
            all_units,
            request_timeout: config.request_timeout.duration(),
            retry_for: config.retry_for.duration(),
            reading: Direction::new("read", config),
            writing: Direction::new("write", config),
        }
    }

    /// For how long a service that does not answer is waited for from now on: nothing once it has
    /// failed for `retry-for`.
    pub(super) fn patience_left(&self) -> Duration {
        self.reading.circuit.patience_left(Instant::now())
    }

    /// Whether the latest attempts to read failed.
    pub(super) fn is_failing(&self) -> bool {
        self.reading.circuit.is_failing()
    }

    fn direction(&self, operation: Operation) -> &Direction {
        match operation {
            Operation::Put | Operation::Delete => &self.writing,
            Operation::Get | Operation::Marker | Operation::Head | Operation::List => &self.reading,
        }
    }

    /// Attempts an operation on `key`, whose body takes `bytes` of memory, until it succeeds or
    /// fails for good.
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
        let circuit = &self.direction(operation).circuit;
        let is_marker = operation == Operation::Marker;
        let started_at = Instant::now();
        let mut failing_since = is_marker.then_some(started_at);
        let patience = if is_marker { MARKER_PATIENCE.min(self.retry_for) } else { self.retry_for };
        let mut pause = FIRST_PAUSE;
        loop {
            // Whose the storage is has to be known at all times. One request at a time asks, and is
            // a trial as well.
            let pass = if is_marker {
                Pass::free()
            } else {
                self.admitted(circuit, key, &mut failing_since).await?
            };
            let result = self.attempt(operation, bytes, Box::pin(attempt())).await;
            pass.settle();
            let failure = match result {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let now = Instant::now();
            let wait = wait_after(&failure, pause);
            let ends_at = *failing_since.get_or_insert(now) + patience;
            let again = failure.kind.passes()
                && now + wait < ends_at
                && (is_marker || !circuit.is_given_up(now));
            count(operation, if again { "retried" } else { outcome(failure.kind) });
            if !again {
                return Err(StorageError::from_service(key, failure));
            }
            tracing::debug!(key, %failure, "a storage request is tried again");
            // A circuit that closes ends the pause.
            let _ = timeout(wait, circuit.changed()).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Waits until the circuit lets a request through that has been failing since then.
    async fn admitted<'a>(
        &self,
        circuit: &'a Circuit,
        key: &str,
        failing_since: &mut Option<Instant>,
    ) -> Result<Pass<'a>, StorageError> {
        loop {
            let mut changed = std::pin::pin!(circuit.changed());
            changed.as_mut().enable();
            let now = Instant::now();
            let Refusal { latest, next_trial } = match circuit.admit(now) {
                Ok(pass) => return Ok(pass),
                Err(refusal) => refusal,
            };
            let ends_at = *failing_since.get_or_insert(now) + self.retry_for;
            let Some(next_trial) = next_trial.filter(|_| now < ends_at) else {
                let (key, source) = (key.to_owned(), StorageFailure::Paused(latest));
                return Err(StorageError::Unavailable { key, source });
            };
            // Either way the circuit is asked again.
            let _ = tokio::time::timeout_at(next_trial.min(ends_at).into(), changed).await;
        }
    }

    /// One attempt (boxed by the caller: the SDK's futures are large), with a place among the
    /// requests and room for its body.
    async fn attempt<T>(
        &self,
        operation: Operation,
        bytes: u64,
        request: impl Future<Output = Result<T, ServiceFailure>>,
    ) -> Result<T, ServiceFailure> {
        let direction = self.direction(operation);
        let mut place = match operation {
            Operation::Put | Operation::Get => Some(direction.lane.enter(bytes).await),
            _ => None,
        };
        let _held = match operation {
            Operation::Marker => None,
            _ => Some((
                self.room(bytes).await,
                Arc::clone(&self.requests).acquire_owned().await.ok(),
            )),
        };
        let started = Instant::now();
        if let Some(place) = &mut place {
            place.begin();
        }
        let result = match operation {
            Operation::Marker => {
                let limit = MARKER_PATIENCE.min(self.request_timeout);
                timeout(limit, request).await.unwrap_or_else(|_| Err(late(limit)))
            }
            _ => request.await,
        };
        metrics::histogram!("snowbank_storage_request_seconds", "operation" => operation.name())
            .record(started.elapsed().as_secs_f64());
        match &result {
            Ok(_) => {
                count(operation, "ok");
                if bytes > 0 && operation == Operation::Put {
                    metrics::counter!("snowbank_storage_sent_bytes_total").increment(bytes);
                }
                if let Some(place) = place {
                    place.finish(Journey::Arrived);
                }
                direction.answered();
            }
            Err(failure) if failure.kind.passes() => {
                if let Some(place) = place.filter(|_| failure.kind == FailureKind::Timeout) {
                    place.finish(Journey::Stalled);
                }
                direction.failed(failure);
            }
            // It answers, and nothing works all the same: a service that starts may say so for a
            // moment.
            Err(failure) if failure.kind.is_refusal() => {}
            Err(_) => direction.answered(),
        }
        result
    }

    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT_BYTES))
            .unwrap_or(u32::MAX)
            .min(self.all_units);
        // The semaphore is never closed.
        Arc::clone(&self.memory).acquire_many_owned(units).await.ok()
    }

    /// The bytes of an answer's body from `skip` on, at most `len`; `expected` is how many to make
    /// room for.
    pub(super) async fn collect(
        &self,
        mut body: ByteStream,
        skip: u64,
        len: u64,
        expected: u64,
    ) -> Result<Vec<u8>, BodyFailure> {
        let stalled = self.request_timeout.min(STALL_TIME);
        let most = len.min(super::super::MAX_WHOLE_BYTES);
        let mut bytes = Vec::with_capacity(usize::try_from(expected.min(most)).unwrap_or(0));
        let mut before = skip;
        while let Some(part) =
            timeout(stalled, body.next()).await.map_err(|_| BodyFailure::Stalled(stalled))?
        {
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

fn late(limit: Duration) -> ServiceFailure {
    ServiceFailure {
        kind: FailureKind::Timeout,
        operation: "GetObject",
        status: None,
        code: None,
        message: format!("no answer within {} s", limit.as_secs()),
        request_id: None,
        retry_after: None,
    }
}

fn count(operation: Operation, outcome: &'static str) {
    let labels = [("operation", operation.name()), ("outcome", outcome)];
    metrics::counter!("snowbank_storage_requests_total", &labels).increment(1);
}

/// That an object is not there, or ends early, is an answer like another.
fn outcome(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::NotFound | FailureKind::BeyondEnd => "ok",
        kind if kind.is_refusal() => "refused",
        _ => "failed",
    }
}

/// Between half the pause and all of it, so that many who failed together do not come back
/// together.
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
    drawn.max(least).max(failure.retry_after.unwrap_or_default().min(MAX_PAUSE * 2))
}
