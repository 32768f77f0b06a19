//! Who administrates, and what is written down about it.
//!
//! A change and its entry in the audit log are one transaction: there is none without the other.
//! What was refused, pushes, which change content rather than settings, and collections, which are
//! many transactions, are noted in an [`AuditQueue`](super::AuditQueue). No text of an entry is
//! longer than some hundred characters, and none holds a token.

use snowbank_core::cache_name::CacheName;
use snowbank_core::token::hide_tokens;
use snowbank_core::wire::admin::collection::GcRequest;
use snowbank_core::wire::admin::{AuditEntry, AuditPage, AuditQuery, CopiedPaths};

use super::AdminError;
use super::audit_text::{MAX_DETAIL_CHARS, MAX_FIELD_CHARS, bounded};
use super::page::cut;
use crate::db::audit::{self, Filter, NewEntry};
use crate::db::{Db, DbError, Tx};

/// Entries in one answer.
const MAX_LISTED: u32 = 1_000;
const DEFAULT_LISTED: u32 = 100;
/// Entries that are looked at for one answer.
const MAX_LOOKED_AT: u32 = 5_000;

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

    /// An entry about what this one did. Tokens in its texts, which come from outside, are left
    /// out.
    #[must_use]
    pub fn entry(
        &self,
        action: &str,
        cache: &str,
        detail: &str,
        outcome: &str,
        now: i64,
    ) -> NewEntry {
        let plain = |text: &str, chars| bounded(&hide_tokens(text), chars);
        NewEntry {
            time: now,
            subject: plain(&self.subject, MAX_FIELD_CHARS),
            token_id: plain(&self.token_id, MAX_FIELD_CHARS),
            remote: plain(&self.remote, MAX_FIELD_CHARS),
            action: action.to_owned(),
            cache: plain(cache, MAX_FIELD_CHARS),
            detail: plain(detail, MAX_DETAIL_CHARS),
            outcome: plain(outcome, MAX_FIELD_CHARS),
        }
    }

    /// An entry about a copy between two caches.
    #[must_use]
    pub fn copied(
        &self,
        from: &CacheName,
        to: &CacheName,
        copied: &CopiedPaths,
        now: i64,
    ) -> NewEntry {
        let detail = format!(
            "from {from}: {} path(s), {} there already",
            copied.copied.len(),
            copied.present
        );
        self.entry("path.copy", to.as_str(), &detail, "ok", now)
    }

    /// An entry about a collection that this one began.
    #[must_use]
    pub fn collected(&self, request: &GcRequest, now: i64) -> NewEntry {
        let mut words: Vec<String> =
            request.grace.iter().map(|grace| format!("grace={grace}")).collect();
        for (is_set, word) in
            [(request.no_compact, "no-compact"), (request.trust_clock, "trust-clock")]
        {
            words.extend(is_set.then(|| word.to_owned()));
        }
        self.entry("gc.run", "", &words.join(" "), "ok", now)
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
        audit::add(tx, &[self.entry(action, cache, &detail, "ok", now)]).await
    }
}

/// What was done and tried, newest first.
pub async fn list_audit(db: &Db, query: &AuditQuery) -> Result<AuditPage, AdminError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (subject, cache, action) = (text(&query.subject), text(&query.cache), text(&query.action));
    let before = query.before.unwrap_or(i64::MAX);
    let without = query.without.as_deref().unwrap_or_default();
    let filter = Filter { subject: &subject, cache: &cache, action: &action, without, before };
    let limit = if query.limit == 0 { DEFAULT_LISTED } else { query.limit.min(MAX_LISTED) };
    let page = audit::page(db.reader().await?.exec(), &filter, MAX_LOOKED_AT, limit).await?;
    let entry = |audit::Entry { id, what }: audit::Entry| {
        let NewEntry { time, subject, token_id, remote, action, cache, detail, outcome } = what;
        AuditEntry { id, time, subject, token_id, remote, action, cache, detail, outcome }
    };
    let (mut entries, mut next): (Vec<AuditEntry>, _) =
        (page.entries.into_iter().map(entry).collect(), page.next);
    if cut(&mut entries) {
        next = entries.last().map(|last| last.id);
    }
    Ok(AuditPage { entries, next })
}
