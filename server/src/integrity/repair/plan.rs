//! What a repair will do, and what it has done.

use std::collections::HashMap;
use std::fmt;
use std::ops::AddAssign;

use roaring::RoaringTreemap;
use snowbank_core::chunk::ChunkName;
use snowbank_core::hash::NarHash;
use snowbank_core::pack::PackKey;

use crate::db::caches::DomainId;
use crate::db::nars::NarId;
use crate::db::packs::PackId;
use crate::db::paths::PathId;
use crate::db::repair::{ChunkRow, RowChange};
use crate::integrity::{PathPattern, Sample};
use crate::pack::pack_object_key;

/// A pack that is damaged or gone.
#[derive(Debug, Clone)]
pub(super) struct PackPlan {
    pub(super) pack: PackId,
    pub(super) key: PackKey,
    /// Whether there is no object.
    pub(super) is_gone: bool,
    /// Chunks that cannot be read any more.
    pub(super) faults: u64,
    /// Chunks that can.
    pub(super) sound: u64,
    /// What is wrong with its table, if anything.
    pub(super) table: Option<String>,
}

/// Retired chunks, by the names that they had.
pub(super) type RetiredChunks = HashMap<(DomainId, ChunkName), u64>;

/// Chunks that cannot be read by their rows.
#[derive(Debug, Default)]
pub(super) struct LostChunks {
    /// Manifests name them, and they have no row.
    pub(super) missing: RoaringTreemap,
    /// Their rows lead to no bytes, or to others.
    pub(super) bad: RoaringTreemap,
    pub(super) retired: RetiredChunks,
}

/// A path whose row makes no sense.
#[derive(Debug, Clone)]
pub(super) struct PathPlan {
    pub(super) id: PathId,
    /// `CACHE HASH-NAME`.
    pub(super) path: String,
    pub(super) reason: String,
}

/// A pack whose table has chunks that rows lack.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) key: PackKey,
    pub(super) bytes: u64,
    /// Its row; there is none for an object that no row names.
    pub(super) pack: Option<PackId>,
    /// Whether all its chunks are to have rows, not only those that manifests name.
    pub(super) takes_all: bool,
    /// Whether a manifest names one of its chunks.
    pub(super) is_needed: bool,
    /// Rows that it gives.
    pub(super) rows: u64,
}

/// A NAR that is to be withdrawn.
#[derive(Debug, Clone)]
pub(super) struct NarPlan {
    pub(super) nar: NarId,
    /// Its hash, where the row says it.
    pub(super) hash: Option<NarHash>,
    pub(super) reason: String,
    /// Whether it was decoded and is another; then its rows look well.
    pub(super) is_decoded: bool,
    /// Its paths, `CACHE HASH-NAME`.
    pub(super) paths: Vec<String>,
}

impl NarPlan {
    /// Its paths are not named yet.
    pub(super) const fn new(nar: NarId, hash: Option<NarHash>, reason: String) -> Self {
        Self { nar, hash, reason, is_decoded: false, paths: Vec::new() }
    }
}

/// What was read for a plan besides all rows, manifests and the list of objects.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Packs, whole.
    pub(super) packs: u64,
    /// Which of them were to be read, besides those that were suspect.
    pub(super) sample: Option<Sample>,
    /// Paths whose NARs were decoded.
    pub(super) paths: Option<PathPattern>,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Read were all rows and manifests, the list of objects")?;
        match self.sample {
            Some(sample) if sample.share == Sample::ALL.share => {
                write!(f, ", and all {} packs", self.packs)?;
            }
            Some(sample) => write!(f, ", and {} packs ({sample})", self.packs)?,
            None => write!(f, ", and {} packs that seemed damaged", self.packs)?,
        }
        if let Some(paths) = &self.paths {
            write!(f, "; the NARs of `{paths}` were decoded")?;
        }
        f.write_str(".")?;
        if self.sample.is_none() {
            f.write_str(" Damage within the other packs shows only with `--read-data`.")?;
        }
        Ok(())
    }
}

/// What there is to do. Made by reading alone; [`execute`](super::Repairer::execute) consumes it.
#[derive(Debug, Default)]
pub struct RepairPlan {
    /// Counters that would give ids that are in use, and what they are to give next.
    pub(super) counters: Vec<(&'static str, i64)>,
    /// Rows that say something else than their pack, which is right.
    pub(super) changes: Vec<RowChange>,
    pub(super) packs: Vec<PackPlan>,
    /// Chunks whose pack has no row.
    pub(super) without_pack: Vec<ChunkRow>,
    pub(super) sources: Vec<Source>,
    pub(super) lost: LostChunks,
    pub(super) nars: Vec<NarPlan>,
    /// NARs that are expected to be whole then.
    pub(super) healed: Vec<NarId>,
    /// NARs with a higher id came later.
    pub(super) last_nar: i64,
    pub(super) paths: Vec<PathPlan>,
    /// Rows that belong to nothing.
    pub(super) stale: u64,
    pub(super) collection_off: Option<String>,
    pub(super) forget_withdrawn: bool,
    pub(super) withdrawn_before: u64,
    /// Objects that are not touched, and why.
    pub(super) skipped: Vec<String>,
    pub(super) read: Reading,
}

impl RepairPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
            && self.changes.is_empty()
            && self.packs.is_empty()
            && self.without_pack.is_empty()
            && self.sources.is_empty()
            && self.lost.retired.is_empty()
            && self.nars.is_empty()
            && self.healed.is_empty()
            && self.paths.is_empty()
            && self.stale == 0
            && self.collection_off.is_none()
            && self.withdrawn_before == 0
    }

    /// Paths that will be out of sight, `CACHE HASH-NAME`.
    #[must_use]
    pub fn withdrawn(&self) -> Vec<&str> {
        let of_nars = self.nars.iter().flat_map(|nar| &nar.paths);
        of_nars.chain(self.paths.iter().map(|path| &path.path)).map(String::as_str).collect()
    }
}

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for skipped in &self.skipped {
            writeln!(f, "not touched: {skipped}")?;
        }
        for (name, next) in &self.counters {
            writeln!(f, "raise the counter `{name}` to {next}")?;
        }
        if !self.changes.is_empty() {
            writeln!(f, "set {} chunk rows right, as their packs have them", self.changes.len())?;
        }
        for source in &self.sources {
            let object = pack_object_key(&source.key);
            let which = if source.pack.is_some() { "" } else { ", which no row names" };
            writeln!(f, "make {} chunk rows from {object}{which}", source.rows)?;
        }
        for pack in &self.packs {
            let object = pack_object_key(&pack.key);
            match (pack.is_gone, &pack.table) {
                (true, _) => writeln!(f, "{object} is gone: retire its {} chunks", pack.faults)?,
                (false, Some(table)) if pack.sound > 0 => {
                    writeln!(
                        f,
                        "{object}: {table}: write its {} sound chunks anew, retire {}",
                        pack.sound, pack.faults
                    )?;
                }
                (false, _) => {
                    writeln!(f, "{object} is damaged: retire {} of its chunks", pack.faults)?;
                }
            }
        }
        if !self.without_pack.is_empty() {
            writeln!(f, "retire {} chunks whose pack has no row", self.without_pack.len())?;
        }
        if !self.lost.retired.is_empty() {
            writeln!(f, "settle {} chunks that were retired before", self.lost.retired.len())?;
        }
        if !self.healed.is_empty() {
            writeln!(f, "see that {} NARs are whole then", self.healed.len())?;
        }
        for nar in &self.nars {
            let hash = nar
                .hash
                .map_or_else(|| format!("with the id {}", nar.nar), |hash| hash.to_string());
            writeln!(f, "withdraw the NAR {hash}: {}", nar.reason)?;
            nar.paths.iter().try_for_each(|path| writeln!(f, "  {path}"))?;
        }
        for PathPlan { path, reason, .. } in &self.paths {
            writeln!(f, "withdraw a path: {reason}\n  {path}")?;
        }
        if self.stale > 0 {
            writeln!(f, "remove {} rows that belong to nothing", self.stale)?;
        }
        if self.withdrawn_before > 0 {
            writeln!(f, "forget {} withdrawn paths", self.withdrawn_before)?;
        }
        if let Some(why) = &self.collection_off {
            writeln!(f, "turn collection and compaction on again: {why}")?;
        }
        match (self.is_empty(), self.withdrawn().len()) {
            (true, _) => write!(f, "There is nothing to repair in what was read. {}", self.read),
            (false, 0) => f.write_str("No path will be out of sight."),
            (false, paths) => {
                write!(
                    f,
                    "{paths} path(s) will be out of sight (404) until they are pushed again; only \
                     what is missing travels then."
                )
            }
        }
    }
}

/// What was done, of all of a repair or of one stage.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RepairReport {
    /// Chunk rows that were made from packs' tables, or set right by them.
    pub rows: u64,
    /// Packs that were named again, or written anew.
    pub packs: u64,
    /// Chunks that were retired.
    pub retired: u64,
    /// NARs that were withdrawn.
    pub nars: u64,
    /// Paths that are out of sight now, `CACHE HASH-NAME`.
    pub paths: Vec<String>,
    /// Rows of retired chunks that went.
    pub settled: u64,
}

impl AddAssign for RepairReport {
    fn add_assign(&mut self, stage: Self) {
        let Self { rows, packs, retired, nars, paths, settled } = stage;
        self.rows += rows;
        self.packs += packs;
        self.retired += retired;
        self.nars += nars;
        self.paths.extend(paths);
        self.settled += settled;
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.paths {
            writeln!(f, "withdrawn: {path}")?;
        }
        write!(
            f,
            "Repaired: {} chunk rows made or set right, {} packs named or written anew, {} chunks \
             retired and {} settled, {} NARs with {} path(s) withdrawn.",
            self.rows,
            self.packs,
            self.retired,
            self.settled,
            self.nars,
            self.paths.len()
        )
    }
}
