//! Each stage in turn stops: its reports are held back until nothing else moves. The other stages
//! have to stay within their bounds meanwhile, and the push has to come to its end afterwards.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

use super::super::limits::PipelineLimits;
use super::super::{Event, Pipeline};
use super::fake::{FakeServer, Faults};
use super::runner::Runner;
use super::tree::Tree;
use crate::push::PushError;
use crate::push::bundle_builders::BundleLimits;
use crate::store::PathInfo;

/// Nothing moves where no report comes for so long.
const QUIET: Duration = Duration::from_millis(500);
/// A push that takes longer has stalled.
const MAX_PUSH: Duration = Duration::from_mins(2);
/// Most bytes of a chunk here. A cut moves to the end of a slot.
const MAX_CHUNK_BYTES: usize = (64 << 10) + 32;

/// The reports of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Readers cut chunks that do not arrive.
    Cut,
    /// Readers do not end.
    Read,
    Ask,
    Encode,
    Send,
    Commit,
}

impl Stop {
    const fn holds(self, event: &Event) -> bool {
        let stage = match event {
            Event::Chunk(_) => Self::Cut,
            Event::Read { .. } | Event::Examined { .. } => Self::Read,
            Event::Asked { .. } => Self::Ask,
            Event::EncodedChunk { .. } => Self::Encode,
            Event::Sent { .. } => Self::Send,
            Event::Line { .. } | Event::Committed(_) => Self::Commit,
        };
        stage as u8 == self as u8
    }
}

/// A budget that is full long before everything is read, and room for a few open paths. As with the
/// real limits, a window and the open bundles leave room for a chunk.
fn tight(limits: PipelineLimits) -> PipelineLimits {
    PipelineLimits {
        budget_bytes: 2 << 20,
        open_weight: 48_000,
        window_bytes: 256 << 10,
        window_names: 8,
        first_window_bytes: 64 << 10,
        bundle: BundleLimits { bytes: 512 << 10, ..limits.bundle },
        ..limits
    }
}

/// Small paths, larger ones, and two that are larger than the budget and fill bundles of their own.
fn tree() -> (Tree, Vec<PathInfo>) {
    let (mut tree, mut infos) = (Tree::new(), Vec::<PathInfo>::new());
    for number in 0..24_usize {
        let bytes = match number {
            0 | 1 => 9 << 20,
            6 | 12 | 18 => 1 << 20,
            _ => 3000 * number,
        };
        let references: Vec<PathInfo> = infos.iter().rev().step_by(5).take(2).cloned().collect();
        let references: Vec<&PathInfo> = references.iter().collect();
        infos.push(tree.add(&format!("p-{number}"), &references, bytes));
    }
    (tree, infos)
}

/// Runs the pipeline and stops one stage until nothing moves, again and again. Gives the number of
/// stops.
async fn run_with_stops(
    pipeline: &mut Pipeline<'_>,
    reports: &mut UnboundedReceiver<Event>,
    stop: Stop,
    budget_bytes: usize,
) -> Result<usize, PushError> {
    let (deadline, mut stops) = (Instant::now() + MAX_PUSH, 0);
    let mut held = Vec::new();
    while pipeline.paths.unfinished() > 0 {
        pipeline.start_tasks();
        assert_bounded(pipeline, budget_bytes);
        match timeout(QUIET, reports.recv()).await {
            // The first stops show the most; after them, the push goes on to its end.
            Ok(Some(event)) if stops < 3 && (stop.holds(&event) || ends_path_of(&event, &held)) => {
                held.push(event);
            }
            Ok(Some(event)) => pipeline.route(event)?,
            Ok(None) => unreachable!("the pipeline keeps the channel"),
            Err(_) if !held.is_empty() => {
                stops += 1;
                for event in held.drain(..) {
                    pipeline.route(event)?;
                    pipeline.start_tasks();
                    assert_bounded(pipeline, budget_bytes);
                }
            }
            Err(_) => assert!(Instant::now() < deadline, "{stop:?}: nothing moves"),
        }
    }
    Ok(stops)
}

/// Whether this is the end of a path some of whose chunks are held back. A reader reports it after
/// them.
fn ends_path_of(event: &Event, held: &[Event]) -> bool {
    let Event::Read { path: ended, .. } = event else { return false };
    held.iter().any(|held| matches!(held, Event::Chunk(chunk) if chunk.path == *ended))
}

#[track_caller]
fn assert_bounded(pipeline: &Pipeline<'_>, budget_bytes: usize) {
    let Pipeline { read, ask, encode, send, commit, .. } = pipeline;
    read.assert_bounded();
    ask.assert_bounded();
    encode.assert_bounded();
    send.assert_bounded(MAX_CHUNK_BYTES);
    commit.assert_bounded();
    let queued_bytes = ask.queued_bytes() + encode.queued_bytes() + send.queued_bytes();
    let used_bytes = budget_bytes - read.budget().free();
    assert!(queued_bytes <= used_bytes, "{queued_bytes} bytes with permits for {used_bytes}");
}

async fn push_with_stops(stop: Stop) {
    let faults = Faults { cut: Some((4 << 10, 16 << 10, 64 << 10)), ..Faults::default() };
    let (server, (tree, infos)) = (FakeServer::start(faults).await, tree());
    let runner = Runner::new(&server, &tree, tight).await;
    let budget_bytes = runner.limits.budget_bytes as usize;
    let mut stops = 0;
    let run = async |pipeline: &mut Pipeline<'_>, reports: &mut UnboundedReceiver<Event>| {
        stops += run_with_stops(pipeline, reports, stop, budget_bytes).await?;
        Ok(())
    };
    let outcome = runner.push(infos.clone(), None, run).await.success();
    assert_eq!((outcome.uploaded().len(), outcome.unreleased_bytes), (infos.len(), 0));
    assert!(stops > 0, "{stop:?} was never held back");
    server.assert_holds(&infos, &tree);
}

#[tokio::test]
async fn a_push_goes_on_after_readers_that_hand_nothing_over() {
    push_with_stops(Stop::Cut).await;
}

#[tokio::test]
async fn a_push_goes_on_after_readers_that_do_not_end() {
    push_with_stops(Stop::Read).await;
}

#[tokio::test]
async fn a_push_goes_on_after_questions_without_an_answer() {
    push_with_stops(Stop::Ask).await;
}

#[tokio::test]
async fn a_push_goes_on_after_encoders_that_do_not_end() {
    push_with_stops(Stop::Encode).await;
}

#[tokio::test]
async fn a_push_goes_on_after_bundles_without_an_answer() {
    push_with_stops(Stop::Send).await;
}

#[tokio::test]
async fn a_push_goes_on_after_commits_without_an_answer() {
    push_with_stops(Stop::Commit).await;
}
