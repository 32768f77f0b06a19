//! The settings of a cache.

use std::path::PathBuf;

use clap::Args;
use snowbank_core::units::{Limit, Seconds, Size};
use snowbank_core::wire::admin::CacheSettings;

/// The settings of a cache, for `create` and `configure`.
#[derive(Debug, Clone, Default, Args)]
pub struct CacheChanges {
    /// Anyone may read it
    #[arg(long, conflicts_with = "private")]
    public: bool,
    /// Only tokens that name it may read it
    #[arg(long)]
    private: bool,
    /// No upstream: paths are pushed whoever signed them
    #[arg(long, conflicts_with = "upstream_keys")]
    no_upstream_keys: bool,
    /// Its rank among substituters; Nix asks lower numbers first, and cache.nixos.org has 40
    #[arg(long, value_name = "N")]
    priority: Option<u32>,
    /// Whether Nix asks it about many paths at once
    #[arg(long, value_name = "BOOL")]
    want_mass_query: Option<bool>,
    /// Paths signed by a key of this name are not pushed; may be given several times, and replaces
    /// the list
    #[arg(long = "upstream-key", value_name = "NAME")]
    upstream_keys: Option<Vec<String>>,
    /// The zstd level that its pushers are asked for, 1 (fast) to 19 (small)
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    compression_level: Option<i32>,
    /// What it is for; shown in lists
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How long a path is kept that nobody pushes or reads: such as 90d, `never` (kept for ever) or
    /// `default`
    #[arg(long, value_name = "TIME")]
    retention: Option<Limit<Seconds>>,
    /// How much it may hold: such as 200GB, or `none`
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Limit<Size>>,
}

impl CacheChanges {
    /// As a message.
    #[must_use]
    pub fn into_settings(self) -> CacheSettings {
        CacheSettings {
            public: (self.public || self.private).then_some(self.public),
            priority: self.priority,
            want_mass_query: self.want_mass_query,
            upstream_keys: if self.no_upstream_keys {
                Some(Vec::new())
            } else {
                self.upstream_keys
            },
            compression_level: self.compression_level,
            description: self.description,
            retention: self.retention,
            max_size: self.max_size,
        }
    }
}

/// The properties of a cache that never change, for `create`.
#[derive(Debug, Clone, Default, Args)]
pub struct NewCacheArgs {
    /// Share no chunks with other caches, so that nobody who pushes elsewhere can learn what is in
    /// it
    #[arg(long)]
    pub isolated: bool,
    /// The store that its paths belong to [default: /nix/store]
    #[arg(long, value_name = "DIR")]
    pub store_dir: Option<String>,
    /// Sign with the key in this file, as `nix key generate-secret` writes it, instead of a new one
    #[arg(long, value_name = "FILE")]
    pub signing_key_file: Option<PathBuf>,
}
