//! What a collection did, as operators read it.

use std::fmt;

use snowbank_core::units::Bytes;
use snowbank_core::wire::admin::collection::{GcReport, GoingReason};

use super::Render;
use crate::date::utc;
use crate::table::Table;

impl Render for GcReport {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
                    reason_text(path.reason).to_owned(),
                    utc(path.used),
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
                utc(until)
            )?;
        }
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

/// Why a path goes.
const fn reason_text(reason: GoingReason) -> &'static str {
    match reason {
        GoingReason::Unused => "unused",
        GoingReason::Expired => "expired",
        GoingReason::CacheSize => "cache above its limit",
        GoingReason::ServerSize => "server above its limit",
    }
}
