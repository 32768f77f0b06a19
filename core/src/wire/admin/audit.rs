//! Messages about the audit log.

use serde::{Deserialize, Serialize};

/// Query of `GET /api/v1/audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// Only what this subject did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only what concerned this cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Only this action, such as `token.create`; with `*` at its end, all that begin so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// All actions but this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// At most so many entries, the newest.
    pub limit: u32,
    /// Only entries before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
}

/// Something that was done, or tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number.
    pub id: i64,
    /// When, in seconds since 1970.
    pub time: i64,
    /// Whose token; `host` for commands on the server's host.
    pub subject: String,
    /// The token's id.
    pub token_id: String,
    /// The address that the request came from.
    pub remote: String,
    /// What, such as `cache.configure`.
    pub action: String,
    /// Which cache, if it was about one.
    pub cache: String,
    /// The particulars; never a secret.
    pub detail: String,
    /// `ok`, or why it was refused.
    pub outcome: String,
}

/// Answer to `GET /api/v1/audit`: newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// What to ask for as `before` to get older ones; absent at the end. A page may be empty and
    /// have it: a server looks at so many entries for one answer and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

impl AuditPage {
    /// Takes in the answer to `query`, and makes `query` ask for what is still wanted; whether
    /// anything is. `next` is where the whole ends then.
    pub fn take(&mut self, page: Self, query: &mut AuditQuery) -> bool {
        query.limit =
            query.limit.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        query.before = page.next;
        self.entries.extend(page.entries);
        self.next = page.next;
        query.limit > 0 && query.before.is_some()
    }
}
