//! What is asked of a collection, and what it did: which paths go and why, and what storage that
//! frees.

use serde::{Deserialize, Serialize};

use crate::units::Seconds;

/// Body of `POST /api/v1/gc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GcRequest {
    /// Say what would go, and remove nothing.
    pub dry_run: bool,
    /// Instead of the server's grace period: how long what nothing needs is left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Seconds>,
    /// Rewrite no packs.
    pub no_compact: bool,
    /// Believe the clock although it has jumped.
    pub trust_clock: bool,
}

/// A line of the answer to `POST /api/v1/gc`; the last one is a report or a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum GcLine {
    /// What is being done.
    Progress {
        /// For people.
        text: String,
    },
    /// It is done.
    Report(Box<GcReport>),
    /// It could not be finished. What was done stays done, and the next collection goes on.
    Failed {
        /// Why.
        message: String,
    },
}

/// Why a path goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GoingReason {
    /// Nobody pushed or read it within the cache's retention, and nothing that stays needs it.
    Unused,
    /// The time that it was pushed for is over, and nothing that stays needs it.
    Expired,
    /// The cache is above its size limit, and this was used least recently.
    CacheSize,
    /// The server is above its size limit, and this was used least recently.
    ServerSize,
}

/// A path that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoingPath {
    /// The cache that loses it.
    pub cache: String,
    /// Its base name.
    pub store_path: String,
    /// Why.
    pub reason: GoingReason,
    /// When it was pushed or read last, in seconds since 1970.
    pub used: i64,
    /// Bytes of its NAR.
    pub nar_bytes: u64,
}

/// A cache after a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcCache {
    /// Its name.
    pub name: String,
    /// Paths that stay.
    pub paths: u64,
    /// Paths that go.
    pub going: u64,
    /// Bytes of the NARs of all paths that stay, each path counted.
    pub logical_bytes: u64,
    /// Bytes at rest of the chunks that they need, each chunk once.
    pub stored_bytes: u64,
    /// Those of them that no other cache needs.
    pub own_bytes: u64,
    /// Until when it can be restored, in seconds since 1970, if it was destroyed: its room comes
    /// back after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorable_until: Option<i64>,
}

/// What a collection did, or, as a dry run, would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GcReport {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// When it began, in seconds since 1970.
    pub started: i64,
    /// How long it took.
    pub milliseconds: u64,
    /// The longest time for which it kept others from committing.
    pub longest_lock_milliseconds: u64,
    /// The caches.
    pub caches: Vec<GcCache>,
    /// How many paths go.
    pub paths: u64,
    /// The first of them.
    pub going: Vec<GoingPath>,
    /// Bytes of their NARs.
    pub nar_bytes: u64,
    /// NARs that go: no path had them for as long as the grace period.
    pub nars: u64,
    /// Chunks that go.
    pub chunks: u64,
    /// Their bytes at rest.
    pub chunk_bytes: u64,
    /// Packs that go.
    pub packs: u64,
    /// Bytes of their objects: what is freed without rewriting anything.
    pub freed_bytes: u64,
    /// Packs that were rewritten.
    pub compacted_packs: u64,
    /// Bytes that rewriting them freed.
    pub compacted_bytes: u64,
    /// Bytes that nothing needs and that are still there: within the grace period, or in packs not
    /// worth rewriting yet.
    pub waiting_bytes: u64,
    /// Objects that were removed from the storage.
    pub objects: u64,
    /// Objects that could not be removed now; the next collection tries again.
    pub failed_objects: u64,
    /// Objects that no row names; they go once they have been so for the grace period.
    pub unnamed_objects: u64,
    /// Bytes of all packs afterwards.
    pub stored_bytes: u64,
    /// What an operator should know.
    pub notes: Vec<String>,
}
