//! Committing one batch of paths, as often as it takes to get an answer for each.
//!
//! Answers from before a connection broke stand, and only the other paths are sent again. A path
//! that was committed by an attempt whose answer was lost comes back as present, with its receipt.

use std::collections::HashMap;

use snowbank_core::units::Seconds;
use snowbank_core::wire::{CommitLine, CommitRequest, PathCommit, PinnedGeneration, PushPin, code};

use crate::api::{Api, ApiError};

/// Paths to commit in one request.
#[derive(Debug)]
pub(super) struct Batch {
    /// By number, references first.
    pub(super) paths: Vec<(u32, PathCommit)>,
    /// For how long they are kept.
    pub(super) expires: Option<Seconds>,
    /// A pin for one of them.
    pub(super) pin: Option<PushPin>,
}

/// Commits a batch; each answer goes to `on_line` once, with the number of its path. Gives the pin,
/// if it is known to be made.
///
/// # Errors
/// The failure that the client stopped to wait for, and the paths that are without an answer.
pub(super) async fn commit(
    api: &Api,
    batch: Batch,
    mut on_line: impl FnMut(u32, CommitLine),
) -> Result<Option<PinnedGeneration>, (ApiError, Batch)> {
    let Batch { paths: mut left, expires, pin } = batch;
    let mut pinned = None;
    let mut backoff = api.backoff();
    loop {
        // The paths with an answer, and the failure where it is one that may pass.
        let mut answered: HashMap<String, Option<CommitLine>> = HashMap::new();
        let (numbers, paths): (Vec<u32>, Vec<PathCommit>) = left.into_iter().unzip();
        let is_pinned = |pin: &&PushPin| paths.iter().any(|path| path.store_path == pin.store_path);
        let pin_of_these = pin.as_ref().filter(is_pinned).cloned();
        let request = CommitRequest { paths, expires, pin: pin_of_these };
        let number: HashMap<&str, u32> = request
            .paths
            .iter()
            .map(|path| path.store_path.as_str())
            .zip(numbers.iter().copied())
            .collect();
        let result = api
            .commit(&request, |line| {
                let Some(store_path) = store_path(&line).map(str::to_owned) else { return };
                let Some(number) = number.get(store_path.as_str()) else { return };
                if transient_failure(&line).is_some() {
                    answered.insert(store_path, Some(line));
                } else if answered.insert(store_path, None).is_none() {
                    on_line(*number, line);
                }
            })
            .await;
        let result = result.map(|pin| pinned = pinned.take().or(pin));
        left = numbers
            .into_iter()
            .zip(request.paths)
            .filter(|(_, path)| !matches!(answered.get(&path.store_path), Some(None)))
            .collect();
        if left.is_empty() {
            return Ok(pinned);
        }
        if answered.values().any(Option::is_none) {
            backoff = api.backoff();
        }
        match result {
            Ok(()) => {
                let failure = answered.values().flatten().find_map(transient_failure);
                // Without one, the server went on to leave these out.
                let failure =
                    failure.unwrap_or_else(|| ApiError::of_line(code::INTERNAL, NO_ANSWER));
                if backoff.wait(failure).await.is_err() {
                    for (number, PathCommit { store_path, .. }) in left {
                        let line = answered.remove(&store_path).flatten();
                        let (code, message) = (code::INTERNAL.to_owned(), NO_ANSWER.to_owned());
                        on_line(
                            number,
                            line.unwrap_or(CommitLine::Error { store_path, code, message }),
                        );
                    }
                    return Ok(pinned);
                }
            }
            Err(error) => match backoff.wait(error).await {
                Ok(()) => {}
                Err(error) => return Err((error, Batch { paths: left, expires, pin })),
            },
        }
    }
}

/// The message for a path without an answer.
const NO_ANSWER: &str = "the server gave no answer for it";

/// The failure of a path, if it is one that may pass.
fn transient_failure(line: &CommitLine) -> Option<ApiError> {
    let CommitLine::Error { code, message, .. } = line else { return None };
    let is_transient =
        [code::BUSY, code::STORAGE_UNAVAILABLE, code::INTERNAL].contains(&code.as_str());
    is_transient.then(|| ApiError::of_line(code, message))
}

fn store_path(line: &CommitLine) -> Option<&str> {
    match line {
        CommitLine::Receipt(receipt) => Some(&receipt.store_path),
        CommitLine::ChunksMissing { store_path, .. }
        | CommitLine::Different { store_path, .. }
        | CommitLine::Error { store_path, .. } => Some(store_path),
        CommitLine::Heartbeat | CommitLine::End { .. } => None,
    }
}
