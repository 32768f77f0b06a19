//! Temporary roots: what a push reads stays on the disk until the push is over.
//!
//! Source: Nix's `addTempRoot` in `gc.cc`. A path that is made a root and is valid *afterwards* is
//! kept, with all that it refers to, also from a collection that is under way. So each path is made
//! a root first, and asked about then.

use std::sync::atomic::Ordering;

use snowbank_core::store_path::StorePath;

use super::{Store, StoreError};

impl Store {
    /// Makes `paths` temporary roots where Nix gives some: one whose store is read-only, which
    /// nobody can collect either, does not have to. They need not be there yet.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn keep(&self, paths: &[StorePath]) -> Result<(), StoreError> {
        if self.shared.is_rootless.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.add_temporary_roots(paths).await {
            Err(StoreError::Nix(message)) => {
                self.shared.is_rootless.store(true, Ordering::Relaxed);
                tracing::warn!(
                    "Nix does not keep the paths from garbage collections meanwhile \
                     ({message}); do not collect"
                );
                Ok(())
            }
            result => result,
        }
    }
}
