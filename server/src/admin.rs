//! Caches, tokens, keys, the audit log, pins, and paths that are to go: what endpoints and
//! `snowbankd`'s commands share.
//!
//! Functions take an [`Admin`], never the running server: they work beside one, which follows
//! within seconds. Whether the [`Actor`] may is settled before: by a proof of `auth` over HTTP, by
//! being there on the host. The time is a parameter.

pub mod backup;
pub mod migrate_database;
pub mod restore;
pub mod token_keys;
pub mod upkeep;

mod actor;
mod audit_queue;
mod audit_text;
mod cache_details;
mod caches;
mod delete;
mod error;
mod first_start;
mod page;
mod path_cursor;
mod path_uses;
mod paths;
mod pin_error;
mod pins;
mod purge;
mod push_log;
mod push_session;
mod refusals;
mod revoke;
mod server_key;
mod signing_keys;
mod tokens;
mod withdrawn;

pub use actor::{Actor, list_audit};
pub use audit_queue::AuditQueue;
pub use caches::{
    configure_cache, create_cache, destroy_cache, ensure_cache, list_caches, rename_cache,
    restore_cache, show_cache,
};
pub use delete::delete_paths;
pub use error::AdminError;
pub use first_start::{FirstStart, first_start};
pub use paths::{hash_part, list_paths, show_path};
pub use pin_error::PinError;
pub use pins::{
    NewPin, check_keep, list_pins, pin_in, pinned_path, remove_pin, rollback_pin, set_pin, show_pin,
};
pub use purge::purge_cache;
pub use push_log::{PushLog, PushRequest};
pub use push_session::create_push_session;
pub use revoke::revoke_tokens;
pub use server_key::check_server_key;
pub use signing_keys::{export_signing_keys, rotate_signing_key};
pub use tokens::{create_token, list_tokens, rotate_token, show_token};
pub use withdrawn::list_withdrawn;

use crate::auth::{LegacyKeys, TokenKey};
use crate::config::{Config, PublicUrl};
use crate::db::Db;
use crate::secrets::Sealer;

/// What operators work on, and what new caches are made with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Metadata.
    pub db: Db,
    /// Seals the keys in it.
    pub sealer: Sealer,
    /// The zstd level of caches that name none.
    pub compression_level: i32,
    /// The host of the server's public address, if it has one.
    pub host: Option<String>,
    /// Token keys in files, one of which signs where the database has none that can.
    pub key_files: Vec<TokenKey>,
    /// Keys of attic, whose tokens can be revoked.
    pub legacy_keys: LegacyKeys,
}

impl Admin {
    /// With what the settings say.
    #[must_use]
    pub fn new(db: Db, sealer: Sealer, key_files: Vec<TokenKey>, config: &Config) -> Self {
        let host = config.public_url.as_ref().map(PublicUrl::host).map(str::to_owned);
        Self {
            db,
            sealer,
            compression_level: config.compression.level,
            host,
            key_files,
            legacy_keys: LegacyKeys::default(),
        }
    }

    /// With the keys of attic that the settings name.
    #[must_use]
    pub fn with_legacy_keys(self, legacy_keys: LegacyKeys) -> Self {
        Self { legacy_keys, ..self }
    }
}

#[cfg(test)]
mod tests;
