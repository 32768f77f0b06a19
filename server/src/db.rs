//! The only SQL of the server, on SQLite or PostgreSQL, with one text for both.
//!
//! An aggregate has a file: a domain type, a private row type and a checked conversion between
//! them. `lookup` gives an `Option`, `list` and `page` give many, `add` inserts. Functions take an
//! [`Exec`], so that whoever calls decides what is one transaction: a [`Conn`] for reads, a [`Tx`]
//! for writes, whose [`Tx::commit`] stands visibly in the caller.
//!
//! Invariants: what destroys and what commits exclude each other (see [`Db::commit_tx`] and
//! [`Db::exclusive_tx`]); ids come from [`counters`] and are never used twice; lists of any length
//! are cut into batches of a few fixed sizes, which keeps within the engines' limits on variables
//! and lets prepared statements be used again.

pub mod audit;
pub mod backup;
pub mod cache_files;
pub mod caches;
pub mod chain;
pub mod check;
pub mod chunks;
pub mod collection;
pub mod counters;
pub mod damage;
pub mod edges;
pub mod ids;
pub mod instance;
pub mod keys;
pub mod leader;
pub mod nars;
pub mod packs;
pub mod path_pages;
pub mod paths;
pub mod pin_pages;
pub mod pins;
pub mod repair;
pub mod reserve;
pub mod revocations;
pub mod settings;
pub mod token_counts;
pub mod token_keys;
pub mod tokens;
pub mod transfer;
pub mod unnamed;
pub mod uploads;
pub mod usage;
pub mod uses;

mod batch;
mod connect;
mod convert;
mod error;
mod exec;
mod gather;
mod migrate;
mod pool;
mod postgres;
mod tx;

pub use connect::Db;
pub use error::DbError;
pub use exec::Exec;
pub use gather::{Answers, Gather};
pub use postgres::PostgresPlace;
pub use tx::{Conn, Tx};

#[cfg(test)]
pub(crate) mod tests;
