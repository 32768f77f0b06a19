//! What is asked of a collection, and what it did: which paths go and why, and what storage that
//! frees.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::show::Table;
use crate::units::{Bytes, Seconds, date};

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

impl fmt::Display for GoingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unused => "unused",
            Self::Expired => "expired",
            Self::CacheSize => "cache above its limit",
            Self::ServerSize => "server above its limit",
        })
    }
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

impl fmt::Display for GcReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut caches = Table::new(&["CACHE", "PATHS", "GOING", "LOGICAL", "STORED", "OWN"]);
        for cache in &self.caches {
            caches.row([
                cache.name.clone(),
                cache.paths.to_string(),
                cache.going.to_string(),
                Bytes(cache.logical_bytes).to_string(),
                Bytes(cache.stored_bytes).to_string(),
                Bytes(cache.own_bytes).to_string(),
            ]);
        }
        writeln!(f, "{caches}\n")?;
        if !self.going.is_empty() {
            let mut going = Table::new(&["CACHE", "WHY", "LAST USED", "NAR", "PATH"]);
            for path in &self.going {
                going.row([
                    path.cache.clone(),
                    path.reason.to_string(),
                    date(path.used),
                    Bytes(path.nar_bytes).to_string(),
                    path.store_path.clone(),
                ]);
            }
            writeln!(f, "{going}")?;
            let more = self.paths.saturating_sub(self.going.len() as u64);
            if more > 0 {
                writeln!(f, "and {more} more")?;
            }
            writeln!(f)?;
        }
        let (would, goes) =
            if self.dry_run { ("would go", "would free") } else { ("gone", "freed") };
        writeln!(f, "paths      {} {would}, {} of NARs", self.paths, Bytes(self.nar_bytes))?;
        writeln!(f, "NARs       {} {would}", self.nars)?;
        writeln!(f, "chunks     {} {would}, {} at rest", self.chunks, Bytes(self.chunk_bytes))?;
        writeln!(f, "packs      {} {would}: {goes} {}", self.packs, Bytes(self.freed_bytes))?;
        writeln!(
            f,
            "compacted  {} packs: {goes} {}",
            self.compacted_packs,
            Bytes(self.compacted_bytes)
        )?;
        writeln!(
            f,
            "waiting    {} that nothing needs, for the grace period or to be worth rewriting",
            Bytes(self.waiting_bytes)
        )?;
        if !self.dry_run {
            writeln!(
                f,
                "objects    {} removed from the storage, {} failed",
                self.objects, self.failed_objects
            )?;
        }
        if self.unnamed_objects > 0 {
            writeln!(f, "unnamed    {} objects that no row names", self.unnamed_objects)?;
        }
        write!(f, "stored     {} in packs", Bytes(self.stored_bytes))?;
        for cache in &self.caches {
            let Some(until) = cache.restorable_until.filter(|until| *until > self.started) else {
                continue;
            };
            write!(
                f,
                "\nnote: `{0}` was destroyed, and {1} that it alone needs stay until {2}; `cache \
                 purge {0}` gives them back sooner",
                cache.name,
                Bytes(cache.own_bytes),
                date(until)
            )?;
        }
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}
