//! The outcomes of all pushes of a drain, for a caller that makes one report of them.

use std::collections::BTreeMap;

use super::batch::Outcome;
use crate::exit::Exit;
use crate::push::Summary;
use crate::queue::Entry;
use crate::store::COLLECTED;

/// The outcomes so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// The pushes in numbers, by cache and server. Closures overlap, so a path may be present in
    /// several pushes.
    pushes: BTreeMap<String, Summary>,
    /// The paths that were not pushed, with the last reason.
    failed: BTreeMap<String, (String, Exit)>,
}

impl Tally {
    pub(super) fn add_push(&mut self, target: String, push: &Summary) {
        let sum = self.pushes.entry(target).or_default();
        sum.uploaded += push.uploaded;
        sum.present += push.present;
        sum.skipped += push.skipped;
        sum.left_out += push.left_out;
        sum.nar_bytes += push.nar_bytes;
        sum.new_bytes += push.new_bytes;
        sum.chunks_sent += push.chunks_sent;
        sum.sent_bytes += push.sent_bytes;
        sum.late_signatures += push.late_signatures;
        sum.elapsed_ms += push.elapsed_ms;
    }

    pub(super) fn add_outcome(&mut self, entry: &Entry, outcome: &Outcome) {
        let reason = match outcome {
            Outcome::Pushed | Outcome::LeftOut { .. } => {
                self.failed.remove(&entry.store_path);
                return;
            }
            Outcome::Collected => COLLECTED,
            Outcome::Refused { reason, .. }
            | Outcome::Failed { reason, .. }
            | Outcome::Unavailable { reason, .. } => reason,
        };
        self.failed.insert(entry.store_path.clone(), (reason.to_owned(), outcome.exit()));
    }

    /// The pushes in numbers: the cache and the server, and the sums.
    pub fn pushes(&self) -> impl Iterator<Item = (&str, &Summary)> {
        self.pushes.iter().map(|(target, summary)| (target.as_str(), summary))
    }

    /// The paths that were not pushed, with the reason and the exit code of each.
    #[must_use]
    pub const fn failed(&self) -> &BTreeMap<String, (String, Exit)> {
        &self.failed
    }
}
