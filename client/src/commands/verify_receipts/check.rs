//! One receipt against one cache: the signature first, then what the cache serves.

use std::fmt;

use snowbank_core::cache_name::CacheName;
use snowbank_core::hash::NarHash;
use snowbank_core::receipt::Receipt;
use snowbank_core::signing::PublicKey;
use snowbank_core::store_path::{StoreDir, StorePath};

use super::super::receipts::{NotSigned, ReceiptKeys};
use crate::api::Api;
use crate::config::TargetServer;
use crate::exit::{Exit, Failure};

/// What a check found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is as the receipt says.
    Holds {
        /// The name of the key that signed it.
        key: String,
    },
    /// It names a cache that cannot be one.
    NoSuchCache,
    /// No signature is by a key that counts.
    NotSigned(NotSigned),
    /// It names a path that cannot be one.
    BadPath,
    /// The cache does not serve the path any more.
    Gone,
    /// The cache serves the path with other contents.
    Differs {
        /// What it serves: hash and size in bytes.
        served: (NarHash, u64),
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds { key } => write!(f, "holds, signed by {key}"),
            Self::NoSuchCache => f.write_str("the receipt names no cache"),
            Self::NotSigned(reason) => reason.fmt(f),
            Self::BadPath => {
                f.write_str("the receipt names no path of the cache's store directory")
            }
            Self::Gone => f.write_str("the cache no longer serves it; push it again"),
            Self::Differs { served: (hash, size) } => {
                write!(f, "the cache serves other contents: {hash}, {size} bytes")
            }
        }
    }
}

/// A cache, asked for its keys.
pub(super) struct CacheChecker {
    api: Api,
    keys: ReceiptKeys,
    store_dir: StoreDir,
}

impl CacheChecker {
    /// Asks `server` about `cache`; keys that are `pinned` replace those that it names.
    pub(super) async fn open(
        server: &TargetServer,
        cache: &str,
        pinned: &[PublicKey],
    ) -> Result<Self, Failure> {
        let cache = CacheName::new(cache).map_err(|error| {
            Failure::new(Exit::Receipt, error).context("a receipt names no cache")
        })?;
        let api = Api::new(&server.cache(cache))?;
        let info = api.cache_info().await?;
        let keys = ReceiptKeys::of(&info, pinned)?;
        let store_dir = StoreDir::new(&info.store_dir).map_err(|error| {
            let text =
                format!("the server says its store directory is {:?}: {error}", info.store_dir);
            Failure::new(Exit::Server, anyhow::anyhow!(text))
        })?;
        Ok(Self { api, keys, store_dir })
    }

    /// Checks one receipt.
    pub(super) async fn check(&self, receipt: &Receipt) -> Result<Verdict, Failure> {
        let key = match self.keys.signer(receipt) {
            Ok(key) => key,
            Err(reason) => return Ok(Verdict::NotSigned(reason)),
        };
        let Ok(path) = StorePath::parse(&self.store_dir, &receipt.store_path) else {
            return Ok(Verdict::BadPath);
        };
        Ok(match self.served(&path).await? {
            None => Verdict::Gone,
            Some(served) if served != (receipt.nar_hash, receipt.nar_size) => {
                Verdict::Differs { served }
            }
            Some(_) => Verdict::Holds { key },
        })
    }

    /// NAR hash and size that the cache serves for `path`; `None` when it has no such path.
    async fn served(&self, path: &StorePath) -> Result<Option<(NarHash, u64)>, Failure> {
        let info = self.api.narinfo(&self.store_dir, path).await?;
        // The URL has only the hash: another name with that hash is another path.
        Ok(info.filter(|info| info.store_path == *path).map(|info| (info.nar_hash, info.nar_size)))
    }
}
