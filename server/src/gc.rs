//! Proof that database and storage agree, and sums over what they hold. (Collection, compaction and repair build on it.)

pub mod check;
pub mod usage;
