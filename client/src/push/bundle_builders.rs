//! The open bundles. The server makes a pack of each bundle, and a download reads a NAR's packs in
//! the NAR's order. So two large NARs that are read at the same time fill bundles of their own, and
//! all small ones share one. Sending a bundle is left to the pipeline.

use snowbank_core::frame::EncodedChunk;

use super::budget::Permit;
use super::bundle::{Bundle, BundleBuilder};

/// Most large paths with a bundle of their own at the same time, and most that are read at a time.
pub(super) const MAX_LARGE_PATHS: usize = 2;

/// Bounds on one bundle.
#[derive(Debug, Clone, Copy)]
pub(super) struct BundleLimits {
    pub(super) bytes: usize,
    pub(super) entries: usize,
}

/// All open bundles; together they have less than two full bundles and a chunk.
#[derive(Debug, Default)]
pub(super) struct BundleBuilders {
    shared: BundleBuilder,
    /// By large path, ordered by the time of its last chunk.
    own: Vec<(u32, BundleBuilder)>,
}

impl BundleBuilders {
    /// Adds a chunk of `path`; gives the bundles that are full.
    pub(super) fn add(
        &mut self,
        path: u32,
        is_large: bool,
        encoded: &EncodedChunk,
        permit: Permit,
        limits: BundleLimits,
    ) -> Vec<Bundle> {
        let mut full = Vec::new();
        let builder =
            if is_large { self.own_of(path, limits, &mut full) } else { &mut self.shared };
        if !builder.fits(&encoded.header, limits.bytes, limits.entries) {
            full.extend(builder.take());
        }
        builder.add(path, encoded, permit);
        if self.bytes() >= 2 * limits.bytes {
            full.extend(self.take_largest());
        }
        full
    }

    /// All chunks, in as few bundles as the limits allow.
    pub(super) fn take_all(&mut self, limits: BundleLimits) -> Vec<Bundle> {
        let mut bundles = Vec::new();
        for (_, builder) in std::mem::take(&mut self.own) {
            bundles.extend(self.shared.append(builder, limits.bytes, limits.entries));
        }
        bundles.extend(self.shared.take());
        bundles
    }

    /// The bundle of a large path. The path that was added to the longest ago makes room for it: it
    /// has probably ended.
    fn own_of(
        &mut self,
        path: u32,
        limits: BundleLimits,
        full: &mut Vec<Bundle>,
    ) -> &mut BundleBuilder {
        let own = if let Some(at) = self.own.iter().position(|(own, _)| *own == path) {
            self.own.remove(at)
        } else {
            if self.own.len() == MAX_LARGE_PATHS {
                let (_, last) = self.own.remove(0);
                full.extend(self.shared.append(last, limits.bytes, limits.entries));
            }
            (path, BundleBuilder::default())
        };
        self.own.push(own);
        let last = self.own.len() - 1;
        &mut self.own[last].1
    }

    fn take_largest(&mut self) -> Option<Bundle> {
        let own = self.own.iter_mut().map(|(_, builder)| builder);
        own.chain([&mut self.shared]).max_by_key(|builder| builder.len())?.take()
    }

    /// Bytes of all of them together.
    pub(super) fn bytes(&self) -> usize {
        self.shared.len() + self.own.iter().map(|(_, builder)| builder.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use snowbank_core::chunk::Chunk;
    use snowbank_core::frame::FrameEncoder;

    use super::*;
    use crate::push::budget::Budget;

    const LIMITS: BundleLimits = BundleLimits { bytes: 1 << 20, entries: 1_000 };

    /// A chunk of 100,000 bytes that do not compress.
    fn chunk(number: u32) -> EncodedChunk {
        let mut state = u64::from(number) + 1;
        let bytes = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        let chunk = Chunk::closed(bytes.take(100_000).collect());
        FrameEncoder::new(1).encode(&chunk, &chunk.name()).unwrap()
    }

    fn paths(bundle: &Bundle) -> Vec<u32> {
        bundle.entries.iter().map(|entry| entry.path).collect()
    }

    #[test]
    fn two_large_paths_in_turns_fill_bundles_of_their_own() {
        let (budget, mut builders, mut full) =
            (Budget::new(100_000_000), BundleBuilders::default(), Vec::new());
        for number in 0..40 {
            let permit = budget.acquire(150_000).unwrap();
            full.extend(builders.add(number % 2, true, &chunk(number), permit, LIMITS));
        }
        full.extend(builders.take_all(LIMITS));
        for bundle in &full[..full.len() - 1] {
            assert!(
                paths(bundle).is_sorted() && bundle.body.len() <= LIMITS.bytes,
                "{:?}",
                paths(bundle)
            );
        }
        assert!(full.len() <= 5, "{} bundles", full.len());
        assert_eq!(full.iter().map(|bundle| bundle.entries.len()).sum::<usize>(), 40);
        let of_one = |bundle: &&Bundle| paths(bundle).iter().all(|path| *path == paths(bundle)[0]);
        assert!(full.iter().filter(of_one).count() >= 3);
        drop(full);
        assert_eq!(budget.free(), 100_000_000);
    }

    #[test]
    fn what_is_left_of_large_paths_goes_with_what_is_small() {
        let (budget, mut builders, mut full) =
            (Budget::new(100_000_000), BundleBuilders::default(), Vec::new());
        for path in 0..5 {
            let hold = || budget.acquire(150_000).unwrap();
            full.extend(builders.add(path, true, &chunk(path), hold(), LIMITS));
            full.extend(builders.add(100 + path, false, &chunk(100 + path), hold(), LIMITS));
        }
        assert!(full.is_empty());
        let bundles = builders.take_all(LIMITS);
        assert_eq!(bundles.iter().map(|bundle| bundle.entries.len()).collect::<Vec<_>>(), [10]);
        assert!(builders.take_all(LIMITS).is_empty());
    }

    #[test]
    fn what_is_filled_stays_below_two_bundles() {
        let (budget, mut builders) = (Budget::new(100_000_000), BundleBuilders::default());
        for number in 0..200 {
            let permit = budget.acquire(150_000).unwrap();
            drop(builders.add(number % 7, number % 3 != 0, &chunk(number), permit, LIMITS));
            assert!(builders.bytes() < 2 * LIMITS.bytes + 100_100, "{}", builders.bytes());
        }
    }
}
