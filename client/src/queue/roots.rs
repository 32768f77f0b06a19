//! The garbage collection roots of a queue: what waits stays in the store.
//!
//! A root is two links, as Nix makes them for `./result`: `roots/<random>-<name>` to the store
//! path, and `<state of Nix>/gcroots/auto/<hash>` to that link. Nix removes the second by itself
//! when the first is gone. Source: `addIndirectRoot` and `findRoots` in Nix's `gc.cc`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{Entry, NewEntry, QueueError, QueueFolder};
use crate::store::{Store, StoreOptions};

/// How old a root becomes that no row names: a hook may be between the two.
pub const MAX_ROOT_AGE: Duration = Duration::from_mins(10);

/// The roots of one queue.
#[derive(Debug)]
pub struct Roots {
    folder: PathBuf,
    store: StoreOptions,
}

impl Roots {
    /// Those of the queue in `folder`, for paths of the store that `store` names.
    #[must_use]
    pub fn new(folder: &QueueFolder, store: StoreOptions) -> Self {
        Self { folder: folder.roots(), store }
    }

    /// Makes a root for a store path, and gives its name. The text says why Nix does not heed the
    /// root, where that is so.
    ///
    /// # Errors
    /// The link in the queue's folder cannot be made.
    pub async fn add(&self, store_path: &str) -> Result<(String, Option<String>), QueueError> {
        let base_name = store_path.rsplit('/').next().unwrap_or_default();
        let random = getrandom::u64().map_err(|error| QueueError::File {
            path: self.folder.clone(),
            source: io::Error::other(error.to_string()),
        })?;
        let name = format!("{random:016x}-{base_name}");
        let warning = self.link(&name, store_path).await?;
        Ok((name, warning))
    }

    async fn link(&self, name: &str, store_path: &str) -> Result<Option<String>, QueueError> {
        let link = self.folder.join(name);
        symlink(store_path, &link)
            .map_err(|source| QueueError::File { path: link.clone(), source })?;
        Ok(self.register(&link).await.err())
    }

    /// Makes Nix's own link to `link`: here, or through the daemon where only that may.
    async fn register(&self, link: &Path) -> Result<(), String> {
        let auto = self.store.indirect_roots_dir().map_err(|error| error.to_string())?;
        let hash = Sha256::digest(link.as_os_str().as_encoded_bytes());
        let number = hash.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte));
        match symlink(link, auto.join(format!("{number:032x}"))) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => {
                let asked =
                    async { Store::open(self.store.clone()).await?.add_indirect_root(link).await };
                asked.await.map_err(|asked| format!("{}: {error}; {asked}", auto.display()))
            }
        }
    }

    /// Removes a root; Nix removes its own link later.
    pub fn remove(&self, name: &str) {
        let link = self.folder.join(name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove the root {}: {error}", link.display());
            }
            _ => {}
        }
    }

    /// Removes those roots of `entries` that no row owns, after they were `added`.
    pub fn remove_unused(&self, entries: &[NewEntry], added: &Result<Vec<String>, QueueError>) {
        match added {
            Ok(unused) => unused.iter().for_each(|root| self.remove(root)),
            Err(_) => entries
                .iter()
                .filter_map(|entry| entry.root.as_deref())
                .for_each(|root| self.remove(root)),
        }
    }

    /// Removes roots that no row names and that are older than [`MAX_ROOT_AGE`], and makes missing
    /// roots of rows again.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn repair(&self, entries: &[Entry]) -> Result<(), QueueError> {
        let named: HashSet<&str> = entries.iter().filter_map(|entry| entry.root()).collect();
        let failed = |source| QueueError::File { path: self.folder.clone(), source };
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let age = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > MAX_ROOT_AGE));
            if let Some(name) = name.to_str()
                && is_old
                && !named.contains(name)
            {
                self.remove(name);
            }
        }
        for entry in entries {
            if let Some(root) = entry.root()
                && !self.folder.join(root).is_symlink()
                && let Some(warning) = self.link(root, &entry.store_path).await?
            {
                tracing::warn!("Nix may collect {}: {warning}", entry.store_path);
            }
        }
        Ok(())
    }
}

/// Entries for `paths`, with a root each where there are `roots`. The rows have to be committed
/// next; the order is argued in [`crate::queue`].
///
/// # Errors
/// As [`Roots::add`].
pub async fn with_roots(
    roots: Option<&Roots>,
    cache: &str,
    drv_path: Option<&str>,
    paths: &[String],
) -> Result<Vec<NewEntry>, QueueError> {
    let mut entries = Vec::with_capacity(paths.len());
    for store_path in paths {
        let mut root = None;
        if let Some(roots) = roots {
            let (name, warning) = roots.add(store_path).await?;
            if let Some(warning) = warning {
                tracing::warn!("Nix may collect {store_path} before it is pushed: {warning}");
            }
            root = Some(name);
        }
        entries.push(NewEntry {
            cache: cache.to_owned(),
            store_path: store_path.clone(),
            drv_path: drv_path.map(str::to_owned),
            root,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

    use super::*;

    const PATH: &str = "/nix/store/00000000000000000000000000000000-a";

    fn age(link: &Path) {
        let then = SystemTime::now() - MAX_ROOT_AGE - Duration::from_mins(1);
        let then = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let time = Timespec { tv_sec: i64::try_from(then).unwrap(), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, link, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    #[tokio::test]
    async fn roots_without_a_row_go_once_they_are_old_and_missing_ones_come_back() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = QueueFolder::find(Some(&scratch.path().join("queue"))).unwrap();
        folder.create().unwrap();
        let state = scratch.path().join("root/nix/var/nix/gcroots/auto");
        fs::create_dir_all(&state).unwrap();
        let uri = Some(format!("local?root={}", scratch.path().join("root").display()));
        let roots = Roots::new(&folder, StoreOptions { uri });

        let mut names = Vec::new();
        for _ in 0..4 {
            let (name, warning) = roots.add(PATH).await.unwrap();
            assert_eq!(warning, None);
            names.push(name);
        }
        let links: Vec<PathBuf> = names.iter().map(|name| folder.roots().join(name)).collect();
        for link in &links {
            assert_eq!(fs::read_link(link).unwrap(), Path::new(PATH));
        }
        let targets = fs::read_dir(&state).unwrap().map(|link| fs::read_link(link.unwrap().path()));
        let targets: HashSet<PathBuf> = targets.map(Result::unwrap).collect();
        assert_eq!(targets, links.iter().cloned().collect());

        // 0 has a row and is old, 1 has a row and is missing, 2 is old, 3 is new.
        age(&links[0]);
        fs::remove_file(&links[1]).unwrap();
        age(&links[2]);
        let rows = [&names[0], &names[1]].map(|name| Entry::for_tests(PATH, Some(name)));
        roots.repair(&rows).await.unwrap();
        let are_there: Vec<bool> = links.iter().map(|link| link.is_symlink()).collect();
        assert_eq!(are_there, [true, true, false, true]);
    }
}
