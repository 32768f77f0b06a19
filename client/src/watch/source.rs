//! Events of the store's folder, from the system to the watcher.
//!
//! The system's thread never waits for the watcher. Where either has more events than it keeps,
//! some are lost, and [`Source::next`] says so.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use snowbank_core::store_path::StorePath;
use tokio::sync::mpsc;

use super::WatchError;

/// Events that wait for the watcher.
const CAPACITY: usize = 65_536;
/// Events that the watcher takes at once.
const BATCH: usize = 4096;

/// A change of one name in the store's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreEvent {
    /// The name is new.
    Appeared(StorePath),
    /// The name has changed.
    Touched(StorePath),
    /// The name is gone.
    Vanished(StorePath),
    /// Events were lost.
    Lost,
}

/// The end that takes the system's events.
#[derive(Debug, Clone)]
struct Sink {
    sender: mpsc::Sender<StoreEvent>,
    has_lost: Arc<AtomicBool>,
}

/// The end that gives them to the watcher.
pub(super) struct Source {
    receiver: mpsc::Receiver<StoreEvent>,
    has_lost: Arc<AtomicBool>,
    /// Ends the watch when it is dropped.
    _watcher: Option<RecommendedWatcher>,
}

impl Source {
    /// The events of `folder` from now on.
    pub(super) fn watch(folder: &Path) -> Result<Self, WatchError> {
        let (sink, source) = channel(CAPACITY);
        let failed = |source| WatchError::Watch { folder: folder.to_owned(), source };
        let mut watcher =
            notify::recommended_watcher(move |event| sink.take(&event)).map_err(failed)?;
        watcher.watch(folder, RecursiveMode::NonRecursive).map_err(failed)?;
        Ok(Self { _watcher: Some(watcher), ..source })
    }

    /// Waits for events, and gives them. The flag says whether others were lost before.
    pub(super) async fn next(&mut self) -> (Vec<StoreEvent>, bool) {
        let mut events = Vec::new();
        if self.receiver.recv_many(&mut events, BATCH).await == 0 {
            // The system's thread has ended, which only the drop of the watcher does.
            std::future::pending::<()>().await;
        }
        (events, self.has_lost.swap(false, Ordering::AcqRel))
    }

    /// The events that are there.
    pub(super) fn take_waiting(&mut self) -> Vec<StoreEvent> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).collect()
    }
}

fn channel(capacity: usize) -> (Sink, Source) {
    let (sender, receiver) = mpsc::channel(capacity);
    let has_lost = Arc::new(AtomicBool::new(false));
    let sink = Sink { sender, has_lost: Arc::clone(&has_lost) };
    (sink, Source { receiver, has_lost, _watcher: None })
}

impl Sink {
    fn take(&self, event: &notify::Result<Event>) {
        let events = match event {
            Ok(event) if !event.need_rescan() => store_events(event),
            _ => vec![StoreEvent::Lost],
        };
        for event in events {
            if event == StoreEvent::Lost || self.sender.try_send(event).is_err() {
                self.has_lost.store(true, Ordering::Release);
                // The flag is set before: either this wakes the watcher, or the watcher has events
                // to take and looks at the flag after them.
                let _ = self.sender.try_send(StoreEvent::Lost);
            }
        }
    }
}

fn store_events(event: &Event) -> Vec<StoreEvent> {
    let kind = match event.kind {
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            StoreEvent::Appeared
        }
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            StoreEvent::Vanished
        }
        // The two names of a renaming were reported one by one.
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
            return Vec::new();
        }
        _ => StoreEvent::Touched,
    };
    let path = |path: &std::path::PathBuf| store_path(path.file_name()?.to_str()?);
    event.paths.iter().filter_map(path).map(kind).collect()
}

/// The store path of a name in the store's folder.
pub(super) fn store_path(name: &str) -> Option<StorePath> {
    StorePath::from_base_name(name).ok()
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, Flag, RemoveKind};

    use super::*;

    fn name(number: u32) -> String {
        format!("{number:032}-a")
    }

    fn event(kind: EventKind, name: &str) -> Event {
        Event::new(kind).add_path(Path::new("/nix/store").join(name))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is how events come")]
    fn created(number: u32) -> notify::Result<Event> {
        Ok(event(EventKind::Create(CreateKind::Folder), &name(number)))
    }

    #[tokio::test]
    async fn what_the_channel_cannot_hold_counts_as_lost() {
        let (sink, mut source) = channel(2);
        for number in 0..5 {
            sink.take(&created(number));
        }
        let (events, has_lost) = source.next().await;
        let appeared = |number| StoreEvent::Appeared(store_path(&name(number)).unwrap());
        assert_eq!((events, has_lost), (vec![appeared(0), appeared(1)], true));
        sink.take(&created(7));
        assert_eq!(source.next().await, (vec![appeared(7)], false));
    }

    #[tokio::test]
    async fn an_overflow_of_the_system_and_an_error_count_as_lost() {
        let (sink, mut source) = channel(8);
        sink.take(&Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert_eq!(source.next().await, (vec![StoreEvent::Lost], true));
        sink.take(&Err(notify::Error::generic("no more")));
        assert_eq!(source.next().await, (vec![StoreEvent::Lost], true));
    }

    #[test]
    fn only_names_of_store_paths_are_told_of() {
        let is_told = |kind, name: &str| !store_events(&event(kind, name)).is_empty();
        let create = EventKind::Create(CreateKind::File);
        assert!(is_told(create, &name(1)) && is_told(create, &format!("{}.lock", name(1))));
        for other in [".links", ".tmp-1", "tmp-1-2", ""] {
            assert!(!is_told(create, other), "{other}");
        }
        assert!(is_told(EventKind::Remove(RemoveKind::File), &name(1)));
        assert!(!is_told(EventKind::Access(AccessKind::Read), &name(1)));
    }
}
