//! The data folder: made with mode 0700, written to by one server at a time.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::SecretError;
use crate::config::check_secret_file;
use crate::files;

/// A data folder that is there.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

/// Held by a server for as long as it serves; the system lets go of it when the process ends,
/// however it ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDir {
    /// Makes the folder (mode 0700) where it is not there, and makes sure that it can be written
    /// to, by this user and not by everybody.
    ///
    /// # Errors
    /// When it cannot be made or written to, or it or the root token is open to others.
    pub fn create(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::CreateDir { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => {
                result.map_err(failed)?;
                // A power cut takes what is in a folder along with its entry. A parent that this
                // user may not read cannot be synced, and then the system does it within seconds.
                let _ = path
                    .parent()
                    .map(|parent| File::open(parent).and_then(|parent| parent.sync_all()));
            }
        }
        if !path.is_dir() {
            return Err(SecretError::NotADir(path.to_owned()));
        }
        files::check_private("the data folder", path)?;
        tempfile::tempfile_in(path)
            .map_err(|source| SecretError::NotWritable { path: path.to_owned(), source })?;
        let dir = Self(path.to_owned());
        check_secret_file(&dir.root_token())?;
        Ok(dir)
    }

    /// A folder that a server has set up, for a command beside it.
    ///
    /// # Errors
    /// [`SecretError::NoDataDir`] when there is none, [`SecretError::Open`] when everybody may
    /// change it.
    pub fn existing(path: &Path) -> Result<Self, SecretError> {
        let dir = Self(path.to_owned());
        if !dir.server_key().exists() {
            return Err(SecretError::NoDataDir(path.to_owned()));
        }
        files::check_private("the data folder", path)?;
        Ok(dir)
    }

    /// Takes the folder for one server.
    ///
    /// # Errors
    /// [`SecretError::InUse`] when another server has it.
    pub fn lock(&self) -> Result<DataDirLock, SecretError> {
        let file =
            files::open_lock(&self.lock_file()).map_err(|source| self.not_writable(source))?;
        self.lock_with(file)
    }

    /// Keeps servers away from a folder, where one was ever started; what it holds is not touched.
    ///
    /// # Errors
    /// [`SecretError::InUse`] when a server has it.
    pub fn lock_if_used(path: &Path) -> Result<Option<DataDirLock>, SecretError> {
        let dir = Self(path.to_owned());
        match files::open_existing_lock(&dir.lock_file()) {
            Ok(file) => dir.lock_with(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(dir.not_writable(source)),
        }
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join("snowbankd.lock")
    }

    fn lock_with(&self, file: File) -> Result<DataDirLock, SecretError> {
        let locked = files::try_lock(file).map_err(|source| self.not_writable(source))?;
        locked
            .map(|file| DataDirLock { _file: file })
            .ok_or_else(|| SecretError::InUse(self.0.clone()))
    }

    fn not_writable(&self, source: io::Error) -> SecretError {
        SecretError::NotWritable { path: self.0.clone(), source }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file with the key that secrets in the database are sealed with.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.0.join("server-key")
    }

    /// The file with the first token.
    #[must_use]
    pub fn root_token(&self) -> PathBuf {
        self.0.join("root-token")
    }
}
