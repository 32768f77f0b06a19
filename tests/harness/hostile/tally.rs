//! What hostile clients were answered, counted.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counts of one attack; all of its clients add to them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) opened: AtomicU64,
    pub(super) unconnected: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// What has become of an attack's clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that they have made.
    pub opened: u64,
    /// Connections that they could not make in time.
    pub unconnected: u64,
    /// Connections, and streams of HTTP/2, that the server has ended.
    pub closed: u64,
    /// Answers below 400 that have begun.
    pub answered: u64,
    /// Answers of 400 and above.
    pub refused: u64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// Notes an answer's status.
    pub(super) fn status(&self, status: u16) {
        Self::add(if status < 400 { &self.answered } else { &self.refused });
    }

    pub(super) fn read(&self) -> Tally {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        Tally {
            opened: get(&self.opened),
            unconnected: get(&self.unconnected),
            closed: get(&self.closed),
            answered: get(&self.answered),
            refused: get(&self.refused),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, unconnected, closed, answered, refused } = self;
        write!(
            f,
            "{opened} connections made, {unconnected} not made in time, {closed} connections or \
             streams ended by the server, {answered} answers, {refused} refusals"
        )
    }
}
