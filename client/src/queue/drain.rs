//! `queue run`: takes what is due, pushes it, and settles each entry by its outcome.
//!
//! Entries are pushed by cache, some hundred at once. An entry leaves the queue only by
//! [`Database::settle`], after the push has recorded its outcome. A failure of the push as a whole
//! (the server is away, the token is refused) leaves all entries of that cache alone until the next
//! attempt, with waits that grow from seconds to an hour.

mod batch;
mod tally;

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;

use super::roots::Roots;
use super::{Database, Entry, EntryState, QueueError, QueueFolder};
use crate::api::UpstreamCache;
use crate::cli::GlobalArgs;
use crate::exit::Exit;
use crate::push::PushOptions;
use crate::store::StoreOptions;
use batch::{Batch, Outage, Outcome};
use snowbank_cli::date;
pub use tally::Tally;

/// Most entries that are pushed at once.
const MAX_BATCH: usize = 256;
/// Time between two looks for new entries.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two repairs of the roots.
const REPAIR_EVERY: Duration = Duration::from_hours(1);
/// Seconds until the second attempt, and the longest wait between two.
const FIRST_WAIT: u32 = 5;
const MAX_WAIT: u32 = 3600;

/// When [`Drain::run`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// When nothing is due.
    NothingDue,
    /// When nothing waits, or nothing can be pushed and only a person can change that.
    NothingWaits,
}

/// How the outcomes of pushes are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A summary for each push that uploads something.
    EachPush,
    /// No summaries: the caller has one made of the [`Tally`].
    Tally,
}

/// How the entries of a queue are pushed.
#[derive(Debug)]
pub struct DrainOptions {
    /// How the outcomes are reported.
    pub report: Report,
    /// The store that has the paths.
    pub store: StoreOptions,
    /// Binary caches whose paths are left out.
    pub upstreams: Vec<UpstreamCache>,
    /// How paths are pushed.
    pub push: PushOptions,
}

/// The pushing of what is in a queue.
pub struct Drain<'a> {
    global: &'a GlobalArgs,
    options: &'a DrainOptions,
    database: Database,
    roots: Roots,
    /// The caches that nothing can be pushed to, with the reason that was shown.
    outages: HashMap<String, Outage>,
    exit: Exit,
    tally: Tally,
}

impl<'a> Drain<'a> {
    /// Opens the queue in `folder`.
    ///
    /// # Errors
    /// The queue cannot be used.
    pub async fn open(
        folder: &QueueFolder,
        global: &'a GlobalArgs,
        options: &'a DrainOptions,
    ) -> Result<Self, QueueError> {
        let database = Database::open(folder).await?;
        folder.create()?;
        let roots = Roots::new(folder, options.store.clone());
        Ok(Self {
            global,
            options,
            database,
            roots,
            outages: HashMap::new(),
            exit: Exit::Success,
            tally: Tally::default(),
        })
    }

    /// The pushes so far in numbers, and with [`Report::Tally`] the paths that failed.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Pushes what is due, and what becomes due, until the end that `until` says, which may change
    /// meanwhile. Gives the exit code of the worst outcome.
    ///
    /// # Errors
    /// The queue cannot be used.
    pub async fn run(&mut self, mut until: watch::Receiver<Until>) -> Result<Exit, QueueError> {
        let mut repaired_at: Option<Instant> = None;
        let mut is_last_round = false;
        loop {
            if repaired_at.is_none_or(|at| at.elapsed() > REPAIR_EVERY) {
                self.roots.repair(&self.database.list().await?).await?;
                repaired_at = Some(Instant::now());
            }
            // Before the look: an end that comes later finds what was queued before it.
            let end = *until.borrow_and_update();
            if end == Until::NothingWaits && !is_last_round {
                is_last_round = true;
                self.retry().await?;
            }
            let entries = self.database.due(date::now(), MAX_BATCH).await?;
            if !entries.is_empty() {
                self.push(entries).await?;
                continue;
            }
            let is_over = match end {
                Until::Stopped => false,
                Until::NothingDue => true,
                Until::NothingWaits => {
                    self.outages.values().any(|outage| !outage.exit.is_forgivable())
                        || self.database.counts().await?.0 == 0
                }
            };
            if is_over {
                return Ok(self.exit);
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                // Where nobody can change the end any more, it stays.
                Ok(()) = until.changed() => {}
            }
        }
    }

    /// What is in the queue, and was not pushed.
    ///
    /// # Errors
    /// The queue cannot be used.
    pub async fn left(&mut self) -> Result<Vec<Entry>, QueueError> {
        self.database.list().await
    }

    /// Makes all that waits due at once.
    async fn retry(&mut self) -> Result<(), QueueError> {
        self.outages.clear();
        let mut entries = self.database.list().await?;
        entries.retain(|entry| entry.state == EntryState::Waiting);
        self.database.retry(&entries).await
    }

    /// Pushes entries of one cache. Where the request with all of them is refused, each half is
    /// pushed alone, and so on: one path holds up no other.
    async fn push(&mut self, entries: Vec<Entry>) -> Result<(), QueueError> {
        let mut left = vec![entries];
        while let Some(mut entries) = left.pop() {
            let batch = Batch::push(self.global, self.options, &entries).await;
            if let Some(outage) = &batch.outage
                && outage.is_of_contents
                && entries.len() > 1
            {
                left.push(entries.split_off(entries.len() / 2));
                left.push(entries);
                continue;
            }
            self.settle(entries, batch).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, entries: Vec<Entry>, batch: Batch) -> Result<(), QueueError> {
        let Some(cache) = entries.first().map(|entry| entry.cache.clone()) else { return Ok(()) };
        let has_pushed = batch.outcomes.contains(&Outcome::Pushed);
        self.report_outage(&cache, batch.outage.as_ref(), has_pushed, entries.len());
        if let Some((target, summary)) = batch.summary {
            if self.options.report == Report::EachPush
                && summary.uploaded + summary.left_out > 0
                && !self.global.quiet
            {
                // Where standard error is closed, nobody reads.
                let _ = writeln!(io::stderr(), "{target}: {summary}.");
            }
            self.tally.add_push(target, &summary);
        }
        let now = date::now();
        let attempts = entries.iter().map(|entry| entry.attempts).max().unwrap_or_default();
        let outage_ends_at = now + wait(attempts + 1);
        let mut settled = Vec::with_capacity(entries.len());
        for (entry, outcome) in entries.into_iter().zip(batch.outcomes) {
            self.exit = self.exit.worse(outcome.exit());
            match self.options.report {
                Report::EachPush => outcome.report(&entry),
                Report::Tally => self.tally.add_outcome(&entry, &outcome),
            }
            let own_end = now + wait(entry.attempts + 1);
            let settlement = outcome.settlement(own_end, outage_ends_at);
            settled.push((entry, settlement));
        }
        for root in self.database.settle(&settled).await? {
            self.roots.remove(&root);
        }
        Ok(())
    }

    /// Shows that a cache cannot be pushed to, or can again: once each.
    fn report_outage(
        &mut self,
        cache: &str,
        outage: Option<&Outage>,
        has_pushed: bool,
        waiting: usize,
    ) {
        match outage {
            Some(outage) => {
                let reason = &outage.reason;
                let before = self.outages.insert(cache.to_owned(), outage.clone());
                if before.is_none_or(|before| before.reason != *reason) {
                    tracing::warn!(
                        "nothing can be pushed to {cache} ({waiting} paths or more wait, and are \
                         tried again): {reason}"
                    );
                }
            }
            None => {
                if has_pushed && self.outages.remove(cache).is_some() {
                    tracing::warn!("{cache} takes paths again");
                }
            }
        }
    }
}

/// Seconds until the attempt after so many failed ones.
fn wait(failed: i64) -> i64 {
    let doublings = u32::try_from(failed.clamp(1, 20) - 1).unwrap_or_default();
    let longest = FIRST_WAIT.saturating_mul(1 << doublings).min(MAX_WAIT);
    // Without randomness there is no jitter, which only matters to a fleet.
    let jitter = getrandom::u32().unwrap_or_default() % (longest / 4 + 1);
    i64::from(longest - jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_seconds_to_an_hour() {
        for (failed, shortest, longest) in
            [(0, 4, 5), (1, 4, 5), (2, 8, 10), (5, 60, 80), (12, 2700, 3600), (9999, 2700, 3600)]
        {
            for _ in 0..20 {
                let wait = wait(failed);
                assert!((shortest..=longest).contains(&wait), "{failed} failed: {wait} s");
            }
        }
    }
}
