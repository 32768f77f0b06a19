//! The record of a push: the outcome of each path is counted, written as a line at once, and shown
//! to people.
//!
//! Invariants:
//!
//! - Each path has one line. Only a path that was present, was lost, and had to be pushed after all
//!   has a second one.
//! - The line is written before anything goes on that depends on it. So a push that is cut off
//!   leaves the receipts of the paths that it pushed.
//! - The exit code is 0 only when every path is in the cache, upstream, or left out by a filter.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use snowbank_core::hash::NarHash;
use snowbank_core::pin_name::PinName;
use snowbank_core::receipt::{Receipt, ReceiptLine, ReceiptStatus, UpstreamReason};
use snowbank_core::units::Bytes;
use snowbank_core::wire::PinnedGeneration;

use super::PushError;
use super::plan::Plan;
use super::summary::Summary;
use super::target::Target;
use crate::exit::Exit;
use crate::progress::Progress;

/// Where the ledger goes.
#[derive(Debug, Clone, Default)]
pub struct LedgerOptions {
    /// A file for receipts; its contents are replaced.
    pub receipts: Option<PathBuf>,
    /// Whether receipts and the summary go to standard output as JSON lines.
    pub json: bool,
    /// Whether people see a line for each path, not only for each that failed.
    pub verbose: bool,
    /// Whether people see nothing at all: the caller reports the outcomes itself.
    pub mute: bool,
}

/// The outcome of one path of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathOutcome {
    /// The path is in the cache or upstream.
    Cached,
    /// A filter leaves the path out.
    LeftOut {
        /// Why.
        reason: String,
    },
    /// The path is in neither.
    Failed {
        /// Why.
        reason: String,
        /// The exit code of this failure.
        exit: Exit,
    },
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
    /// The path of [`Ledger::watch`], and whether it has a receipt.
    watched: Option<(String, bool)>,
    /// The paths of [`Ledger::follow`], with their outcomes as far as they are known.
    followed: HashMap<String, Option<PathOutcome>>,
    /// Counts; the pipeline adds the chunks that it sends.
    pub(super) summary: Summary,
}

impl Ledger {
    /// An empty ledger; its file is created. A warning says so when the file was not empty.
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
            followed: HashMap::new(),
            summary: Summary::default(),
        })
    }

    /// The push begins: the cache has answered.
    pub(super) const fn begin(&mut self) {
        self.has_begun = true;
    }

    /// Whether the push has begun, so that there is something to sum up.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Records an argument that names no path to push.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn record_refused(&mut self, argument: String, reason: String) -> Result<(), PushError> {
        self.say(&format!("error: {argument:?} names no store path: {reason}"));
        self.record_stopped(argument, reason, Exit::Store)
    }

    /// Counts build logs that were sent.
    pub(super) const fn record_logs(&mut self, logs: u64) {
        self.summary.logs += logs;
    }

    /// Counts the paths that the cache has without a signature that they have here.
    pub(super) const fn record_late_signatures(&mut self, paths: usize) {
        self.summary.late_signatures = paths as u64;
    }

    /// Remembers whether this path gets a receipt.
    pub(super) fn watch(&mut self, store_path: &str) {
        self.watched = Some((store_path.to_owned(), false));
    }

    /// Whether the path of [`Ledger::watch`] got a receipt.
    pub(super) fn has_watched_receipt(&self) -> bool {
        matches!(self.watched, Some((_, true)))
    }

    /// Remembers the outcome of each of these paths, for [`Ledger::outcome`].
    pub fn follow(&mut self, store_paths: impl IntoIterator<Item = String>) {
        self.followed.extend(store_paths.into_iter().map(|store_path| (store_path, None)));
    }

    /// The outcome of a path of [`Ledger::follow`]. `None` for one that the push did not get to
    /// before it stopped.
    #[must_use]
    pub fn outcome(&self, store_path: &str) -> Option<&PathOutcome> {
        self.followed.get(store_path)?.as_ref()
    }

    fn set_outcome(&mut self, store_path: &str, outcome: Option<PathOutcome>) {
        if let Some(followed) = self.followed.get_mut(store_path) {
            *followed = outcome;
        }
    }

    fn say(&self, line: &str) {
        if !self.options.mute {
            self.progress.say(line);
        }
    }

    /// Begins another round, for the paths `left` that have no line yet. All others have one.
    pub(super) fn start_round(&mut self, left: HashSet<String>) {
        self.left = Some(left);
    }

    /// Whether the path has a line from an earlier round.
    fn has_line(&self, store_path: &str) -> bool {
        self.left.as_ref().is_some_and(|left| !left.contains(store_path))
    }

    /// Records the receipt of a path that the cache has.
    pub(super) fn record_receipt(&mut self, receipt: Receipt) -> Result<(), PushError> {
        let has_line = self.has_line(&receipt.store_path);
        match receipt.status {
            ReceiptStatus::Present if has_line => return Ok(()),
            ReceiptStatus::Uploaded => {
                self.summary.uploaded += 1;
                self.summary.nar_bytes += receipt.nar_size;
                self.uncount_present(has_line);
            }
            ReceiptStatus::Present => self.summary.present += 1,
        }
        if let Some((watched, is_there)) = &mut self.watched {
            *is_there |= *watched == receipt.store_path;
        }
        self.set_outcome(&receipt.store_path, Some(PathOutcome::Cached));
        if self.options.verbose {
            let stats = receipt
                .stats
                .map_or_else(String::new, |stats| format!(", {} sent", Bytes(stats.bytes_sent)));
            let Receipt { status, store_path, nar_size, .. } = &receipt;
            self.say(&format!("{status}: {store_path} ({}{stats})", Bytes(*nar_size)));
        }
        self.line(&ReceiptLine::Receipt(receipt))
    }

    /// A path that counted as present, and was lost, counts as its new outcome alone.
    fn uncount_present(&mut self, has_line: bool) {
        self.summary.present = self.summary.present.saturating_sub(u64::from(has_line));
    }

    /// Records the pin that was made.
    pub(super) fn record_pin(&mut self, pinned: PinnedGeneration) {
        self.summary.pin = Some(pinned);
    }

    /// Shows that a pin was not made because its path was not pushed.
    pub(super) fn report_not_pinned(&self, name: &PinName) {
        self.say(&format!("error: `{name}` was not pinned, since its path was not pushed"));
    }

    /// Records a path that the cache has with other contents.
    pub(super) fn record_different(
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
        let reason = format!(
            "the cache has it with other contents ({theirs}, here {nar_hash}); the first stays"
        );
        self.say(&format!("error: {store_path}: {reason}"));
        self.set_outcome(&store_path, Some(PathOutcome::Failed { reason, exit: Exit::Different }));
        self.line(&ReceiptLine::Different { store_path, nar_hash, cache_nar_hash })
    }

    /// Records a path that is left to upstream.
    pub(super) fn record_skipped(
        &mut self,
        store_path: String,
        nar_hash: NarHash,
        reason: UpstreamReason,
    ) -> Result<(), PushError> {
        if self.has_line(&store_path) {
            return Ok(());
        }
        self.summary.skipped += 1;
        self.set_outcome(&store_path, Some(PathOutcome::Cached));
        if self.options.verbose {
            self.say(&format!("skipped: {store_path} ({reason})"));
        }
        self.line(&ReceiptLine::SkippedUpstream { store_path, nar_hash, reason })
    }

    /// Records a path that a filter leaves out.
    pub(super) fn record_left_out(
        &mut self,
        store_path: String,
        nar_hash: NarHash,
        reason: String,
    ) -> Result<(), PushError> {
        self.set_outcome(&store_path, Some(PathOutcome::LeftOut { reason: reason.clone() }));
        if self.has_line(&store_path) {
            return Ok(());
        }
        self.summary.left_out += 1;
        if self.options.verbose {
            self.say(&format!("left out: {store_path} ({reason})"));
        }
        self.line(&ReceiptLine::LeftOut { store_path, nar_hash, reason })
    }

    /// Records a path that was not pushed, and shows the reason.
    pub(super) fn record_failed(
        &mut self,
        store_path: String,
        reason: String,
        exit: Exit,
    ) -> Result<(), PushError> {
        self.say(&format!("error: {store_path}: {reason}"));
        let failed = PathOutcome::Failed { reason: reason.clone(), exit };
        let followed = self.followed.contains_key(&store_path).then(|| store_path.clone());
        self.record_stopped(store_path, reason, exit)?;
        if let Some(store_path) = followed {
            self.set_outcome(&store_path, Some(failed));
        }
        Ok(())
    }

    /// Records a path that was not pushed, for a reason that is shown elsewhere.
    pub(super) fn record_stopped(
        &mut self,
        store_path: String,
        reason: String,
        exit: Exit,
    ) -> Result<(), PushError> {
        self.uncount_present(self.has_line(&store_path));
        self.summary.failed += 1;
        self.exit = self.exit.worse(exit);
        self.set_outcome(&store_path, None);
        self.line(&ReceiptLine::Failed { store_path, reason })
    }

    /// Prints and counts the paths that a push would push: for a dry run.
    pub(super) fn print_plan(&mut self, plan: &Plan, target: &Target) -> Result<(), PushError> {
        for path in &plan.paths {
            self.summary.missing += 1;
            let store_path = target.full(&path.info.path);
            let line = if self.options.json {
                let (nar_hash, nar_size) = (path.info.nar_hash, path.info.nar_size);
                serde_json::json!({
                    "status": "missing",
                    "store_path": store_path,
                    "nar_hash": nar_hash,
                    "nar_size": nar_size,
                })
                .to_string()
            } else {
                store_path
            };
            print(&line)?;
        }
        Ok(())
    }

    /// The exit code of the whole push.
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
            // One write without a buffer: the line is in the file, even if the process ends next.
            let failed = |source| PushError::Receipts { path: path.clone(), source };
            file.write_all(text.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

fn print(line: &str) -> Result<(), PushError> {
    writeln!(io::stdout().lock(), "{line}").map_err(PushError::Output)
}

/// A signal drops the push where it stands. Its summary is shown, and nothing depends on that.
impl Drop for Ledger {
    fn drop(&mut self) {
        if !self.finished {
            self.progress.end();
            self.say(&if self.has_begun {
                format!("stopped early: {}; push again for the rest", self.summary())
            } else {
                "stopped before anything was pushed".to_owned()
            });
        }
    }
}
