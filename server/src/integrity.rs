//! Proof that database and storage agree, and repair where they do not.
//!
//! `check` is the oracle: it states each invariant as a query or a read. `repair` plans and
//! executes what makes its findings go away. `verify_present` reads back the paths on which a push
//! relies. `listing` compares the storage's objects with the packs' rows, `content` decodes NARs as
//! clients get them, `sample`, `pattern` and `pace` say which packs and paths are read and how
//! fast.
//!
//! How damage is judged, and how it is taken out of sight, is in [`damage`](crate::damage): ingest
//! and serving report to it, and everything here reads NARs through ingest and serving. So `damage`
//! is a layer below these, and this module is one above.

pub mod check;
pub mod repair;
pub mod verify_present;

mod content;
mod listing;
mod pace;
mod pattern;
mod sample;

pub use content::matches_any;
pub use listing::ObjectsError;
pub use pattern::{PathPattern, PatternError};
pub use sample::{Percent, PercentError, Sample};
