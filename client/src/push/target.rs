//! The cache that is pushed to, as the server describes it, and the check of its receipts.

use std::sync::Arc;

use snowbank_core::receipt::Receipt;
use snowbank_core::signing::PublicKey;
use snowbank_core::store_path::{StoreDir, StorePath};
use snowbank_core::wire::CacheInfo;

use super::PushError;
use crate::store::PathInfo;

/// The cache that is pushed to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) cache: CacheInfo,
    pub(super) store_dir: StoreDir,
    keys: Arc<[PublicKey]>,
}

impl Target {
    /// The target for the paths of a store.
    ///
    /// # Errors
    /// The cache is for another store directory, or has cut parameters or keys that are of no use.
    pub(super) fn new(cache: CacheInfo, local: &StoreDir) -> Result<Self, PushError> {
        if cache.store_dir != local.as_str() {
            return Err(PushError::StoreDir { cache: cache.store_dir, local: local.clone() });
        }
        cache.cut.validate()?;
        let parse = |key: &String| key.parse().map_err(|_| PushError::Key { key: key.clone() });
        let keys = cache.public_keys.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { cache, store_dir: local.clone(), keys })
    }

    /// The path with the store directory before it.
    pub(super) fn full(&self, path: &StorePath) -> String {
        path.full(&self.store_dir)
    }

    /// The cache's keys.
    pub(super) fn keys(&self) -> Arc<[PublicKey]> {
        Arc::clone(&self.keys)
    }

    /// Whether `receipt` is one for the path as it is here, signed by a key of the cache.
    pub(super) fn check(&self, receipt: &Receipt, info: &PathInfo) -> Result<(), &'static str> {
        self.check_signed(receipt, info, receipt.verify(&self.keys))
    }

    /// [`Target::check`] for a receipt whose signature was verified before, with the result
    /// `is_signed`.
    pub(super) fn check_signed(
        &self,
        receipt: &Receipt,
        info: &PathInfo,
        is_signed: bool,
    ) -> Result<(), &'static str> {
        if receipt.cache != self.cache.name || receipt.store_path != self.full(&info.path) {
            Err("the server's receipt is for another path or cache")
        } else if (receipt.nar_hash, receipt.nar_size) != (info.nar_hash, info.nar_size) {
            Err("the server's receipt has another NAR hash or size than the path here")
        } else if !is_signed {
            Err("the server's receipt is not signed by a key of the cache")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use snowbank_core::hash::NarHash;
    use snowbank_core::receipt::ReceiptStatus;
    use snowbank_core::signing::SecretKey;

    use super::*;
    use crate::exit::Exit;
    use crate::push::test_support::{cache_key, path, path_info, target};

    #[test]
    fn receipts_are_checked_against_path_cache_and_keys() {
        let (target, info) = (target(), path_info(path(1), &[]));
        let receipt = |change: &dyn Fn(&mut Receipt), key: &SecretKey| {
            let mut receipt = Receipt {
                status: ReceiptStatus::Present,
                store_path: target.full(&info.path),
                nar_hash: info.nar_hash,
                nar_size: info.nar_size,
                cache: "main".to_owned(),
                time: 1,
                signatures: Vec::new(),
                stats: None,
            };
            change(&mut receipt);
            receipt.sign(key);
            target.check(&receipt, &info)
        };
        assert_eq!(receipt(&|_| {}, &cache_key()), Ok(()));
        assert!(receipt(&|receipt| receipt.cache = "other".to_owned(), &cache_key()).is_err());
        assert!(receipt(&|receipt| receipt.store_path.push('x'), &cache_key()).is_err());
        assert!(receipt(&|receipt| receipt.nar_size += 1, &cache_key()).is_err());
        assert!(
            receipt(&|receipt| receipt.nar_hash = NarHash::from_bytes([2; 32]), &cache_key())
                .is_err()
        );
        assert!(receipt(&|_| {}, &SecretKey::from_seed("cache-1", [4; 32]).unwrap()).is_err());
    }

    #[test]
    fn a_cache_for_another_store_is_refused() {
        let error = Target::new(target().cache, &StoreDir::new("/gnu/store").unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("/gnu/store") && error.to_string().contains("/nix/store"),
            "{error}"
        );
        assert_eq!(error.exit(), Exit::Refused);
    }
}
