//! The numbers that bound a push: memory, requests, and work under way.

use std::time::Duration;

use snowbank_core::bundle::{DEFAULT_BUNDLE_BYTES, MAX_BUNDLE_ENTRIES, MIN_BUNDLE_BYTES};
use snowbank_core::wire::CacheInfo;

use super::super::bundle_builders::BundleLimits;
use super::super::schedule::BatchLimits;

/// Questions, bundles and commits under way at a time.
pub(super) const MAX_QUESTIONS: usize = 4;
pub(super) const MAX_BUNDLES: usize = 3;
pub(super) const MAX_COMMITS: usize = 4;
/// Most events that are handled before new work is started.
pub(super) const MAX_EVENTS_IN_A_ROW: usize = 256;
/// Time between two looks at the progress.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// Longest wait for commits under way when a push is given up.
pub(super) const MAX_WIND_DOWN: Duration = Duration::from_secs(10);

/// Bounds on a push's memory and on the size of its requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct PipelineLimits {
    /// Bytes of chunks, frames and bundles in memory.
    pub(super) budget_bytes: u32,
    /// The weight of the manifests of open paths, see [`super::read`].
    pub(super) open_weight: u64,
    /// A window is asked about when its chunks have this many bytes,
    pub(super) window_bytes: usize,
    /// or are so many.
    pub(super) window_names: usize,
    /// The first question is asked sooner, and the first bundle sent: until then network and server
    /// have nothing to do.
    pub(super) first_window_bytes: usize,
    pub(super) first_bundle_bytes: usize,
    /// Bounds on one bundle.
    pub(super) bundle: BundleLimits,
    /// Bounds on one commit.
    pub(super) batch: BatchLimits,
    /// Treat every chunk with slots as one whose slots do not stay open: for tests.
    pub(super) never_open: bool,
}

impl PipelineLimits {
    /// Limits that `cache` accepts, and proxies that let at most 1 MiB through.
    pub(super) fn for_cache(cache: &CacheInfo) -> Self {
        let limits = &cache.limits;
        let bundle_bytes = usize::try_from(limits.bundle_bytes).unwrap_or(usize::MAX);
        Self {
            budget_bytes: 64 << 20,
            open_weight: 32 << 20,
            window_bytes: 8 << 20,
            window_names: (limits.names_per_request as usize).clamp(1, 2048),
            first_window_bytes: 2 << 20,
            first_bundle_bytes: 1 << 20,
            bundle: BundleLimits {
                bytes: bundle_bytes.clamp(MIN_BUNDLE_BYTES, DEFAULT_BUNDLE_BYTES),
                entries: (limits.bundle_entries as usize).clamp(1, MAX_BUNDLE_ENTRIES),
            },
            batch: BatchLimits {
                paths: (limits.paths_per_request as usize).clamp(1, 256),
                request_bytes: 512 << 10,
                nar_bytes: limits.commit_nar_bytes.min(64 << 20),
            },
            never_open: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use snowbank_core::chunk::MAX_CHUNK_RAW_LEN;

    use super::*;
    use crate::push::test_support::cache_info;

    #[test]
    fn a_window_and_the_open_bundles_leave_room_for_a_chunk() {
        let limits = PipelineLimits::for_cache(&cache_info());
        let chunk = MAX_CHUNK_RAW_LEN as usize;
        let queued = (limits.window_bytes + chunk) + (2 * limits.bundle.bytes + chunk);
        // Half as much again for the memory of chunks besides their bytes.
        let with_overhead = |bytes: usize| bytes + bytes / 2;
        assert!(
            with_overhead(queued) + with_overhead(chunk) <= limits.budget_bytes as usize,
            "{limits:?}"
        );
    }
}
