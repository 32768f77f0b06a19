//! Messages about caches and their keys.

use serde::{Deserialize, Serialize};

use super::SecretText;
use crate::units::{Limit, Seconds, Size};

/// Body of `PATCH /api/v1/caches/{cache}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheSettings {
    /// Whether anyone may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// Its rank among substituters; Nix asks lower numbers first, and cache.nixos.org has 40.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Whether Nix asks it about many paths at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub want_mass_query: Option<bool>,
    /// Paths signed by keys of these names are not pushed. Replaces the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_keys: Option<Vec<String>>,
    /// The zstd level that its pushers are asked for, 1 (fast) to 19 (small).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<i32>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How long a path is kept that nobody pushes or reads: such as `90d`, `never` or `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Limit<Seconds>>,
    /// How much it may hold: such as `200GB`, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Limit<Size>>,
}

impl CacheSettings {
    /// Whether it says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Body of `POST /api/v1/caches`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateCache {
    /// Its name.
    pub name: String,
    /// Whether it shares chunks with no other cache.
    #[serde(default)]
    pub isolated: bool,
    /// The store that its paths belong to; `/nix/store` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_dir: Option<String>,
    /// A signing key in Nix's format, instead of one that the server makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SecretText>,
    /// Everything that can be changed later.
    #[serde(flatten)]
    pub settings: CacheSettings,
}

/// One line of the answer to `GET /api/v1/caches`, and the answer to what changes a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDetails {
    /// Its name.
    pub name: String,
    /// Whether anyone may read it.
    pub public: bool,
    /// Whether it shares chunks with no other cache.
    pub isolated: bool,
    /// The store that its paths belong to.
    pub store_dir: String,
    /// Its rank among substituters.
    pub priority: u32,
    /// Whether Nix asks it about many paths at once.
    pub want_mass_query: bool,
    /// Paths signed by keys of these names are not pushed.
    pub upstream_keys: Vec<String>,
    /// The zstd level that its pushers are asked for.
    pub compression_level: i32,
    /// What it is for.
    pub description: String,
    /// How long a path is kept that nobody pushes or reads.
    pub retention: Limit<Seconds>,
    /// How much it may hold.
    pub max_size: Limit<Size>,
    /// Its keys, also those that sign no more.
    pub keys: Vec<CacheKey>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it was destroyed, if it was; it can be restored for seven days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<i64>,
    /// Its address as a substituter, as this request reached it or as the server is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it holds, for those who manage it; absent until a collection has counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<CacheUsage>,
}

/// What a cache holds, as the last collection counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUsage {
    /// Paths.
    pub paths: u64,
    /// Bytes of their NARs, each path's counted: what clients would fetch, not compressed.
    pub logical_bytes: u64,
    /// Bytes at rest of the chunks that they need, each chunk once.
    pub stored_bytes: u64,
    /// Those of them that no other cache needs: what would be freed without this cache.
    pub own_bytes: u64,
    /// The others.
    pub shared_bytes: u64,
    /// When it was counted, in seconds since 1970.
    pub counted: i64,
}

/// Answer to `POST /api/v1/caches/{cache}/purge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgedCache {
    /// Its name, which is free again.
    pub name: String,
    /// How many paths it had.
    pub paths: u64,
    /// Whether all of it is gone; else the servers go on, and nothing brings it back.
    pub is_gone: bool,
    /// Bytes at rest that no other cache needed, as the last collection counted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_bytes: Option<u64>,
    /// How long collections leave alone what nothing needs.
    pub grace: Seconds,
}

/// A cache's signing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    /// `name:base64`, as nix.conf's `trusted-public-keys` wants it.
    pub public_key: String,
    /// When it was made.
    pub created: i64,
    /// From when on it signs no more; may lie ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<i64>,
}

/// Answer to `GET /api/v1/caches`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheList {
    /// Those that the token may know of, by name.
    pub caches: Vec<CacheDetails>,
    /// What to ask for as `after` to get the rest; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Body of `POST /api/v1/caches/{cache}/rename`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameCache {
    /// The new name.
    pub name: String,
}

/// Body of `POST /api/v1/caches/{cache}/rotate-key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateKey {
    /// For how long the old keys go on signing.
    pub overlap: Seconds,
    /// The new key in Nix's format, instead of one that the server makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SecretText>,
}
