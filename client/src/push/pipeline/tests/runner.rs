//! A whole push of a tree to the fake server, and its result.

use std::collections::HashSet;
use std::sync::Arc;

use snowbank_core::receipt::{ReceiptLine, ReceiptStatus};
use snowbank_core::store_path::StoreDir;
use snowbank_core::wire::{PinnedGeneration, PushPin};
use tokio::sync::mpsc::UnboundedReceiver;

use super::super::limits::PipelineLimits;
use super::super::{Context, Event, Pipeline, PipelineOptions, PipelineOutcome};
use super::fake::FakeServer;
use super::tree::{self, Tree};
use crate::exit::Exit;
use crate::progress::{Progress, Style};
use crate::push::plan::Plan;
use crate::push::target::Target;
use crate::push::test_support::PUSH_OPTIONS;
use crate::push::{Ledger, LedgerOptions, MAX_ROUNDS, PushError, Summary, missing, selection};
use crate::store::PathInfo;

/// The result of a push.
pub(super) struct Outcome {
    pub(super) result: Result<(), PushError>,
    pub(super) lines: Vec<ReceiptLine>,
    pub(super) exit: Exit,
    pub(super) summary: Summary,
    /// Bytes of the budget that were not given back.
    pub(super) unreleased_bytes: usize,
    pub(super) pinned: Option<PinnedGeneration>,
}

impl Outcome {
    #[track_caller]
    pub(super) fn success(self) -> Self {
        assert!(
            self.result.is_ok() && self.exit == Exit::Success,
            "{:?} {:?} {:?}",
            self.result,
            self.exit,
            self.lines
        );
        self
    }

    pub(super) fn uploaded(&self) -> Vec<&str> {
        let uploaded = |line: &&ReceiptLine| has_status(line, ReceiptStatus::Uploaded);
        self.lines.iter().filter(uploaded).map(ReceiptLine::store_path).collect()
    }

    pub(super) fn failed(&self) -> Vec<(&str, &str)> {
        let mut failed = Vec::new();
        for line in &self.lines {
            if let ReceiptLine::Failed { store_path, reason } = line {
                failed.push((store_path.as_str(), reason.as_str()));
            }
        }
        failed
    }
}

fn has_status(line: &ReceiptLine, status: ReceiptStatus) -> bool {
    matches!(line, ReceiptLine::Receipt(receipt) if receipt.status == status)
}

pub(super) async fn push(server: &FakeServer, infos: Vec<PathInfo>, tree: &Tree) -> Outcome {
    push_with_limits(server, infos, tree, |limits| limits).await
}

pub(super) async fn push_with_limits(
    server: &FakeServer,
    infos: Vec<PathInfo>,
    tree: &Tree,
    change: impl FnOnce(PipelineLimits) -> PipelineLimits,
) -> Outcome {
    Runner::new(server, tree, change).await.push(infos, None, run).await
}

pub(super) async fn push_pinned(
    server: &FakeServer,
    infos: Vec<PathInfo>,
    tree: &Tree,
    pin: PushPin,
) -> Outcome {
    let runner = Runner::new(server, tree, |limits| limits).await;
    runner.push(infos, Some(pin), run).await
}

/// Runs a pipeline as `push` does.
async fn run(
    pipeline: &mut Pipeline<'_>,
    reports: &mut UnboundedReceiver<Event>,
) -> Result<(), PushError> {
    pipeline.run(reports).await
}

/// The parts of a push to the fake server.
pub(super) struct Runner<'t> {
    server: &'t FakeServer,
    tree: &'t Tree,
    target: Target,
    pub(super) limits: PipelineLimits,
}

impl<'t> Runner<'t> {
    pub(super) async fn new(
        server: &'t FakeServer,
        tree: &'t Tree,
        change: impl FnOnce(PipelineLimits) -> PipelineLimits,
    ) -> Self {
        let cache = server.api().cache_info().await.unwrap();
        let target = Target::new(cache, &StoreDir::default()).unwrap();
        let limits = change(PipelineLimits::for_cache(&target.cache));
        Self { server, tree, target, limits }
    }

    /// Pushes as `push` does, except that every round asks about all paths. `run` drives each
    /// pipeline to its end.
    pub(super) async fn push(
        &self,
        infos: Vec<PathInfo>,
        pin: Option<PushPin>,
        mut run: impl AsyncFnMut(
            &mut Pipeline<'_>,
            &mut UnboundedReceiver<Event>,
        ) -> Result<(), PushError>,
    ) -> Outcome {
        let (api, target) = (self.server.api(), &self.target);
        let progress = Arc::new(Progress::new(Style::Silent));
        let file = tempfile::NamedTempFile::new().unwrap();
        let receipts = Some(file.path().to_owned());
        let options = LedgerOptions { receipts, ..LedgerOptions::default() };
        let mut ledger = Ledger::open(options, &progress).unwrap();
        let (mut result, mut unreleased_bytes, mut pinned) = (Ok(()), 0, None);
        for round in 1..=MAX_ROUNDS {
            let selected =
                selection::select(infos.clone(), &[], &PUSH_OPTIONS, target, &mut ledger).unwrap();
            let answers =
                missing::ask(&api, selected, &PUSH_OPTIONS, target, &mut ledger).await.unwrap();
            let plan = Plan::new(answers.missing, |path| self.tree.root(path));
            let context = Context {
                api: &api,
                store: None,
                target,
                plan: &plan,
                ledger: &mut ledger,
                progress: &progress,
            };
            let options = PipelineOptions {
                jobs: PUSH_OPTIONS.jobs,
                expires: None,
                pin: pin.clone(),
                postpones: round < MAX_ROUNDS,
            };
            let (mut pipeline, mut reports) = Pipeline::new(context, &options, &self.limits);
            result = run(&mut pipeline, &mut reports).await;
            if let Err(error) = &result
                && let Err(worse) = pipeline.wind_down(error, &mut reports).await
            {
                result = Err(worse);
            }
            assert_eq!(pipeline.paths.unfinished(), 0);
            let budget = pipeline.read.budget();
            pipeline.tasks.shutdown().await;
            let PipelineOutcome { pinned: made, postponed } = std::mem::take(&mut pipeline.outcome);
            drop((pipeline, reports));
            unreleased_bytes += self.limits.budget_bytes as usize - budget.free();
            pinned = pinned.or(made);
            if postponed.is_empty() {
                break;
            }
            ledger.start_round(postponed.iter().map(tree::full).collect());
        }
        let text = std::fs::read_to_string(file.path()).unwrap();
        let lines: Vec<ReceiptLine> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_one_line_for_each_path(&lines);
        let (exit, summary) = (ledger.exit(), ledger.summary());
        Outcome { result, lines, exit, summary, unreleased_bytes, pinned }
    }
}

#[track_caller]
fn assert_one_line_for_each_path(lines: &[ReceiptLine]) {
    let mut seen: HashSet<&str> = HashSet::new();
    for line in lines.iter().rev() {
        assert!(
            seen.insert(line.store_path()) || has_status(line, ReceiptStatus::Present),
            "each path has one line, or was there before: {line:?}"
        );
    }
}
