//! The queue's folder: where it is, what is in it, and who may use it.
//!
//! A folder that is made here is its owner's alone. One that is there keeps its mode: with 2770,
//! the members of its group share the queue, and all that is made in it gets the folder's
//! permission bits. Files and folders appear whole, with their mode and their contents, so that
//! processes that begin at the same time never see one half made.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::QueueError;

/// The queue of root's builds.
const SYSTEM_FOLDER: &str = "/var/lib/snowbank/queue";

/// A folder with a queue.
#[derive(Debug, Clone)]
pub struct QueueFolder {
    path: PathBuf,
}

/// The right to push what is in a queue. The system takes it back when the process ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl QueueFolder {
    /// The folder `named`, or else that of `SNOWBANK_QUEUE`, or else the user's own. Nothing is
    /// made yet.
    ///
    /// # Errors
    /// [`QueueError::NoHome`].
    pub fn find(named: Option<&Path>) -> Result<Self, QueueError> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let named = named.map(Path::to_owned);
        let path = match named.or_else(|| variable("SNOWBANK_QUEUE").map(PathBuf::from)) {
            Some(path) => {
                std::path::absolute(&path).map_err(|source| QueueError::File { path, source })?
            }
            None if rustix::process::geteuid().is_root() => PathBuf::from(SYSTEM_FOLDER),
            None => {
                let home =
                    |name| variable(name).map(PathBuf::from).filter(|home| home.is_absolute());
                home("XDG_STATE_HOME")
                    .or_else(|| home("HOME").map(|home| home.join(".local/state")))
                    .ok_or(QueueError::NoHome)?
                    .join("snowbank/queue")
            }
        };
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database of its entries.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join("queue.db")
    }

    /// The folder of its garbage collection roots.
    #[must_use]
    pub fn roots(&self) -> PathBuf {
        self.path.join("roots")
    }

    /// Makes the folder, and that of the roots.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(&self) -> Result<(), QueueError> {
        let roots = self.roots();
        if roots.is_dir() {
            return Ok(());
        }
        let failed = |path: &Path, source| QueueError::File { path: path.to_owned(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|source| failed(&self.path, source))?;
        self.create_roots(&roots).map_err(|source| failed(&roots, source))
    }

    fn create_roots(&self, roots: &Path) -> io::Result<()> {
        let mode = self.mode()?;
        // A folder takes the set-group-ID bit from the one above, and a confined service may not
        // set it.
        let new = tempfile::Builder::new()
            .prefix(".roots-")
            .permissions(Permissions::from_mode(mode & 0o777))
            .tempdir_in(&self.path)?;
        if mode_of(new.path())? != mode {
            fs::set_permissions(new.path(), Permissions::from_mode(mode))?;
        }
        match fs::rename(new.path(), roots) {
            // Another process has made it, and used it.
            Err(_) if roots.is_dir() => Ok(()),
            Ok(()) => {
                // There is nothing left to remove.
                let _ = new.keep();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The permission bits of the folder, its set-group-ID bit among them.
    pub(super) fn mode(&self) -> io::Result<u32> {
        mode_of(&self.path)
    }

    /// The permissions of a file in it.
    pub(super) fn file_permissions(&self) -> io::Result<Permissions> {
        Ok(Permissions::from_mode(self.mode()? & 0o666))
    }

    /// Takes the right to push what is in the queue.
    ///
    /// # Errors
    /// [`QueueError::Locked`] where another process has it.
    pub fn lock(&self) -> Result<RunLock, QueueError> {
        let path = self.path.join("run.lock");
        let failed = |source| QueueError::File { path: path.clone(), source };
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .mode(0o600)
                    .open(&path)
                    .map_err(failed)?;
                // Where another user's process has made it meanwhile, it has set them.
                let _ = file.set_permissions(self.file_permissions().map_err(failed)?);
                file
            }
            opened => opened.map_err(failed)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(RunLock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(QueueError::Locked { folder: self.path.clone() }),
            Err(error) => Err(failed(error.into())),
        }
    }
}

fn mode_of(folder: &Path) -> io::Result<u32> {
    Ok(fs::metadata(folder)?.permissions().mode() & 0o2777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_folder_is_its_owners_and_one_that_is_there_keeps_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let own = QueueFolder::find(Some(&root.path().join("a/queue"))).unwrap();
        own.create().unwrap();
        assert_eq!((mode(own.path()), mode(&own.roots())), (0o700, 0o700));

        let shared = root.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o2770)).unwrap();
        let shared = QueueFolder::find(Some(&shared)).unwrap();
        shared.create().unwrap();
        assert_eq!((mode(shared.path()), mode(&shared.roots())), (0o2770, 0o2770));
        let _lock = shared.lock().unwrap();
        assert_eq!(mode(&shared.path().join("run.lock")), 0o660);
        let entries = fs::read_dir(shared.path()).unwrap().count();
        assert_eq!(entries, 2, "nothing temporary is left");
    }

    #[test]
    fn one_process_pushes_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let folder = QueueFolder::find(Some(root.path())).unwrap();
        let lock = folder.lock().unwrap();
        assert!(matches!(folder.lock(), Err(QueueError::Locked { .. })));
        drop(lock);
        let _lock = folder.lock().unwrap();
    }
}
