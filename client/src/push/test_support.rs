//! Values that the unit tests of a push share: a cache, paths, and the options of a plain push.

use std::sync::Arc;

use snowbank_core::cut::CutParams;
use snowbank_core::hash::NarHash;
use snowbank_core::signing::SecretKey;
use snowbank_core::store_path::{StoreDir, StorePath};
use snowbank_core::wire::{CacheInfo, Limits};

use super::plan::SelectedPath;
use super::target::Target;
use super::{Ledger, LedgerOptions, PushOptions};
use crate::config::PathFilter;
use crate::progress::{Progress, Style};
use crate::store::PathInfo;

/// A plain push of a closure.
pub(super) const PUSH_OPTIONS: PushOptions = PushOptions {
    jobs: 3,
    closure: true,
    upstream_filter: true,
    dry_run: false,
    verify_present: false,
    expires: None,
    filter: PathFilter::NONE,
    logs: false,
    pin: None,
};

/// The key that the cache signs with.
pub(super) fn cache_key() -> SecretKey {
    SecretKey::from_seed("cache-1", [3; 32]).unwrap()
}

/// The cache `main`, with the limits of a real server.
pub(super) fn cache_info() -> CacheInfo {
    CacheInfo {
        name: "main".to_owned(),
        public: true,
        store_dir: "/nix/store".to_owned(),
        public_keys: vec![cache_key().public().to_string()],
        priority: 41,
        upstream_keys: vec!["upstream-1".to_owned()],
        cut: CutParams::DEFAULT,
        compression_level: 1,
        limits: Limits {
            bundle_bytes: 8 << 20,
            bundle_entries: 8192,
            names_per_request: 8192,
            paths_per_request: 256,
            paths_per_query: 4096,
            manifest_bytes: 16 << 20,
            commit_nar_bytes: u64::MAX,
        },
        permissions: vec!["push".to_owned()],
        retired_keys: Vec::new(),
        url: None,
        server_version: "0".to_owned(),
    }
}

pub(super) fn target() -> Target {
    Target::new(cache_info(), &StoreDir::default()).unwrap()
}

/// A ledger that nobody sees.
pub(super) fn ledger() -> Ledger {
    Ledger::open(LedgerOptions::default(), &Arc::new(Progress::new(Style::Silent))).unwrap()
}

pub(super) fn path(number: usize) -> StorePath {
    StorePath::from_base_name(&format!("{}-p{number:06}", "0".repeat(32))).unwrap()
}

/// A path of 1,000 bytes with references to the paths of these numbers.
pub(super) fn path_info(path: StorePath, references: &[usize]) -> PathInfo {
    PathInfo {
        path,
        nar_hash: NarHash::from_bytes([1; 32]),
        nar_size: 1000,
        references: references.iter().copied().map(self::path).collect(),
        deriver: None,
        signatures: Vec::new(),
        ultimate: false,
        ca: None,
        registration_time: 0,
    }
}

pub(super) fn paths(selected: &[SelectedPath]) -> Vec<StorePath> {
    selected.iter().map(|path| path.info.path.clone()).collect()
}
