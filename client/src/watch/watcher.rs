//! From the names in the store's folder to entries of a queue.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use snowbank_core::store_path::StorePath;

use super::WatchError;
use super::source::{Source, StoreEvent, store_path};
use super::tracker::{Answer, Tracker, locked_path};
use crate::exit::Failure;
use crate::queue::roots::{Roots, with_roots};
use crate::queue::{Database, QueueError, QueueFolder};
use crate::store::{PathInfo, Store, StoreOptions};
use snowbank_cli::date;

/// Most paths that Nix is asked about at once.
const MAX_QUESTIONS: usize = 2048;
/// Most entries of a queue that is filled by watching.
const MAX_ENTRIES: u64 = 10_000_000;

/// Which paths are queued, by the way that they came into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    /// Those that were built on this machine.
    Built,
    /// Those that were built or added on this machine.
    BuiltAndAdded,
    /// All, those from binary caches and other machines among them.
    All,
}

/// A watch over a store. Paths that appear in it are put into a queue.
pub struct StoreWatcher {
    cache: String,
    origins: Origins,
    store: StoreOptions,
    folder: PathBuf,
    source: Source,
    tracker: Tracker,
    database: Database,
    roots: Roots,
    /// The failure that was shown, until something succeeds.
    failure: Option<String>,
}

impl StoreWatcher {
    /// Begins to watch `store`, for `cache`. What appears from now on is put into `queue`.
    ///
    /// # Errors
    /// A store that cannot be watched; a queue that cannot be used.
    pub async fn start(
        store: StoreOptions,
        queue: &QueueFolder,
        cache: &str,
        origins: Origins,
    ) -> Result<Self, WatchError> {
        // Whether Nix answers, before a long wait.
        drop(Store::open(store.clone()).await?);
        let folder = store.real_dir()?;
        let source = Source::watch(&folder)?;
        let database = Database::open(queue).await?;
        queue.create()?;
        let roots = Roots::new(queue, store.clone());
        let mut watcher = Self {
            cache: cache.to_owned(),
            origins,
            store,
            folder,
            source,
            tracker: Tracker::default(),
            database,
            roots,
            failure: None,
        };
        watcher.list_first()?;
        Ok(watcher)
    }

    /// The folder that is watched.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Queues what appears, for ever. May be dropped at any moment.
    pub async fn run(&mut self) -> Infallible {
        loop {
            let next_at = self.tracker.next_at();
            let due = async {
                match next_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                (events, has_lost) = self.source.next() => self.take(&events, has_lost),
                () = due => {
                    let paths = self.tracker.due(Instant::now(), MAX_QUESTIONS);
                    self.ask(&paths).await;
                }
            }
        }
    }

    /// Queues what has appeared until now and is registered, without waiting for more.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn sweep(&mut self) -> Result<(), WatchError> {
        let events = self.source.take_waiting();
        self.take(&events, false);
        self.compare()?;
        for paths in self.tracker.pending().chunks(MAX_QUESTIONS) {
            self.ask(paths).await;
        }
        Ok(())
    }

    fn take(&mut self, events: &[StoreEvent], has_lost: bool) {
        let now = Instant::now();
        for event in events {
            self.tracker.take(event, now);
        }
        if has_lost {
            tracing::info!("the system lost events of {}; it is listed", self.folder.display());
            let compared = self.compare();
            if let Err(error) = compared {
                self.report(error);
            }
        }
    }

    /// The first listing: what is there was there before, but for paths that are being made.
    fn list_first(&mut self) -> Result<(), WatchError> {
        let (folder, now) = (self.folder.clone(), Instant::now());
        let mut locked = Vec::new();
        for path in listing(&folder)? {
            let path = path?;
            locked.extend(locked_path(&path).filter(|_| is_lock(&folder, &path)));
            self.tracker.add_seen(&path);
        }
        for path in locked {
            self.tracker.take(&StoreEvent::Appeared(path), now);
        }
        Ok(())
    }

    fn compare(&mut self) -> Result<(), WatchError> {
        // To its end first: after a listing that ends early, names would count as gone.
        let names: Vec<StorePath> = listing(&self.folder)?.collect::<Result<_, _>>()?;
        self.tracker.compare(names.into_iter(), Instant::now());
        Ok(())
    }

    /// Asks Nix about paths, and queues those that it has registered.
    async fn ask(&mut self, paths: &[StorePath]) {
        let registered = match self.queue_registered(paths).await {
            Ok(registered) => registered,
            Err(error) => {
                let now = Instant::now();
                for path in paths {
                    self.tracker.answer(path, Answer::Unknown, now);
                }
                return self.report(error);
            }
        };
        self.failure = None;
        let now = Instant::now();
        for info in &registered {
            self.tracker.answer(&info.path, Answer::Registered, now);
        }
        // Those that were registered wait no more.
        for path in paths {
            let answer = self.place(path);
            self.tracker.answer(path, answer, now);
        }
    }

    /// Queues those of `paths` that Nix has registered, as far as their origin is wanted, and gives
    /// all of those.
    async fn queue_registered(&mut self, paths: &[StorePath]) -> Result<Vec<PathInfo>, WatchError> {
        // A connection of its own: Nix remembers on one what it has said.
        let store = Store::open(self.store.clone()).await?;
        let valid: Vec<StorePath> = store.valid_paths(paths).await?.into_iter().collect();
        let infos = store.path_infos(&valid).await?;
        let registered: Vec<PathInfo> = infos.into_iter().flatten().collect();
        let wanted = registered.iter().filter(|info| self.origins.include(info));
        let wanted: Vec<String> = wanted.map(|info| info.path.full(store.store_dir())).collect();
        if !wanted.is_empty() {
            self.queue(&wanted).await?;
        }
        Ok(registered)
    }

    async fn queue(&mut self, paths: &[String]) -> Result<(), QueueError> {
        let entries = with_roots(Some(&self.roots), &self.cache, None, paths).await?;
        let added = self.database.add(&entries, date::now(), MAX_ENTRIES).await;
        self.roots.remove_unused(&entries, &added);
        added?;
        for path in paths {
            tracing::info!("queued {path}");
        }
        Ok(())
    }

    /// Where a path stands that is not registered.
    fn place(&self, path: &StorePath) -> Answer {
        let place = self.folder.join(path.base_name());
        if self.folder.join(format!("{path}.lock")).exists() {
            Answer::Locked
        } else if place.symlink_metadata().is_ok() {
            Answer::Unregistered
        } else {
            Answer::Gone
        }
    }

    /// Shows a failure, if it is news.
    fn report(&mut self, error: WatchError) {
        let reason = Failure::from(error).to_string();
        if self.failure.as_ref() != Some(&reason) {
            tracing::warn!("new paths are not queued yet, and are looked at again: {reason}");
            self.failure = Some(reason);
        }
    }
}

impl Origins {
    fn include(self, info: &PathInfo) -> bool {
        // Nix does not sign a path that is added here, and a path from elsewhere has a signature
        // unless its contents give its name.
        let is_added = info.ca.is_some() && info.signatures.is_empty();
        match self {
            Self::Built => info.ultimate,
            Self::BuiltAndAdded => info.ultimate || is_added,
            Self::All => true,
        }
    }
}

/// Whether a name that could be a lock's is one: its owner may write to it, as to no path of the
/// store.
fn is_lock(folder: &Path, path: &StorePath) -> bool {
    let metadata = fs::symlink_metadata(folder.join(path.base_name()));
    metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o200 != 0)
}

/// The store paths among the names in a folder.
fn listing(
    folder: &Path,
) -> Result<impl Iterator<Item = Result<StorePath, WatchError>> + use<>, WatchError> {
    let owned = folder.to_owned();
    let failed = move |source: io::Error| WatchError::List { folder: owned.clone(), source };
    let entries = fs::read_dir(folder).map_err(&failed)?;
    Ok(entries.filter_map(move |entry| match entry {
        Ok(entry) => entry.file_name().to_str().and_then(store_path).map(Ok),
        Err(error) => Some(Err(failed(error))),
    }))
}
