//! Entries of the audit log that are written a moment later: pushes, collections, and what was
//! refused.
//!
//! Pushes and collections have a queue of their own, which no refusal has a place in and which is
//! written first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::refusals::Refusals;
use crate::db::audit::{self, NewEntry};
use crate::db::{Db, DbError};

/// Entries that wait to be written; of more, the oldest are lost, and that is logged.
const MAX_WAITING: usize = 10_000;
/// Rows about refusals that are written in one transaction, so that a push beside it does not wait
/// long.
const BATCH: usize = 100;

/// What waits. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct AuditQueue(Arc<Mutex<Backlog>>);

#[derive(Debug, Default)]
struct Backlog {
    entries: VecDeque<NewEntry>,
    refusals: Refusals,
    /// Rows about refusals, no more than there are kinds of them in a minute.
    refused: VecDeque<NewEntry>,
}

impl AuditQueue {
    fn waiting(&self) -> MutexGuard<'_, Backlog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something that was done.
    pub fn note(&self, entry: NewEntry) {
        let mut waiting = self.waiting();
        waiting.entries.push_back(entry);
        cut(&mut waiting.entries);
    }

    /// Notes something that was refused: as an entry, or as one more like the last.
    pub fn note_refusal(&self, entry: NewEntry) {
        let mut waiting = self.waiting();
        let row = waiting.refusals.count(entry, Instant::now());
        let how = if row.is_some() { "written" } else { "counted" };
        row.iter().for_each(log_refusal);
        metrics::counter!("snowbank_audit_refusals_total", "how" => how).increment(1);
        waiting.refused.extend(row);
        cut(&mut waiting.refused);
    }

    /// Writes what was noted, under the time `now` where it was counted; at the end, what was
    /// counted in the last minute too.
    ///
    /// # Errors
    /// As any write; the entries wait on then.
    pub async fn write(&self, db: &Db, now: i64, is_end: bool) -> Result<(), DbError> {
        let entries: Vec<NewEntry> = std::mem::take(&mut self.waiting().entries).into();
        if let Err(error) = write(db, &entries).await {
            put_back(&mut self.waiting().entries, entries);
            return Err(error);
        }
        let rows: Vec<NewEntry> = {
            let mut waiting = self.waiting();
            let due = waiting.refusals.take_due(Instant::now(), now, is_end);
            due.iter().for_each(log_refusal);
            waiting.refused.extend(due);
            std::mem::take(&mut waiting.refused).into()
        };
        let mut rest = rows;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(BATCH));
            if let Err(error) = write(db, &rest).await {
                rest.extend(later);
                put_back(&mut self.waiting().refused, rest);
                return Err(error);
            }
            rest = later;
        }
        Ok(())
    }
}

/// As often as the audit log has a row: the first of a kind, and once a minute how many there were.
fn log_refusal(entry: &NewEntry) {
    let NewEntry { subject, remote, action, cache, detail, outcome, .. } = entry;
    tracing::info!(subject, cache, from = remote, action, outcome, detail, "refused");
}

async fn write(db: &Db, entries: &[NewEntry]) -> Result<(), DbError> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut tx = db.upkeep_tx().await?;
    audit::add(&mut tx, entries).await?;
    tx.commit().await
}

/// Entries that were not written wait before those that came meanwhile.
fn put_back(waiting: &mut VecDeque<NewEntry>, entries: Vec<NewEntry>) {
    entries.into_iter().rev().for_each(|entry| waiting.push_front(entry));
    cut(waiting);
}

/// Of more than may wait, the oldest are lost.
fn cut(waiting: &mut VecDeque<NewEntry>) {
    let lost = waiting.len().saturating_sub(MAX_WAITING);
    if lost > 0 {
        waiting.drain(..lost);
        metrics::counter!("snowbank_audit_lost_total").increment(lost as u64);
        tracing::error!(
            lost,
            "the audit log is not written fast enough; its oldest waiting entries are lost"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Actor, list_audit};
    use crate::config::{DatabaseConfig, DatabaseUrl};
    use snowbank_core::wire::admin::AuditQuery;

    #[tokio::test]
    async fn what_was_done_is_written_whatever_was_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("snowbank.db")));
        let db = Db::open(&config).await.unwrap();
        let queue = AuditQueue::default();
        let pusher = Actor {
            subject: "ci".to_owned(),
            token_id: "t".to_owned(),
            remote: "192.0.2.1".to_owned(),
        };
        let nobody = |number: u32| Actor {
            subject: "nobody".to_owned(),
            token_id: String::new(),
            remote: std::net::Ipv4Addr::from_bits(number).to_string(),
        };
        for number in 0..50_000 {
            if number % 10 == 0 && number < 50_000 / 10 {
                queue.note(pusher.entry("push.paths", "main", &number.to_string(), "ok", 1));
            }
            let entry = nobody(number % 5_000).entry("token.create", "", "", "unauthenticated", 1);
            queue.note_refusal(entry);
        }
        queue.write(&db, 60, false).await.unwrap();
        let query = |action: &str| AuditQuery {
            action: Some(action.to_owned()),
            limit: 1_000,
            ..AuditQuery::default()
        };
        assert_eq!(list_audit(&db, &query("push.*")).await.unwrap().entries.len(), 500);
        let refused = list_audit(&db, &query("token.create")).await.unwrap().entries.len();
        assert_eq!(refused, 512, "one of each address, as many as there is room for");
        queue.write(&db, 60, true).await.unwrap();
        let others = list_audit(&db, &query("refused")).await.unwrap().entries;
        assert_eq!(others[0].detail, format!("{} times more", 50_000 - 512 * 10));
    }
}
