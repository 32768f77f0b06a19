//! Looking at the marker again and again: one look at a time, whoever asks, and what the last one
//! gave.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Chain, ChainError};
use crate::clock::unix_now;

/// A server at work adds a link so often.
const ADVANCE_EVERY: u64 = 3_600;
/// How long anybody waits for a look.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long whoever asks for the server's health waits.
const HEALTH_PATIENCE: Duration = Duration::from_secs(3);
/// For how long a look that failed is believed.
const FAILURE_FRESH_FOR: Duration = Duration::from_secs(8);
/// Between two looks while the storage is not known to be the database's.
const UNKNOWN_CHECK_EVERY: Duration = Duration::from_secs(1);

type Outcome = Result<Observation, Arc<ChainError>>;

/// What a look saw besides whose the storage is.
#[derive(Debug, Clone, Copy)]
struct Observation {
    /// Another server asks whether this one is at work.
    is_asked: bool,
    /// The marker has a former link.
    is_behind: bool,
    /// When the last link was written.
    written: i64,
}

/// The last look, and the one under way.
#[derive(Debug, Default)]
pub(super) struct MarkerWatch {
    last: Mutex<Option<MarkerRead>>,
    /// A storage that hangs is waited for by one task, however many ask.
    under_way: tokio::sync::Mutex<Option<AbortOnDropHandle<MarkerRead>>>,
}

#[derive(Debug, Clone)]
struct MarkerRead {
    clock: Stopwatch,
    outcome: Outcome,
}

/// How long ago something began, by whichever of two clocks says more: one of them stands while a
/// machine sleeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch {
    began: Instant,
    began_at: SystemTime,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self { began: Instant::now(), began_at: SystemTime::now() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed().max(self.began_at.elapsed().unwrap_or_default())
    }
}

impl Chain {
    /// Finds that the storage is the database's by a look that begins now.
    pub async fn confirm(&self) -> Result<(), Arc<ChainError>> {
        let until = Instant::now() + self.0.storage.patience_left().min(CHECK_TIMEOUT);
        loop {
            match self.read_marker(Duration::ZERO, CHECK_TIMEOUT).await {
                Err(error) if error.passes() && Instant::now() < until => {
                    tokio::time::sleep(UNKNOWN_CHECK_EVERY).await;
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    /// As [`Chain::confirm`], by a look that may be as old as it gets while a server looks
    /// regularly. Waits for a bucket that does not answer, as long as every other request to it
    /// does.
    ///
    /// # Errors
    /// See [`ChainError`]; for a moment it is the same one.
    pub async fn confirm_lately(&self) -> Result<(), Arc<ChainError>> {
        let until = Instant::now() + self.0.storage.patience_left();
        loop {
            match self.look_lately(CHECK_TIMEOUT).await {
                Err(error) if error.passes() && Instant::now() < until => {
                    tokio::time::sleep(UNKNOWN_CHECK_EVERY).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// What is known to whoever asks for the server's health; the storage is not asked more often
    /// for it.
    ///
    /// # Errors
    /// As [`Chain::confirm_lately`].
    pub async fn health(&self) -> Result<(), Arc<ChainError>> {
        self.look_lately(HEALTH_PATIENCE).await
    }

    async fn look_lately(&self, patience: Duration) -> Result<(), Arc<ChainError>> {
        // The server goes on looking: that the storage is its own again is seen at once.
        match self.last() {
            Some(MarkerRead { clock, outcome: Err(error) })
                if clock.elapsed() <= FAILURE_FRESH_FOR =>
            {
                Err(error)
            }
            _ => self.read_marker(self.0.timing.period * 2, patience).await.map(drop),
        }
    }

    fn last(&self) -> Option<MarkerRead> {
        self.0.looks.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks until `stop`, answers who asks, writes a marker again that is behind, and adds a link
    /// when it is time.
    pub async fn watch(self, stop: CancellationToken) {
        let mut was_well = true;
        let mut began_at = tokio::time::Instant::now();
        loop {
            // From the beginning of one look to that of the next, so that a dead storage shows as
            // soon as a slow one.
            let period = if was_well {
                self.0.timing.period
            } else {
                self.0.timing.period.min(UNKNOWN_CHECK_EVERY)
            };
            if stop.run_until_cancelled(tokio::time::sleep_until(began_at + period)).await.is_none()
            {
                return;
            }
            began_at = tokio::time::Instant::now();
            let outcome = self.read_marker(Duration::ZERO, CHECK_TIMEOUT).await;
            match &outcome {
                Err(error) if was_well && error.is_lost() => {
                    tracing::error!(%error, "the storage is another database's; nothing is written \
                        or removed");
                }
                Err(error) if was_well => {
                    tracing::error!(%error, "whose the storage is cannot be found out");
                }
                Ok(_) if !was_well => {
                    tracing::info!("the storage is known to be this database's again");
                }
                _ => {}
            }
            was_well = outcome.is_ok();
            metrics::gauge!("snowbank_storage_is_own").set(if was_well { 1.0 } else { 0.0 });
            let is_up = !outcome.as_ref().is_err_and(|error| error.is_unreachable());
            metrics::gauge!("snowbank_storage_up").set(if is_up { 1.0 } else { 0.0 });
            let now = unix_now();
            let is_due = match outcome {
                Ok(Observation { is_asked: true, .. }) => {
                    tracing::warn!(
                        "another server asks for the storage; it is told that this one is at work"
                    );
                    true
                }
                Ok(seen) => seen.is_behind || seen.written.abs_diff(now) >= ADVANCE_EVERY,
                Err(error) => error.is_missing() && self.may_be_undone(),
            };
            if is_due {
                // Cut off, it leaves nothing that the next one does not go on with.
                let advanced = stop.run_until_cancelled(self.advance(now)).await;
                if let Some(Err(error)) = advanced {
                    tracing::warn!(%error, "the storage's marker was not written");
                }
            }
        }
    }

    /// The last look if it found the storage to be the database's and is no older than `max_age`;
    /// otherwise another one.
    async fn read_marker(&self, max_age: Duration, patience: Duration) -> Outcome {
        let asked = Instant::now();
        let serves = |look: &MarkerRead| {
            (look.clock.elapsed() <= max_age && look.outcome.is_ok()) || look.clock.began >= asked
        };
        if let Some(look) = self.last().filter(serves) {
            return look.outcome;
        }
        let look = async {
            loop {
                let mut under_way = self.0.looks.under_way.lock().await;
                if let Some(look) = self.last().filter(serves) {
                    return look.outcome;
                }
                let task = under_way.get_or_insert_with(|| {
                    AbortOnDropHandle::new(tokio::spawn(self.clone().see()))
                });
                let Ok(look) = task.await else {
                    *under_way = None;
                    return Err(Arc::new(ChainError::Stopped));
                };
                *under_way = None;
                *self.0.looks.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
            }
        };
        timeout(patience, look)
            .await
            .unwrap_or_else(|_| Err(Arc::new(ChainError::Silent(patience))))
    }

    async fn see(self) -> MarkerRead {
        let clock = Stopwatch::start();
        let outcome = self.stand().await.map(|(own, marker, standing)| Observation {
            is_asked: marker.asked.is_some(),
            is_behind: standing == super::standing::Standing::Behind,
            written: own.last().written.unwrap_or_default(),
        });
        MarkerRead { clock, outcome: outcome.map_err(Arc::new) }
    }
}
