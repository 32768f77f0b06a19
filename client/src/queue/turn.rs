//! The turn to write to a queue: writers wait in the kernel for the one before them.
//!
//! SQLite's own waiting asks again at growing intervals, so that with many hooks at once some are
//! overtaken until their patience ends. The lock is `flock` on the queue's folder. It is advice:
//! where it cannot be had (a holder that was stopped, a file system without locks), SQLite's own
//! still keeps writers apart.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// How long the one before may take.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// A turn; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _folder: Option<File>,
}

impl Turn {
    /// Waits for the turn, but not for ever.
    pub(super) async fn take(folder: &Path) -> Self {
        let Ok(file) = File::open(folder) else { return Self { _folder: None } };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Self { _folder: Some(file) };
        }
        // The thread outlives a wait that is given up: the process ends soon, or its lock does.
        let wait = tokio::task::spawn_blocking(move || {
            flock(&file, FlockOperation::LockExclusive).ok().map(|()| file)
        });
        let taken = tokio::time::timeout(MAX_WAIT, wait).await;
        Self { _folder: taken.ok().and_then(Result::ok).flatten() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_are_taken_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Turn::take(folder.path()).await;
        let mut second = Box::pin(Turn::take(folder.path()));
        let waiting = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
        assert!(waiting.is_err());
        drop(first);
        assert!(second.await._folder.is_some());
        assert!(Turn::take(&folder.path().join("gone")).await._folder.is_none());
    }
}
