//! The bundles that are being filled. A pack is made of a bundle, and a download reads a NAR's
//! packs in the NAR's order: so two large NARs that are read at the same time fill bundles of their
//! own, and what is small shares one.

use snowbank_core::frame::Encoded;

use super::budget::Held;
use super::bundle::{Bundle, Filling};

/// Large paths with a bundle of their own at the same time; no more of them are read at a time.
pub(super) const MAX_OWN: usize = 2;

/// Bounds on one bundle.
#[derive(Debug, Clone, Copy)]
pub(super) struct BundleLimits {
    pub(super) bytes: usize,
    pub(super) entries: usize,
}

/// All bundles that are being filled; together they have less than two full bundles and a chunk.
#[derive(Debug, Default)]
pub(super) struct Fillings {
    shared: Filling,
    /// The path that a chunk was added for last is the last one.
    own: Vec<(u32, Filling)>,
}

impl Fillings {
    /// Adds a chunk of `path`; gives the bundles that are full.
    pub(super) fn add(
        &mut self,
        path: u32,
        is_large: bool,
        encoded: &Encoded,
        held: Held,
        limits: BundleLimits,
    ) -> Vec<Bundle> {
        let mut full = Vec::new();
        let filling =
            if is_large { self.own_of(path, limits, &mut full) } else { &mut self.shared };
        if !filling.fits(&encoded.header, limits.bytes, limits.entries) {
            full.extend(filling.take());
        }
        filling.add(path, encoded, held);
        if self.bytes() >= 2 * limits.bytes {
            full.extend(self.take_largest());
        }
        full
    }

    /// Everything, in as few bundles as the limits allow.
    pub(super) fn take_all(&mut self, limits: BundleLimits) -> Vec<Bundle> {
        let mut bundles = Vec::new();
        for (_, filling) in std::mem::take(&mut self.own) {
            bundles.extend(self.shared.append(filling, limits.bytes, limits.entries));
        }
        bundles.extend(self.shared.take());
        bundles
    }

    /// The bundle of a large path. The path that was added to the longest ago makes room for it: it
    /// has probably ended.
    fn own_of(&mut self, path: u32, limits: BundleLimits, full: &mut Vec<Bundle>) -> &mut Filling {
        let own = if let Some(at) = self.own.iter().position(|(own, _)| *own == path) {
            self.own.remove(at)
        } else {
            if self.own.len() == MAX_OWN {
                let (_, last) = self.own.remove(0);
                full.extend(self.shared.append(last, limits.bytes, limits.entries));
            }
            (path, Filling::default())
        };
        self.own.push(own);
        let last = self.own.len() - 1;
        &mut self.own[last].1
    }

    fn take_largest(&mut self) -> Option<Bundle> {
        let own = self.own.iter_mut().map(|(_, filling)| filling);
        own.chain([&mut self.shared]).max_by_key(|filling| filling.len())?.take()
    }

    fn bytes(&self) -> usize {
        self.shared.len() + self.own.iter().map(|(_, filling)| filling.len()).sum::<usize>()
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
    fn chunk(number: u32) -> Encoded {
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
        let (budget, mut fillings, mut full) =
            (Budget::new(100_000_000), Fillings::default(), Vec::new());
        for number in 0..40 {
            let held = budget.hold(150_000).unwrap();
            full.extend(fillings.add(number % 2, true, &chunk(number), held, LIMITS));
        }
        full.extend(fillings.take_all(LIMITS));
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
        let (budget, mut fillings, mut full) =
            (Budget::new(100_000_000), Fillings::default(), Vec::new());
        for path in 0..5 {
            let hold = || budget.hold(150_000).unwrap();
            full.extend(fillings.add(path, true, &chunk(path), hold(), LIMITS));
            full.extend(fillings.add(100 + path, false, &chunk(100 + path), hold(), LIMITS));
        }
        assert!(full.is_empty());
        let bundles = fillings.take_all(LIMITS);
        assert_eq!(bundles.iter().map(|bundle| bundle.entries.len()).collect::<Vec<_>>(), [10]);
        assert!(fillings.take_all(LIMITS).is_empty());
    }

    #[test]
    fn what_is_filled_stays_below_two_bundles() {
        let (budget, mut fillings) = (Budget::new(100_000_000), Fillings::default());
        for number in 0..200 {
            let held = budget.hold(150_000).unwrap();
            drop(fillings.add(number % 7, number % 3 != 0, &chunk(number), held, LIMITS));
            assert!(fillings.bytes() < 2 * LIMITS.bytes + 100_100, "{}", fillings.bytes());
        }
    }
}
