//! One writer at a time: a process that reads a file, changes it and writes it back holds the
//! file's folder locked meanwhile.
//!
//! The lock is `flock` on the folder. Files are replaced whole, so that a lock on a file would be
//! one on its old content, and a lock file of its own would stay behind. The system releases the
//! lock when its holder ends, however it ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::ConfigError;
use super::atomic::link_target;

/// How long another process may hold the lock. Holders ask servers meanwhile, which may take as
/// long as a request may.
const MAX_WAIT: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(20);

/// A folder that no other `snowbank` changes files in while this value lives.
#[derive(Debug)]
pub(crate) struct FolderLock {
    folder: File,
}

impl FolderLock {
    /// Locks the folder of `file`, which is made where it is missing. Where `file` is a symbolic
    /// link, the folder is that of the file it leads to.
    ///
    /// # Errors
    /// A folder that cannot be made or opened, and one that another process holds for too long.
    pub(crate) async fn of(file: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Write { path: file.to_owned(), source };
        let folder = open_folder(file).map_err(failed)?;
        let started = Instant::now();
        loop {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if started.elapsed() < MAX_WAIT => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(ConfigError::Locked { path: file.to_owned() });
                }
                // Some network file systems have no locks on folders. Writing is atomic there too,
                // and one change may undo another that is made in the same moment.
                Ok(()) | Err(Errno::BADF | Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {
                    return Ok(Self { folder });
                }
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// Whether this is the lock of the folder of `file`.
    pub(crate) fn is_of(&self, file: &Path) -> bool {
        let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        let theirs = link_target(file).and_then(|file| fs::metadata(folder_of(&file)));
        matches!((self.folder.metadata(), theirs), (Ok(own), Ok(theirs)) if id(&own) == id(&theirs))
    }
}

fn open_folder(file: &Path) -> io::Result<File> {
    let target = link_target(file)?;
    let folder = folder_of(&target);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    File::open(folder)
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_holder_waits_for_the_first() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("new/nix.conf");
        let first = FolderLock::of(&file).await.unwrap();
        assert!(
            first.is_of(&file.with_file_name("netrc")) && !first.is_of(&root.path().join("netrc"))
        );
        let second = tokio::spawn({
            let file = file.clone();
            async move { FolderLock::of(&file).await.map(|_| Instant::now()) }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let released_at = Instant::now();
        drop(first);
        assert!(second.await.unwrap().unwrap() >= released_at);
    }

    #[tokio::test]
    async fn two_links_to_one_file_have_one_lock() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dotfiles")).unwrap();
        let link = root.path().join("nix.conf");
        std::os::unix::fs::symlink("dotfiles/nix.conf", &link).unwrap();
        assert!(FolderLock::of(&link).await.unwrap().is_of(&root.path().join("dotfiles/any")));
    }
}
