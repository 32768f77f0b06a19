//! Watching the Nix store: paths that appear in it are put into a queue.
//!
//! Invariant: a path that appears after [`StoreWatcher::start`] has returned is queued once Nix has
//! registered it, unless its origin is not wanted. The reasons:
//!
//! - The system reports each new name in the store's folder. Where it reports too many to keep, it
//!   says so, and the folder is listed and compared with the names that were seen.
//! - The watch begins before the first listing. A name that appears between the two is reported,
//!   and a report of a new name counts more than the listing.
//! - A name stays pending until Nix has registered its path, as long as the path or its lock is
//!   there. Nix writes a path before it registers it, and holds the lock in between.
//!
//! Memory grows with the store: 22 to 50 bytes for each path in it, 46 MB for a million. Nothing is
//! read from the store itself. Pushing is left to `queue`.

mod error;
mod source;
mod tracker;
mod watcher;

pub use error::WatchError;
pub use watcher::{Origins, StoreWatcher};
