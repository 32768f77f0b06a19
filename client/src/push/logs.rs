//! Build logs: after a push, those that the store has of the paths that it brought.
//!
//! A log is a convenience. One that cannot be sent is no failure of a push, and is told once.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use snowbank_core::store_path::StorePath;

use super::Ledger;
use super::ledger::PathOutcome;
use super::plan::Plan;
use super::target::Target;
use crate::api::{Api, ApiError, ApiErrorKind};
use crate::store::Store;

/// The longest file of a log that is sent, compressed as it lies there.
const MAX_LOG_BYTES: u64 = 8 << 20;
/// Logs that are sent at the same time.
const MAX_CONCURRENT: usize = 4;

/// A path of a push, and the log of its derivation.
#[derive(Debug)]
pub(super) struct PathLog {
    /// The full store path.
    pub(super) store_path: String,
    deriver: StorePath,
    file: PathBuf,
    encoding: Option<&'static str>,
}

/// The logs that the store has of the paths of `plan`.
pub(super) async fn find(store: &Store, plan: &Plan, target: &Target) -> Vec<PathLog> {
    let paths: Vec<(String, StorePath)> = plan
        .paths
        .iter()
        .filter_map(|path| Some((target.full(&path.info.path), path.info.deriver.clone()?)))
        .collect();
    let store = store.clone();
    let search = move || {
        let log = |(store_path, deriver): (String, StorePath)| {
            let mut files = store.log_files(&deriver).into_iter();
            let (file, encoding) = files.find(|(file, _)| file.is_file())?;
            Some(PathLog { store_path, deriver, file, encoding })
        };
        paths.into_iter().filter_map(log).collect()
    };
    tokio::task::spawn_blocking(search).await.unwrap_or_default()
}

/// Sends the logs of those paths that are in the cache now.
pub(super) async fn send(api: &Api, mut logs: Vec<PathLog>, ledger: &mut Ledger) {
    logs.retain(|log| matches!(ledger.outcome(&log.store_path), Some(PathOutcome::Cached)));
    // A derivation with several outputs has one log.
    logs.sort_unstable_by(|one, other| one.deriver.cmp(&other.deriver));
    logs.dedup_by(|one, other| one.deriver == other.deriver);
    let mut sending =
        stream::iter(logs).map(|log| send_one(api, log)).buffer_unordered(MAX_CONCURRENT);
    let mut sent = 0;
    while let Some(outcome) = sending.next().await {
        match outcome {
            Ok(is_sent) => sent += u64::from(is_sent),
            Err(error) if is_old(&error) => {
                tracing::debug!("the server takes no build logs: {error}");
                break;
            }
            Err(error) => {
                tracing::warn!("build logs were not sent: {error}");
                break;
            }
        }
    }
    ledger.record_logs(sent);
}

/// Whether a server has no place for logs.
fn is_old(error: &ApiError) -> bool {
    matches!(error.kind(), ApiErrorKind::NotFound)
}

/// Sends a log, unless it cannot be read.
async fn send_one(api: &Api, log: PathLog) -> Result<bool, ApiError> {
    let PathLog { deriver, file, encoding, .. } = log;
    match read(&file).await {
        Ok(Some(bytes)) => {
            api.put_log(&deriver, encoding, bytes.into()).await?;
            return Ok(true);
        }
        Ok(None) => tracing::debug!("{} is too long to be sent", file.display()),
        Err(error) => tracing::debug!("{} cannot be read: {error}", file.display()),
    }
    Ok(false)
}

/// A file's content, unless it is too long.
async fn read(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let metadata = tokio::fs::metadata(file).await?;
    if metadata.len() > MAX_LOG_BYTES {
        return Ok(None);
    }
    tokio::fs::read(file).await.map(Some)
}
