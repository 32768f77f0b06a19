//! The results of a check: findings, notes, counts, and how far it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Phase;

/// Something that contradicts an invariant, or that is known to be damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which invariant, as `docs/architecture.md` numbers them.
    pub invariant: String,
    /// The row or object at which it was found.
    pub subject: String,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.invariant, self.subject, self.detail)
    }
}

/// Counts of everything that was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckStats {
    /// Live packs.
    pub packs: u64,
    /// Objects of packs that were claimed, and are yet to be removed.
    pub dead_packs: u64,
    /// Chunk rows.
    pub chunks: u64,
    /// NAR rows.
    pub nars: u64,
    /// Path rows.
    pub paths: u64,
    /// Pack objects that no row names.
    pub unnamed_objects: u64,
    /// Their bytes.
    pub unnamed_bytes: u64,
    /// Packs whose bytes were read.
    pub read_packs: u64,
    /// NARs that were decoded.
    pub decoded_nars: u64,
    /// Stored bytes that were read and verified, and bytes of NARs that were decoded.
    pub read_bytes: u64,
    /// Chunks that are retired.
    pub damaged_chunks: u64,
    /// Paths that are withdrawn.
    pub withdrawn_paths: u64,
    /// Visible paths that refer to one that is withdrawn.
    pub incomplete_closures: u64,
    /// The highest chunk id in any manifest.
    pub highest_named_chunk: u64,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The phase.
    pub phase: Phase,
    /// The last id that was looked at.
    pub after: i64,
}

impl Place {
    /// The beginning.
    pub const START: Self = Self { phase: Phase::Objects, after: 0 };
}

/// Follows a check under way.
pub trait Observer: Send {
    /// Something was found.
    fn found(&mut self, finding: Finding);

    /// Something is worth knowing, and is no fault.
    fn noted(&mut self, note: String);

    /// The check is so far, and can go on from here another time.
    fn reached(&mut self, place: Place, stats: &CheckStats);
}
