//! Objects as files of one folder.
//!
//! A file is written under another name in `.incoming`, synced, renamed to its key, and its folder
//! synced; so it is there whole or not at all, and still there after a power cut. A folder that is
//! new is synced into its parent first: an entry in a folder that vanishes would vanish with it.
//! `.incoming` is on the same file system, since rename needs that; what is in it when a server has
//! claimed the storage is what a killed one left, and is removed.
//!
//! Work runs on blocking threads. A call that is given up goes on to its end there, which is
//! harmless: an object that nobody names is garbage for the collector. Only what the system has in
//! memory already is read without one: handing it over and back would cost more than the copy.

mod cached;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{ListedObject, StorageError};
use crate::files;

const INCOMING: &str = ".incoming";
/// How names of files in it end.
const UNFINISHED: &str = ".tmp";
/// More than this is not copied without a thread of its own, however warm it is: others wait
/// meanwhile.
const MAX_AT_ONCE: u64 = 1024 * 1024;

/// A folder of objects.
#[derive(Debug, Clone)]
pub(super) struct Local {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    incoming: PathBuf,
    /// What is in memory is read at once.
    reads_cached: bool,
    /// Folders known to be synced into their parents. Keys spread over a few hundred of them at
    /// most.
    durable_dirs: Mutex<HashSet<PathBuf>>,
}

impl Local {
    pub(super) async fn open(root: &Path) -> Result<Self, StorageError> {
        let root = root.to_owned();
        let shown = format!("the folder {}", root.display());
        let opened = blocking(&shown, move || {
            fs::create_dir_all(&root)?;
            let root = root.canonicalize()?;
            let incoming = root.join(INCOMING);
            fs::create_dir_all(&incoming)?;
            // One written and synced file now is worth more than an error at the first push.
            write_synced(&incoming, b"")?.close()?;
            sync_dir(&root)?;
            if let Some(parent) = root.parent() {
                // The parent may belong to someone else; then the folder was not made just now.
                let _ = sync_dir(parent);
            }
            Ok(Shared::new(root, incoming))
        })
        .await;
        match opened {
            Ok(shared) => Ok(Self { shared: Arc::new(shared) }),
            Err(StorageError::NotFound { key }) => Err(StorageError::folder_gone(key)),
            Err(error) => Err(error),
        }
    }

    /// Removes what a killed server had not finished writing, if it is at least as old as `age`.
    pub(super) async fn remove_unfinished(&self, age: Duration) -> Result<(), StorageError> {
        let shared = Arc::clone(&self.shared);
        let is_old = move |path: &Path| {
            let written = fs::metadata(path).and_then(|file| file.modified());
            // One that is gone is not removed either.
            written.is_ok_and(|at| at.elapsed().unwrap_or_default() >= age)
        };
        blocking(INCOMING, move || {
            let folder = &shared.incoming;
            files::remove_leftovers(folder, |name| {
                name.ends_with(UNFINISHED) && is_old(&folder.join(name))
            })
        })
        .await
    }

    /// As [`Self::open`], but makes, tries and removes nothing.
    pub(super) async fn attach(root: &Path) -> Result<Self, StorageError> {
        let root = root.to_owned();
        let shown = format!("the folder {}", root.display());
        let shared = blocking(&shown, move || {
            let root = root.canonicalize()?;
            let incoming = root.join(INCOMING);
            Ok(Shared::new(root, incoming))
        })
        .await?;
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(super) async fn put(&self, key: &str, object: Bytes) -> Result<(), StorageError> {
        let (shared, path) = self.locate(key)?;
        let result = blocking(key, move || {
            let file = write_synced(&shared.incoming, &object)?;
            let dir = path.parent().unwrap_or(&shared.root);
            shared.make_durable_dir(dir)?;
            file.persist(&path).map_err(|error| error.error)?;
            sync_dir(dir)
        })
        .await;
        match result {
            // Nothing is looked up when writing: the folder itself has gone.
            Err(StorageError::NotFound { key }) => Err(StorageError::folder_gone(key)),
            result => result,
        }
    }

    pub(super) async fn get_range(
        &self,
        key: &str,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, StorageError> {
        let bytes = self.get_up_to(key, offset, len).await?;
        if bytes.len() as u64 == len {
            return Ok(bytes);
        }
        Err(StorageError::Short { key: key.to_owned(), wanted: offset.saturating_add(len) })
    }

    /// As [`Self::get_range`], but gives fewer bytes where the object ends before.
    pub(super) async fn get_up_to(
        &self,
        key: &str,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, StorageError> {
        let (shared, path) = self.locate(key)?;
        if shared.reads_cached
            && len <= MAX_AT_ONCE
            && let Some(bytes) = cached::read(&path, offset, len)
        {
            return Ok(bytes);
        }
        blocking(key, move || {
            let file = File::open(path)?;
            // Never more memory than the object has bytes, whatever was asked for.
            let there = file.metadata()?.len().saturating_sub(offset).min(len);
            let mut bytes = vec![0; usize::try_from(there).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        })
        .await
    }

    pub(super) async fn get(&self, key: &str) -> Result<Vec<u8>, StorageError> {
        let (_, path) = self.locate(key)?;
        blocking(key, move || {
            let mut bytes = Vec::new();
            File::open(path)?.read_to_end(&mut bytes)?;
            Ok(bytes)
        })
        .await
    }

    pub(super) async fn len(&self, key: &str) -> Result<Option<u64>, StorageError> {
        let (_, path) = self.locate(key)?;
        match blocking(key, move || Ok(fs::metadata(path)?.len())).await {
            Ok(len) => Ok(Some(len)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let (shared, path) = self.locate(key)?;
        let result = blocking(key, move || {
            fs::remove_file(&path)?;
            sync_dir(path.parent().unwrap_or(&shared.root))
        });
        match result.await {
            Err(StorageError::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StorageError> {
        let shared = Arc::clone(&self.shared);
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        blocking("a listing", move || {
            let mut found = Vec::new();
            let page = Page { prefix: &prefix, after: after.as_deref(), limit };
            page.walk(&shared.root, "", &mut found)?;
            Ok(found)
        })
        .await
    }

    /// As [`Self::list`], with the objects' lengths; one that goes meanwhile is not there.
    pub(super) async fn list_objects(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ListedObject>, StorageError> {
        let mut after = after.map(str::to_owned);
        loop {
            let keys = self.list(prefix, after.as_deref(), limit).await?;
            let Some(last) = keys.last().cloned() else { return Ok(Vec::new()) };
            let root = self.shared.root.clone();
            let found = blocking("a listing", move || {
                let mut found = Vec::with_capacity(keys.len());
                for key in keys {
                    match fs::metadata(root.join(&key)) {
                        Ok(metadata) => found.push(ListedObject { key, len: metadata.len() }),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(found)
            })
            .await?;
            if !found.is_empty() {
                return Ok(found);
            }
            // An empty page would be the end of the listing.
            after = Some(last);
        }
    }

    fn locate(&self, key: &str) -> Result<(Arc<Shared>, PathBuf), StorageError> {
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if !key.split('/').all(plain) {
            return Err(StorageError::BadKey { key: key.to_owned() });
        }
        Ok((Arc::clone(&self.shared), self.shared.root.join(key)))
    }
}

impl Shared {
    fn new(root: PathBuf, incoming: PathBuf) -> Self {
        let durable_dirs = Mutex::new(HashSet::from([root.clone()]));
        Self { reads_cached: cached::is_possible(&root), durable_dirs, root, incoming }
    }

    /// Makes a folder and every folder above it, each synced into its parent.
    fn make_durable_dir(&self, dir: &Path) -> io::Result<()> {
        if self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner).contains(dir) {
            return Ok(());
        }
        let parent = dir.parent().unwrap_or(&self.root);
        self.make_durable_dir(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
        // Another call may have made it a moment ago and not have synced it yet, so this one syncs
        // in either case.
        sync_dir(parent)?;
        self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned());
        Ok(())
    }
}

fn write_synced(dir: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("").suffix(UNFINISHED).tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Runs file system work on a blocking thread.
async fn blocking<T: Send + 'static>(
    key: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let result = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)));
    result.map_err(|error| StorageError::from_io(key, error))
}

/// A listing's bounds.
struct Page<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
}

impl Page<'_> {
    /// Collects the keys below a folder whose own key is `base` (empty, or with a slash at its
    /// end).
    fn walk(&self, dir: &Path, base: &str, found: &mut Vec<String>) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            // A slash at the end sorts a folder where its keys belong.
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            entries.push(format!("{base}{name}{slash}"));
        }
        entries.sort_unstable();
        for key in entries {
            if found.len() >= self.limit {
                break;
            }
            if !key.ends_with('/') {
                if key.starts_with(self.prefix)
                    && self.after.is_none_or(|after| key.as_str() > after)
                {
                    found.push(key);
                }
                continue;
            }
            let within_prefix = key.starts_with(self.prefix) || self.prefix.starts_with(&key);
            let all_before =
                self.after.is_some_and(|after| key.as_str() <= after && !after.starts_with(&key));
            if within_prefix && !all_before {
                let name = key[base.len()..].trim_end_matches('/');
                self.walk(&dir.join(name), &key, found)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
