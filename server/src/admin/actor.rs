//! Who administrates, and what is written down about it.
//!
//! A change and its entry in the audit log are one transaction: there is none without the other. What was refused, pushes,
//! which change content rather than settings, and collections, which are many transactions, are noted in an [`AuditQueue`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use snowbank_core::cache_name::CacheName;
use snowbank_core::token::{hide_tokens, looks_like_token};
use snowbank_core::wire::admin::collection::GcRequest;
use snowbank_core::wire::admin::{AuditEntry, AuditPage, AuditQuery, CopiedPaths};

use super::AdminError;
use crate::db::audit::{self, Filter, NewEntry};
use crate::db::{Db, DbError, Tx};

/// Entries that wait to be written; of more, the oldest are lost, and that is logged.
const MOST_WAITING: usize = 10_000;
/// Entries in one answer.
const MOST_LISTED: u32 = 1_000;
const LISTED: u32 = 100;

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The subject of the token, or `host`.
    pub subject: String,
    /// The token's id, if there is one.
    pub token_id: String,
    /// Where the request came from.
    pub remote: String,
}

impl Actor {
    /// Whoever may run commands on the server's host.
    #[must_use]
    pub fn host() -> Self {
        Self { subject: "host".to_owned(), token_id: String::new(), remote: "host".to_owned() }
    }

    /// An entry about what this one did. Tokens in its texts, which come from outside, are left out.
    #[must_use]
    pub fn entry(&self, action: &str, cache: &str, detail: String, outcome: &str, now: i64) -> NewEntry {
        let plain = |text: &str| hide_tokens(text).into_owned();
        NewEntry {
            time: now,
            subject: plain(&self.subject),
            token_id: plain(&self.token_id),
            remote: plain(&self.remote),
            action: action.to_owned(),
            cache: plain(cache),
            detail: if looks_like_token(&detail) { plain(&detail) } else { detail },
            outcome: outcome.to_owned(),
        }
    }

    /// An entry about a copy between two caches.
    #[must_use]
    pub fn copied(&self, from: &CacheName, to: &CacheName, copied: &CopiedPaths, now: i64) -> NewEntry {
        let detail = format!("from {from}: {} path(s), {} there already", copied.copied.len(), copied.present);
        self.entry("path.copy", to.as_str(), detail, "ok", now)
    }

    /// An entry about a collection that this one began.
    #[must_use]
    pub fn collected(&self, request: &GcRequest, now: i64) -> NewEntry {
        let mut words: Vec<String> = request.grace.iter().map(|grace| format!("grace={grace}")).collect();
        for (is_set, word) in [(request.no_compact, "no-compact"), (request.trust_clock, "trust-clock")] {
            words.extend(is_set.then(|| word.to_owned()));
        }
        self.entry("gc.run", "", words.join(" "), "ok", now)
    }

    /// Writes down, within the change's own transaction, that it was made.
    pub(super) async fn record(
        &self,
        tx: &mut Tx,
        action: &str,
        cache: &str,
        detail: String,
        now: i64,
    ) -> Result<(), DbError> {
        audit::add(tx, &[self.entry(action, cache, detail, "ok", now)]).await
    }
}

/// Entries that are written a moment later. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct AuditQueue(Arc<Mutex<VecDeque<NewEntry>>>);

impl AuditQueue {
    /// Notes an entry.
    pub fn note(&self, entry: NewEntry) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MOST_WAITING {
            tracing::error!("the audit log is not written fast enough; its oldest waiting entry is lost");
            waiting.pop_front();
        }
        waiting.push_back(entry);
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// As any write; the entries wait on then.
    pub async fn write(&self, db: &Db) -> Result<(), DbError> {
        let entries: Vec<NewEntry> = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into();
        if entries.is_empty() {
            return Ok(());
        }
        let written = async {
            let mut tx = db.upkeep_tx().await?;
            audit::add(&mut tx, &entries).await?;
            tx.commit().await
        };
        let result = written.await;
        if result.is_err() {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            entries.into_iter().rev().for_each(|entry| waiting.push_front(entry));
            waiting.truncate(MOST_WAITING);
        }
        result
    }
}

/// What was done and tried, newest first.
///
/// # Errors
/// As any read.
pub async fn list_audit(db: &Db, query: &AuditQuery) -> Result<AuditPage, AdminError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (subject, cache, action) = (text(&query.subject), text(&query.cache), text(&query.action));
    let before = query.before.unwrap_or(i64::MAX);
    let filter = Filter { subject: &subject, cache: &cache, action: &action, before };
    let limit = if query.limit == 0 { LISTED } else { query.limit.min(MOST_LISTED) };
    let entries = audit::list(db.reader().await?.exec(), &filter, limit).await?;
    let entry = |audit::Entry { id, what }: audit::Entry| {
        let NewEntry { time, subject, token_id, remote, action, cache, detail, outcome } = what;
        AuditEntry { id, time, subject, token_id, remote, action, cache, detail, outcome }
    };
    Ok(AuditPage { entries: entries.into_iter().map(entry).collect() })
}
