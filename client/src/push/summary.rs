//! The numbers of a push: for people in one line, for programs in JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use snowbank_core::units::Bytes;
use snowbank_core::wire::Pinned;

/// The result of a push in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Paths that this push made visible.
    pub uploaded: u64,
    /// Paths that the cache had.
    pub present: u64,
    /// Paths left to upstream.
    pub skipped: u64,
    /// Paths left out by filters.
    pub left_out: u64,
    /// Paths that the cache has with other contents.
    pub different: u64,
    /// Paths that were not pushed.
    pub failed: u64,
    /// Paths that a dry run found missing.
    pub missing: u64,
    /// Bytes of NAR of the uploaded paths.
    pub nar_bytes: u64,
    /// Bytes of NAR that the cache did not have.
    pub new_bytes: u64,
    /// Chunks that were sent.
    pub chunks_sent: u64,
    /// Bytes of bundles that were sent.
    pub sent_bytes: u64,
    /// Paths that the cache has without a signature that they have here.
    #[serde(skip_serializing_if = "is_zero")]
    pub late_signatures: u64,
    /// Time since the push began.
    pub elapsed_ms: u64,
    /// The pin that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pinned>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form of a predicate")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            uploaded,
            present,
            skipped,
            left_out,
            different,
            failed,
            missing,
            nar_bytes,
            new_bytes,
            ..
        } = self;
        if *missing > 0 {
            write!(f, "{missing} missing, ")?;
        }
        write!(f, "{uploaded} uploaded, {present} present")?;
        for (count, word) in [
            (skipped, "left to upstream"),
            (left_out, "left out by filters"),
            (different, "different"),
            (failed, "failed"),
        ] {
            if *count > 0 {
                write!(f, ", {count} {word}")?;
            }
        }
        if *uploaded > 0 {
            let saved =
                nar_bytes.saturating_sub(*new_bytes).saturating_mul(100).checked_div(*nar_bytes);
            let (nar, new, sent) = (Bytes(*nar_bytes), Bytes(*new_bytes), Bytes(self.sent_bytes));
            write!(
                f,
                "; {nar} of NARs, {new} of it new ({}% deduplicated), {sent} sent",
                saved.unwrap_or(0)
            )?;
        }
        if self.late_signatures > 0 {
            write!(f, "; {} without their later signatures", self.late_signatures)?;
        }
        if let Some(Pinned { name, generation }) = &self.pin {
            write!(f, "; pinned as {name}, generation {generation}")?;
        }
        write!(f, "; {:.1} s", Duration::from_millis(self.elapsed_ms).as_secs_f32())
    }
}
