//! What came of each path: counted, written as receipts at once, told to people.
//!
//! Invariants: a path has one line, written to the file before anything that depends on it goes on,
//! so that a push that is cut off leaves the receipts of what it did; the code to exit with is 0
//! only when every path is in the cache or is upstream's. Only a path that was present and had to
//! be pushed after all, since it was gone again, has a second line.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use snowbank_core::hash::NarHash;
use snowbank_core::pin_name::PinName;
use snowbank_core::receipt::{Receipt, ReceiptLine, ReceiptStatus, UpstreamReason};
use snowbank_core::units::Bytes;
use snowbank_core::wire::Pinned;

use super::PushError;
use super::plan::{Plan, Target};
use crate::exit::Exit;
use crate::progress::Progress;

/// Where the ledger goes.
#[derive(Debug, Clone, Default)]
pub struct LedgerOptions {
    /// A file for receipts; what is in it is replaced.
    pub receipts: Option<PathBuf>,
    /// Whether receipts and the summary go to standard output as JSON lines.
    pub json: bool,
    /// Whether people are told of each path, not only of those that failed.
    pub verbose: bool,
}

/// What came of a push, as numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Paths that this push made visible.
    pub uploaded: u64,
    /// Paths that the cache had.
    pub present: u64,
    /// Paths left to upstream.
    pub skipped: u64,
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

/// The record of one push.
#[derive(Debug)]
pub struct Ledger {
    options: LedgerOptions,
    file: Option<File>,
    progress: Arc<Progress>,
    started: Instant,
    exit: Exit,
    /// The cache has answered, so that paths may have been pushed.
    has_begun: bool,
    finished: bool,
    /// The paths that have no line yet, in a round after the first.
    left: Option<HashSet<String>>,
    /// A path that is looked out for, and whether the cache has it.
    watched: Option<(String, bool)>,
    /// Counts; the pipeline adds what it sends.
    pub(super) summary: Summary,
}

impl Ledger {
    /// An empty ledger; its file is created. A file that held something is replaced, and that is
    /// said.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn open(options: LedgerOptions, progress: &Arc<Progress>) -> Result<Self, PushError> {
        if let Some(path) = &options.receipts
            && let Ok(metadata) = path.metadata()
            && metadata.is_file()
            && metadata.len() > 0
        {
            tracing::warn!(
                "{} is replaced; it held {} of receipts",
                path.display(),
                Bytes(metadata.len())
            );
        }
        let create = |path: &PathBuf| {
            File::create(path).map_err(|source| PushError::Receipts { path: path.clone(), source })
        };
        let file = options.receipts.as_ref().map(create).transpose()?;
        Ok(Self {
            options,
            file,
            progress: Arc::clone(progress),
            started: Instant::now(),
            exit: Exit::Success,
            has_begun: false,
            finished: false,
            left: None,
            watched: None,
            summary: Summary::default(),
        })
    }

    /// The push begins: the cache has answered.
    pub(super) const fn begin(&mut self) {
        self.has_begun = true;
    }

    /// Whether anything was tried, so that there is something to sum up.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// An argument names no path that could be pushed.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn refused(&mut self, argument: String, reason: String) -> Result<(), PushError> {
        self.progress.say(&format!("error: {argument:?} names no store path: {reason}"));
        self.given_up(argument, reason, Exit::Store)
    }

    /// The cache has so many paths without a signature that they have here.
    pub(super) const fn late_signatures(&mut self, paths: usize) {
        self.summary.late_signatures = paths as u64;
    }

    /// Looks out for the receipt of a path.
    pub(super) fn watch(&mut self, store_path: &str) {
        self.watched = Some((store_path.to_owned(), false));
    }

    /// Whether there was a receipt of the path that is looked out for.
    pub(super) fn watched_is_there(&self) -> bool {
        matches!(self.watched, Some((_, true)))
    }

    /// Another round begins for paths that have no line yet. Whatever else comes up in it has one.
    pub(super) fn go_on(&mut self, left: HashSet<String>) {
        self.left = Some(left);
    }

    /// Whether the path has a line from an earlier round.
    fn has_line(&self, store_path: &str) -> bool {
        self.left.as_ref().is_some_and(|left| !left.contains(store_path))
    }

    /// The cache has a path, as its receipt says.
    pub(super) fn receipt(&mut self, receipt: Receipt) -> Result<(), PushError> {
        let has_line = self.has_line(&receipt.store_path);
        match receipt.status {
            ReceiptStatus::Present if has_line => return Ok(()),
            ReceiptStatus::Uploaded => {
                self.summary.uploaded += 1;
                self.summary.nar_bytes += receipt.nar_size;
                self.was_present(has_line);
            }
            ReceiptStatus::Present => self.summary.present += 1,
        }
        if let Some((watched, is_there)) = &mut self.watched {
            *is_there |= *watched == receipt.store_path;
        }
        if self.options.verbose {
            let stats = receipt
                .stats
                .map_or_else(String::new, |stats| format!(", {} sent", Bytes(stats.bytes_sent)));
            let Receipt { status, store_path, nar_size, .. } = &receipt;
            self.progress.say(&format!("{status}: {store_path} ({}{stats})", Bytes(*nar_size)));
        }
        self.line(&ReceiptLine::Receipt(receipt))
    }

    /// What counted as present, and was gone again, counts as what becomes of it now.
    fn was_present(&mut self, has_line: bool) {
        self.summary.present = self.summary.present.saturating_sub(u64::from(has_line));
    }

    /// A pin was made.
    pub(super) fn pinned(&mut self, pinned: Pinned) {
        self.summary.pin = Some(pinned);
    }

    /// A pin was not made, since its path was not pushed.
    pub(super) fn not_pinned(&self, name: &PinName) {
        self.progress
            .say(&format!("error: `{name}` was not pinned, since its path was not pushed"));
    }

    /// The cache has a path with other contents.
    pub(super) fn different(
        &mut self,
        store_path: String,
        nar_hash: NarHash,
        cache_nar_hash: Option<NarHash>,
    ) -> Result<(), PushError> {
        if self.has_line(&store_path) {
            return Ok(());
        }
        self.summary.different += 1;
        self.exit = self.exit.worse(Exit::Different);
        let theirs =
            cache_nar_hash.map_or_else(|| "another NAR hash".to_owned(), |hash| hash.to_string());
        self.progress.say(&format!(
            "error: {store_path}: the cache has it with other contents ({theirs}, here \
             {nar_hash}); the first stays"
        ));
        self.line(&ReceiptLine::Different { store_path, nar_hash, cache_nar_hash })
    }

    /// A path is left to upstream.
    pub(super) fn skipped(
        &mut self,
        store_path: String,
        nar_hash: NarHash,
        reason: UpstreamReason,
    ) -> Result<(), PushError> {
        if self.has_line(&store_path) {
            return Ok(());
        }
        self.summary.skipped += 1;
        if self.options.verbose {
            self.progress.say(&format!("skipped: {store_path} ({reason})"));
        }
        self.line(&ReceiptLine::SkippedUpstream { store_path, nar_hash, reason })
    }

    /// A path was not pushed; people are told.
    pub(super) fn failed(
        &mut self,
        store_path: String,
        reason: String,
        exit: Exit,
    ) -> Result<(), PushError> {
        self.progress.say(&format!("error: {store_path}: {reason}"));
        self.given_up(store_path, reason, exit)
    }

    /// A path was not pushed, for a reason that people are told of elsewhere.
    pub(super) fn given_up(
        &mut self,
        store_path: String,
        reason: String,
        exit: Exit,
    ) -> Result<(), PushError> {
        self.was_present(self.has_line(&store_path));
        self.summary.failed += 1;
        self.exit = self.exit.worse(exit);
        self.line(&ReceiptLine::Failed { store_path, reason })
    }

    /// What a push would do, and this one does not.
    pub(super) fn would_push(&mut self, plan: &Plan, target: &Target) -> Result<(), PushError> {
        for path in &plan.paths {
            self.summary.missing += 1;
            let store_path = target.full(&path.info.path);
            let line = if self.options.json {
                let (nar_hash, nar_size) = (path.info.nar_hash, path.info.nar_size);
                serde_json::json!({
                    "status": "missing", "store_path": store_path, "nar_hash": nar_hash, "nar_size": nar_size,
                })
                .to_string()
            } else {
                store_path
            };
            print(&line)?;
        }
        Ok(())
    }

    /// The code that what came of the paths amounts to.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The numbers so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Summary { elapsed_ms, ..self.summary.clone() }
    }

    /// Prints the summary as JSON, if JSON is wanted and anything was tried.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn finish(&mut self) -> Result<(), PushError> {
        self.finished = true;
        if self.options.json && self.has_begun {
            let line = serde_json::json!({ "summary": self.summary() }).to_string();
            print(&line)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &ReceiptLine) -> Result<(), PushError> {
        if self.file.is_none() && !self.options.json {
            return Ok(());
        }
        let mut text =
            serde_json::to_string(line).map_err(|error| PushError::Internal(error.to_string()))?;
        if self.options.json {
            print(&text)?;
        }
        if let (Some(file), Some(path)) = (&mut self.file, &self.options.receipts) {
            text.push('\n');
            // One write without a buffer: the line is there, whatever happens next.
            let failed = |source| PushError::Receipts { path: path.clone(), source };
            file.write_all(text.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

fn print(line: &str) -> Result<(), PushError> {
    writeln!(io::stdout().lock(), "{line}").map_err(PushError::Output)
}

/// A push that a signal ends is dropped where it stands; what it did is told, and nothing depends
/// on that.
impl Drop for Ledger {
    fn drop(&mut self) {
        if !self.finished {
            self.progress.end();
            self.progress.say(&if self.has_begun {
                format!("stopped early: {}; push again for the rest", self.summary())
            } else {
                "stopped before anything was pushed".to_owned()
            });
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            uploaded,
            present,
            skipped,
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
        for (count, word) in
            [(skipped, "left to upstream"), (different, "different"), (failed, "failed")]
        {
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
