//! The push queue: store paths that a build hook has accepted, until they are in their cache.
//!
//! Invariant: a path that the hook accepted is pushed, or set aside with its reason, or reported as
//! collected. Neither an outage of the server nor a kill at any moment loses one.
//!
//! The order of the steps is why:
//!
//! - To accept a path, the hook makes a garbage collection root first and commits the row second.
//!   A hook that is killed between the two leaves a root without a row. `queue run` removes such a
//!   root after [`MAX_ROOT_AGE`](roots::MAX_ROOT_AGE), and the hook has reported nothing.
//! - To settle a path, `queue run` commits the end of the row first and removes the root second. A
//!   kill between the two leaves a root without a row as well. A kill before leaves the row: the
//!   path is pushed once more, and the cache answers that it is present.
//! - Every row owns its root, which has a random name. So the hook of a second build of the same
//!   path, and the removal of the first row meanwhile, never touch each other's root.
//! - A power failure may undo the links of a row that is committed. `queue run` makes them again
//!   when it starts.
//!
//! `folder` says where the queue is and who may use it, `database` has the rows, `roots` the
//! garbage collection roots, and `drain` pushes. The command lines are left to `commands`.

pub mod database;
pub mod drain;
mod error;
pub mod folder;
pub mod roots;
mod turn;

pub use database::{Database, Entry, EntryState, NewEntry};
pub use error::QueueError;
pub use folder::QueueFolder;
