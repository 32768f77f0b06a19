//! Making caches, tokens and keys: what commands do today and endpoints will.
//!
//! Functions take the database and the sealer, never the running server: they work beside one, which follows within
//! seconds. The time is a parameter.

pub mod migrate_database;

mod caches;
mod error;
mod first_start;
mod server_key;
mod tokens;

pub use caches::{CacheSpec, CreatedCache, create_cache};
pub use error::AdminError;
pub use first_start::{FirstStart, SetUp, first_start};
pub use server_key::check_server_key;
pub use tokens::{TokenSpec, create_token};

#[cfg(test)]
mod tests;
