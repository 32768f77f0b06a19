//! Requests that were refused, counted by who and what: the first of a kind is written down as it
//! is, and of those that follow a row a minute says how many there were. So nobody fills the audit
//! log by asking for what is refused.
//!
//! The table is bounded. What finds no place in it is counted together, as that of other addresses.

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};

use crate::admission::ClientNetwork;
use crate::db::audit::NewEntry;

/// How often a kind is written down.
const PERIOD: Duration = Duration::from_mins(1);
/// Kinds that are known at the same time, of about half a KiB each.
const MAX_KINDS: usize = 512;

/// Who was refused what, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    from: Origin,
    token_id: String,
    action: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Origin {
    Network(ClientNetwork),
    Unknown,
}

#[derive(Debug)]
struct RefusalCount {
    /// The first one.
    like: NewEntry,
    written_at: Instant,
    /// Those since then.
    unwritten: u64,
}

/// The kinds of the last minute.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kinds: HashMap<Kind, RefusalCount>,
    others: Option<RefusalCount>,
}

impl Refusals {
    /// Counts one, at the time `now`; gives it back where it is to be written as it is.
    pub(super) fn count(&mut self, entry: NewEntry, now: Instant) -> Option<NewEntry> {
        let address = entry.remote.parse().map(ClientNetwork::of);
        let kind = Kind {
            from: address.map_or(Origin::Unknown, Origin::Network),
            token_id: entry.token_id.clone(),
            action: entry.action.clone(),
            outcome: entry.outcome.clone(),
        };
        if let Some(counted) = self.kinds.get_mut(&kind) {
            counted.unwritten += 1;
            return None;
        }
        if self.kinds.len() >= MAX_KINDS {
            let others = self.others.get_or_insert_with(|| RefusalCount {
                like: NewEntry {
                    subject: "nobody".to_owned(),
                    token_id: String::new(),
                    remote: "other addresses".to_owned(),
                    action: "refused".to_owned(),
                    cache: String::new(),
                    detail: String::new(),
                    outcome: "refused".to_owned(),
                    ..entry
                },
                written_at: now,
                unwritten: 0,
            });
            others.unwritten += 1;
            return None;
        }
        self.kinds
            .insert(kind, RefusalCount { like: entry.clone(), written_at: now, unwritten: 0 });
        Some(entry)
    }

    /// The rows that are due: a minute after the last one of their kind, or at once where this is
    /// the end. `time` is what they are written under, in Unix seconds.
    pub(super) fn take_due(&mut self, now: Instant, time: i64, is_end: bool) -> Vec<NewEntry> {
        let mut rows = Vec::new();
        let is_due = |counted: &RefusalCount| {
            is_end || now.saturating_duration_since(counted.written_at) >= PERIOD
        };
        let mut keep = |counted: &mut RefusalCount| {
            if !is_due(counted) {
                return true;
            }
            counted.written_at = now;
            rows.extend(counted.row(time));
            // One that did not come again is done with.
            mem::take(&mut counted.unwritten) > 0 && !is_end
        };
        self.kinds.retain(|_, counted| keep(counted));
        self.others.take_if(|others| !keep(others));
        rows
    }
}

impl RefusalCount {
    fn row(&self, time: i64) -> Option<NewEntry> {
        let detail = match self.unwritten {
            0 => return None,
            1 => "once more".to_owned(),
            times => format!("{times} times more"),
        };
        // Which caches the others were about is not kept.
        Some(NewEntry { time, detail, cache: String::new(), ..self.like.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Actor;

    fn refused(remote: &str, action: &str) -> NewEntry {
        let actor = Actor {
            subject: "nobody".to_owned(),
            token_id: String::new(),
            remote: remote.to_owned(),
        };
        actor.entry(action, "main", "as it is", "unauthenticated", 100)
    }

    #[test]
    fn the_first_is_written_and_the_others_are_counted() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        let first = refused("192.0.2.1", "token.create");
        assert_eq!(refusals.count(first.clone(), begin), Some(first.clone()));
        for _ in 0..7_700 {
            assert_eq!(refusals.count(first.clone(), begin), None);
        }
        assert!(
            refusals.count(refused("192.0.2.1", "cache.create"), begin).is_some(),
            "another kind"
        );
        assert!(
            refusals.count(refused("192.0.2.2", "token.create"), begin).is_some(),
            "another address"
        );
        assert!(refusals.take_due(begin + PERIOD / 2, 130, false).is_empty());

        let rows = refusals.take_due(begin + PERIOD, 160, false);
        let (detail, cache) = ("7700 times more".to_owned(), String::new());
        let row = NewEntry { time: 160, detail, cache, ..first.clone() };
        assert_eq!(rows, [row]);
        assert_eq!(refusals.kinds.len(), 1, "the two that did not come again are forgotten");
        assert_eq!(
            refusals.count(first.clone(), begin + PERIOD),
            None,
            "no more than a row a minute"
        );
        assert_eq!(refusals.take_due(begin + PERIOD, 161, true)[0].detail, "once more");
        assert!(refusals.count(first, begin + PERIOD).is_some(), "after the end all is new");
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        let remote = |number: usize| format!("2001:db8:{:x}:{:x}::1", number / 256, number % 256);
        let written = (0..MAX_KINDS + 1_000).filter(|number| {
            refusals.count(refused(&remote(*number), "token.create"), begin).is_some()
        });
        assert_eq!(written.count(), MAX_KINDS);
        let neighbour = remote(0).replace("::1", "::2");
        assert!(
            refusals.count(refused(&neighbour, "token.create"), begin).is_none(),
            "of the same network"
        );
        let rows = refusals.take_due(begin + PERIOD, 160, false);
        let others = rows.iter().find(|row| row.remote == "other addresses").unwrap();
        assert_eq!((others.detail.as_str(), rows.len()), ("1000 times more", 2));
        assert!(refusals.kinds.len() == 1 && refusals.others.is_some());
        assert!(refusals.take_due(begin + 2 * PERIOD, 220, false).is_empty());
        assert!(refusals.kinds.is_empty() && refusals.others.is_none());
    }
}
