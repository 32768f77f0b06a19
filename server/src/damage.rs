//! Stored bytes that are not what they should be: found for certain, kept from being served, and
//! kept from being lost silently.
//!
//! A read that fails proves little: a disk may be unmounted, a cache may be wrong. So before
//! anything is changed, the storage's marker says that it is ours (C3), the chunks are looked up
//! again, and their pack is read twice, straight from the storage. What still does not check is
//! *retired* ([`db::damage`](crate::db::damage)): by its name the chunk is missing, and clients
//! send it again. The NARs that name it are *withdrawn*: their paths answer 404, so that Nix builds
//! or asks another cache rather than failing half-way, and are listed until they are pushed again.
//! Nothing is deleted that could still be read, but the rows of NARs that nobody could have
//! fetched.
//!
//! Memory: one pack at a time is looked at, and takes twice its size at most.
//!
//! Ingest and serving report here, so this module lies below them; `check` and `repair`, which read
//! NARs through serving, lie above ([`integrity`](crate::integrity)).

mod examine;
mod follow;
mod hourly_limit;
mod inspector;
mod manifest;
mod withdraw;

pub use examine::{Fault, Head, PackExamination, examine, read_pack, record_at};
pub use inspector::{InspectError, Inspector, Suspect, Suspicion};
pub use manifest::{ManifestFault, manifest_fault};
pub use withdraw::{Withdrawal, retire, withdraw_nar, withdraw_paths};
