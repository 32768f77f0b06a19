//! A line of the log for each push: who pushed what to where, how much of it was new, and how long
//! it took.
//!
//! A client pushes by many requests. Those of one subject, from one address, to one cache are one
//! push until none has come for [`QUIET_TIME`]. Each server has a line for what came to it. Nothing
//! of this is kept: the audit log is what lasts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use snowbank_core::receipt::ReceiptStatus;
use snowbank_core::wire::{CommitLine, MissingPathsResponse};

/// A push that was silent for so long is over.
const QUIET_TIME: Duration = Duration::from_secs(10);
/// Pushes that are known at the same time, of about half a KiB each; of more there is no line.
const MAX_PUSHES: usize = 2_000;

/// The pushes of the last moment. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct PushLog(Arc<Mutex<HashMap<Pusher, Push>>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pusher {
    subject: String,
    remote: String,
    cache: String,
}

#[derive(Debug)]
struct Push {
    began: Instant,
    last: Instant,
    under_way: usize,
    counts: PushCounts,
}

/// What came of a push so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PushCounts {
    /// Paths that became visible, and bytes of their NARs.
    uploaded: u64,
    nar_bytes: u64,
    /// Paths that were there already.
    present: u64,
    /// Paths that the cache has with another NAR.
    different: u64,
    /// Paths that were refused, or could not be stored.
    failed: u64,
    /// Bytes of chunks that were stored.
    new_bytes: u64,
}

/// A request of a push, which is under way until this is dropped.
#[derive(Debug)]
pub struct PushRequest {
    log: PushLog,
    pusher: Pusher,
}

impl PushLog {
    fn pushes(&self) -> MutexGuard<'_, HashMap<Pusher, Push>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request by which this subject pushes.
    #[must_use]
    pub fn request(&self, subject: &str, remote: &str, cache: &str) -> PushRequest {
        let pusher = Pusher {
            subject: subject.to_owned(),
            remote: remote.to_owned(),
            cache: cache.to_owned(),
        };
        let (mut known, now) = (self.pushes(), Instant::now());
        if known.len() < MAX_PUSHES || known.contains_key(&pusher) {
            let new =
                || Push { began: now, last: now, under_way: 0, counts: PushCounts::default() };
            known.entry(pusher.clone()).or_insert_with(new).under_way += 1;
        }
        drop(known);
        PushRequest { log: self.clone(), pusher }
    }

    /// Logs the pushes that are over; at the end, all of them.
    pub fn tell(&self, is_end: bool) {
        for (pusher, push) in self.take_over(Instant::now(), is_end) {
            let PushCounts { uploaded, nar_bytes, present, different, failed, new_bytes } =
                push.counts;
            let seconds = (push.last - push.began).as_secs_f64();
            tracing::info!(
                subject = pusher.subject,
                cache = pusher.cache,
                from = pusher.remote,
                uploaded,
                present,
                different,
                failed,
                nar_bytes,
                new_bytes,
                seconds = (seconds * 10.0).round() / 10.0,
                "pushed"
            );
        }
    }

    fn take_over(&self, now: Instant, is_end: bool) -> Vec<(Pusher, Push)> {
        let mut pushes = self.pushes();
        let is_over = |push: &Push| {
            is_end
                || (push.under_way == 0 && now.saturating_duration_since(push.last) >= QUIET_TIME)
        };
        let over = pushes.extract_if(|_, push| is_over(push));
        // A question alone, about paths that are not there, pushes nothing.
        over.filter(|(_, push)| push.counts != PushCounts::default()).collect()
    }
}

impl PushRequest {
    fn count(&self, add: impl FnOnce(&mut PushCounts)) {
        if let Some(push) = self.log.pushes().get_mut(&self.pusher) {
            add(&mut push.counts);
        }
    }

    /// So many bytes of chunks were stored.
    pub fn stored(&self, bytes: u64) {
        self.count(|counts| counts.new_bytes += bytes);
    }

    /// The client was told which paths are there.
    pub fn asked(&self, answer: &MissingPathsResponse) {
        self.count(|counts| {
            counts.present += answer.present.len() as u64;
            counts.different += answer.different.len() as u64;
        });
    }

    /// A path came to this.
    pub fn answered(&self, line: &CommitLine) {
        self.count(|counts| match line {
            CommitLine::Receipt(receipt) if receipt.status == ReceiptStatus::Uploaded => {
                counts.uploaded += 1;
                counts.nar_bytes += receipt.nar_size;
            }
            CommitLine::Receipt(_) => counts.present += 1,
            CommitLine::Different { .. } => counts.different += 1,
            CommitLine::Error { .. } => counts.failed += 1,
            CommitLine::ChunksMissing { .. } | CommitLine::Heartbeat | CommitLine::End { .. } => {}
        });
    }
}

impl Drop for PushRequest {
    fn drop(&mut self) {
        if let Some(push) = self.log.pushes().get_mut(&self.pusher) {
            push.under_way = push.under_way.saturating_sub(1);
            push.last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_one_push_until_it_falls_silent() {
        let log = PushLog::default();
        let begun = log.request("ci", "192.0.2.1", "main");
        log.request("ci", "192.0.2.1", "main").stored(1_000);
        log.request("ci", "192.0.2.1", "team").stored(1);
        begun.answered(&CommitLine::Error {
            store_path: "p".to_owned(),
            code: "nar-mismatch".to_owned(),
            message: String::new(),
        });
        let later = || Instant::now() + QUIET_TIME;
        let over = log.take_over(later(), false);
        assert_eq!(over.len(), 1, "the other one has a request under way");
        assert_eq!((over[0].0.cache.as_str(), over[0].1.counts.new_bytes), ("team", 1));
        drop(begun);
        assert!(log.take_over(Instant::now(), false).is_empty(), "it may go on");
        let over = log.take_over(later(), false);
        assert_eq!(
            over[0].1.counts,
            PushCounts { new_bytes: 1_000, failed: 1, ..PushCounts::default() }
        );

        drop(log.request("ci", "192.0.2.1", "main"));
        assert!(
            log.take_over(later(), false).is_empty() && log.pushes().is_empty(),
            "a question alone is no push"
        );
        log.request("ci", "192.0.2.1", "main").stored(5);
        assert_eq!(log.take_over(Instant::now(), true).len(), 1, "at the end all are told");
    }

    #[test]
    fn the_table_is_bounded() {
        let log = PushLog::default();
        for number in 0..MAX_PUSHES + 10 {
            log.request(&number.to_string(), "192.0.2.1", "main").stored(1);
        }
        assert_eq!(log.take_over(Instant::now(), true).len(), MAX_PUSHES);
    }
}
