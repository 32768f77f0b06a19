//! The numbers of a push: for people in one line, for programs in JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use snowbank_core::units::Bytes;
use snowbank_core::wire::PinnedGeneration;

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
    /// Build logs that were sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub logs: u64,
    /// Paths that the cache has without a signature that they have here.
    #[serde(skip_serializing_if = "is_zero")]
    pub late_signatures: u64,
    /// Time since the push began.
    pub elapsed_ms: u64,
    /// The pin that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<PinnedGeneration>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form of a predicate")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Summary {
    /// The numbers one by one, with their names, for a table. Zeros that mean nothing are left out.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("uploaded", self.uploaded.to_string())];
        for (name, count) in [
            ("missing", self.missing),
            ("already present", self.present),
            ("left to upstream", self.skipped),
            ("left out by filters", self.left_out),
            ("different contents", self.different),
            ("failed", self.failed),
        ] {
            if count > 0 {
                rows.push((name, count.to_string()));
            }
        }
        if self.uploaded > 0 {
            rows.push(("size of the NARs", Bytes(self.nar_bytes).to_string()));
            rows.push(("new to the cache", Bytes(self.new_bytes).to_string()));
            rows.push(("deduplicated", format!("{} %", self.deduplicated_percent())));
            rows.push(("sent", Bytes(self.sent_bytes).to_string()));
        }
        if self.logs > 0 {
            rows.push(("build logs", self.logs.to_string()));
        }
        if let Some(PinnedGeneration { name, generation }) = &self.pin {
            rows.push(("pin", format!("{name}, generation {generation}")));
        }
        rows.push(("time", format!("{:.1} s", self.elapsed().as_secs_f32())));
        rows
    }

    const fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms)
    }

    /// The share of the uploaded NARs that the cache had.
    fn deduplicated_percent(&self) -> u64 {
        let saved = self.nar_bytes.saturating_sub(self.new_bytes).saturating_mul(100);
        saved.checked_div(self.nar_bytes).unwrap_or(0)
    }
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
            let saved = self.deduplicated_percent();
            let (nar, new, sent) = (Bytes(*nar_bytes), Bytes(*new_bytes), Bytes(self.sent_bytes));
            write!(f, "; {nar} of NARs, {new} of it new ({saved}% deduplicated), {sent} sent")?;
        }
        if self.late_signatures > 0 {
            write!(f, "; {} without their later signatures", self.late_signatures)?;
        }
        if let Some(PinnedGeneration { name, generation }) = &self.pin {
            write!(f, "; pinned as {name}, generation {generation}")?;
        }
        write!(f, "; {:.1} s", self.elapsed().as_secs_f32())
    }
}
