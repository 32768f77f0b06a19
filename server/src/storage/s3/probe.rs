//! At start: one object is written, read by range, listed and deleted, so that what is wrong shows
//! now, and by its name.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::{FailureKind, PROBE_PREFIX, SETTLING, StorageError, StorageFailure};
use super::S3;
use crate::config::S3Config;

const PROBE_BYTES: u64 = 4096;
/// A service that is starting as well, beside this server, gets this long to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What one probe ended with, if it failed.
enum Problem {
    /// What was read is not what was written.
    Contradiction(StorageError),
    Other(StorageError),
}

/// Proves that the bucket can be used.
///
/// # Errors
/// [`StorageError::Settings`], which says which step failed and what to do.
pub(super) async fn probe(s3: &S3, config: &S3Config) -> Result<(), StorageError> {
    let mut pauses = SETTLING.iter();
    loop {
        match once(s3, config).await {
            Ok(()) => return Ok(()),
            Err(Problem::Other(error)) => return Err(error),
            Err(Problem::Contradiction(error)) => {
                let Some(pause) = pauses.next() else { return Err(error) };
                tracing::debug!(%error, "the storage is tried again");
                tokio::time::sleep(*pause).await;
            }
        }
    }
}

async fn once(s3: &S3, config: &S3Config) -> Result<(), Problem> {
    let mut random = [0; 8];
    // Only the name has to differ from that of a replica that starts at the same moment.
    getrandom::fill(&mut random).map_err(|error| {
        Problem::Other(StorageError::Settings(format!("no random bytes: {error}")))
    })?;
    let key = format!("{PROBE_PREFIX}{:016x}", u64::from_le_bytes(random));
    let object: Bytes =
        (0..PROBE_BYTES).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
    let explain = |step, error| failed(step, config, error);

    let until = Instant::now() + PROBE_TIMEOUT;
    loop {
        match s3.put(&key, object.clone()).await {
            Ok(()) => break,
            Err(error) if is_starting(&error) && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Err(error) => return Err(explain("writing an object", error)),
        }
    }
    let read = read_back(s3, config, &key, &object).await;
    let deleted = s3.delete(&key).await.map_err(|error| explain("deleting an object", error));
    read?;
    deleted?;
    match s3
        .len(&key)
        .await
        .map_err(|error| explain("looking for an object that was deleted", error))?
    {
        None => Ok(()),
        Some(_) => Err(strange(config, "an object that was deleted is still there")),
    }
}

/// Reads and lists `object`, which was written just now.
async fn read_back(s3: &S3, config: &S3Config, key: &str, object: &Bytes) -> Result<(), Problem> {
    let explain = |step, error| {
        let is_absent = matches!(error, StorageError::NotFound { .. });
        match failed(step, config, error) {
            // Its PUT was acknowledged: some services need a moment.
            Problem::Other(error) if is_absent => Problem::Contradiction(error),
            problem => problem,
        }
    };
    let part = s3
        .get_range(key, 1000, 2000)
        .await
        .map_err(|error| explain("reading a range of an object", error))?;
    if part != object[1000..3000] {
        return Err(strange(config, "a range that was read back is not what was written"));
    }
    let whole = s3.get(key).await.map_err(|error| explain("reading an object", error))?;
    if whole[..] != object[..] {
        return Err(strange(config, "an object that was read back is not what was written"));
    }
    let listed = s3.list(key, None, 2).await.map_err(|error| explain("listing objects", error))?;
    if listed != [key] {
        return Err(strange(config, "an object that was written is not in the listing"));
    }
    Ok(())
}

/// Whether it may be that the service only has not started yet.
fn is_starting(error: &StorageError) -> bool {
    match error {
        StorageError::Unavailable { source: StorageFailure::Service(failure), .. } => {
            matches!(failure.kind, FailureKind::Connection | FailureKind::Busy)
        }
        _ => false,
    }
}

fn place(config: &S3Config) -> String {
    let service =
        config.endpoint.clone().unwrap_or_else(|| format!("AWS, region {}", config.region));
    let prefix = config.prefix.trim_end_matches('/');
    let below = if prefix.is_empty() { String::new() } else { format!(" under `{prefix}`") };
    format!("bucket `{}`{below} at {service}", config.bucket)
}

fn failed(step: &str, config: &S3Config, error: StorageError) -> Problem {
    let is_contradiction = matches!(error, StorageError::Short { .. });
    let cause = match error {
        StorageError::Unavailable { source, .. }
        | StorageError::Refused { source, .. }
        | StorageError::Full { source, .. }
        | StorageError::Other { source, .. } => {
            let advice = match &source {
                StorageFailure::Service(failure) => failure.kind.advice(),
                _ => "",
            };
            format!("{source}. {advice}")
        }
        // A bucket that is not there looks like an object that is not to some services.
        StorageError::NotFound { .. } => format!("not found. {}", FailureKind::NoBucket.advice()),
        error => error.to_string(),
    };
    let error = StorageError::Settings(format!(
        "the storage cannot be used: {step} failed in {}: {cause}",
        place(config)
    ));
    if is_contradiction { Problem::Contradiction(error) } else { Problem::Other(error) }
}

fn strange(config: &S3Config, what: &str) -> Problem {
    Problem::Contradiction(StorageError::Settings(format!(
        "the storage cannot be used: {what}, in {}. It does not keep objects as it should; a proxy \
         or a cache in between may be the cause",
        place(config)
    )))
}
