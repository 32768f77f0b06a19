//! Proof that database and storage agree. (Collection, compaction and repair build on it.)

pub mod check;
