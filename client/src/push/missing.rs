//! The questions which of the selected paths the cache lacks.
//!
//! A question has at most as many paths as the cache takes, and at most [`MAX_QUESTION_BYTES`], so
//! that it passes any proxy. At most [`MAX_QUESTIONS`] are under way. The ledger gets a line for
//! each path that the cache has, with these or with other contents. A path without an answer counts
//! as missing, because its commit shows the truth.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use snowbank_core::hash::NarHash;
use snowbank_core::receipt::Receipt;
use snowbank_core::wire::{DifferentPath, MissingPathsRequest, MissingPathsResponse, PathQuery};

use super::selection::SelectedPath;
use super::target::Target;
use super::{Ledger, PushError, PushOptions};
use crate::api::{Api, ApiError};
use crate::exit::Exit;
use crate::store::PathInfo;

/// Questions under way at a time.
const MAX_QUESTIONS: usize = 4;
/// Most bytes of a question. By default nginx lets 1 MiB through.
const MAX_QUESTION_BYTES: usize = 512 << 10;
/// Most paths that the server reads back for one request.
const MAX_VERIFIED_PATHS: usize = 64;
/// Bytes of a path in a question besides its name.
const QUERY_BYTES: usize = 120;

/// The selected paths by the cache's answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Paths that the cache lacks.
    pub(super) missing: Vec<SelectedPath>,
    /// Paths that it has, and that carry signatures here.
    pub(super) signed: Vec<PathInfo>,
}

/// One answered question.
struct Answer {
    paths: Vec<SelectedPath>,
    response: MissingPathsResponse,
    /// For each receipt of the response, the reason why it does not hold.
    checks: Vec<Result<(), &'static str>>,
}

/// Asks the cache which of `selected` it lacks. The ledger has the others.
pub(super) async fn ask(
    api: &Api,
    selected: Vec<SelectedPath>,
    options: &PushOptions,
    target: &Target,
    ledger: &mut Ledger,
) -> Result<Answers, PushError> {
    let max_paths = (target.cache.limits.paths_per_query as usize).max(1);
    let mut answers = stream::iter(split(selected, max_paths, target))
        .map(|paths| question(api, paths, options, target))
        .buffered(MAX_QUESTIONS);
    let mut all = Answers::default();
    while let Some(answer) = answers.try_next().await? {
        record(answer, target, ledger, &mut all)?;
    }
    Ok(all)
}

/// Splits paths into questions, in order.
fn split(selected: Vec<SelectedPath>, max_paths: usize, target: &Target) -> Vec<Vec<SelectedPath>> {
    let mut questions: Vec<Vec<SelectedPath>> = Vec::new();
    let mut bytes = 0;
    for path in selected {
        let more = target.store_dir.as_str().len() + 34 + path.info.path.name().len() + QUERY_BYTES;
        match questions.last_mut() {
            Some(last) if last.len() < max_paths && bytes + more <= MAX_QUESTION_BYTES => {
                bytes += more;
                last.push(path);
            }
            _ => {
                bytes = more;
                questions.push(vec![path]);
            }
        }
    }
    questions
}

fn query(selected: &SelectedPath, target: &Target) -> PathQuery {
    PathQuery { store_path: target.full(&selected.info.path), nar_hash: selected.info.nar_hash }
}

async fn question(
    api: &Api,
    paths: Vec<SelectedPath>,
    options: &PushOptions,
    target: &Target,
) -> Result<Answer, PushError> {
    let request = MissingPathsRequest {
        paths: paths.iter().map(|path| query(path, target)).collect(),
        expires: options.expires,
        dry_run: options.dry_run,
    };
    let mut response = api.missing_paths(&request).await?;
    if options.verify_present {
        let whole = verify(api, &request, &response).await?;
        // A damaged path is in no list then, and so counts as missing.
        response.present.retain(|receipt| whole.contains(&receipt.store_path));
    }
    // Thousands of signatures take a while.
    let target = target.clone();
    let checking = tokio::task::spawn_blocking(move || {
        let checks = check_receipts(&response.present, &paths, &target);
        Answer { paths, response, checks }
    });
    checking.await.map_err(|error| PushError::Internal(error.to_string()))
}

/// The store paths that the server has, and could read back in full.
async fn verify(
    api: &Api,
    request: &MissingPathsRequest,
    response: &MissingPathsResponse,
) -> Result<HashSet<String>, ApiError> {
    let present: HashSet<&String> =
        response.present.iter().map(|receipt| &receipt.store_path).collect();
    let paths: Vec<PathQuery> =
        request.paths.iter().filter(|query| present.contains(&query.store_path)).cloned().collect();
    let mut whole = HashSet::new();
    for paths in paths.chunks(MAX_VERIFIED_PATHS) {
        let request =
            MissingPathsRequest { paths: paths.to_vec(), ..MissingPathsRequest::default() };
        whole.extend(api.verify_paths(&request).await?);
    }
    Ok(whole)
}

/// Checks each receipt against the path that it is for. [`record`] passes over receipts of other
/// paths.
fn check_receipts(
    receipts: &[Receipt],
    paths: &[SelectedPath],
    target: &Target,
) -> Vec<Result<(), &'static str>> {
    let infos: HashMap<String, &PathInfo> =
        paths.iter().map(|path| (target.full(&path.info.path), &path.info)).collect();
    let check = |receipt: &Receipt| {
        infos.get(&receipt.store_path).map_or(Ok(()), |info| target.check(receipt, info))
    };
    receipts.iter().map(check).collect()
}

/// Records the paths that the cache has in `ledger`, and sorts all of them into `all`.
fn record(
    answer: Answer,
    target: &Target,
    ledger: &mut Ledger,
    all: &mut Answers,
) -> Result<(), PushError> {
    let Answer { paths, response, checks } = answer;
    let mut unanswered: HashMap<String, NarHash> =
        paths.iter().map(|path| (target.full(&path.info.path), path.info.nar_hash)).collect();
    for (receipt, check) in response.present.into_iter().zip(checks) {
        if unanswered.remove(&receipt.store_path).is_some() {
            match check {
                Ok(()) => ledger.record_receipt(receipt)?,
                Err(reason) => {
                    ledger.record_failed(receipt.store_path, reason.to_owned(), Exit::Receipt)?;
                }
            }
        }
    }
    for DifferentPath { store_path, nar_hash } in response.different {
        if let Some(own) = unanswered.remove(&store_path) {
            ledger.record_different(store_path, own, nar_hash)?;
        }
    }
    for path in paths {
        if unanswered.contains_key(&target.full(&path.info.path)) {
            all.missing.push(path);
        } else if !path.info.signatures.is_empty() {
            all.signed.push(path.info);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::test_support::{path, path_info, paths, target};

    #[test]
    fn questions_keep_both_limits_and_the_order() {
        let selected: Vec<SelectedPath> = (0..10_000)
            .map(|number| SelectedPath { info: path_info(path(number), &[]), upstream: Vec::new() })
            .collect();
        let questions = split(selected.clone(), 4096, &target());
        for question in &questions {
            let request = MissingPathsRequest {
                paths: question.iter().map(|path| query(path, &target())).collect(),
                ..MissingPathsRequest::default()
            };
            let bytes = serde_json::to_vec(&request).unwrap().len();
            assert!(
                bytes <= MAX_QUESTION_BYTES && question.len() <= 4096,
                "{bytes} bytes, {} paths",
                question.len()
            );
        }
        assert!(questions.len() < 6);
        assert_eq!(paths(&questions.concat()), paths(&selected));
        assert_eq!(split(selected, 100, &target()).len(), 100);
    }
}
