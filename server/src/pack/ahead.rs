//! What to fetch of packs in a bucket before it is read: a request for each pack, and not one for
//! each run of chunks.
//!
//! The chunks of a deduplicated NAR lie in several packs, and the NAR goes back and forth between
//! them. A reader that has come to a pack fetches all that it will need of it soon into the cache
//! on this machine's disk.

use std::collections::BTreeMap;
use std::ops::Range;

use snowbank_core::pack::PackKey;

use super::{Packs, pack_object_key};
use crate::db::chunks::ChunkLocation;

/// A gap up to this many bytes is fetched as well. It costs less than another request.
const MAX_GAP_BYTES: u64 = 1024 * 1024;

/// Parts of packs that are worth a request each.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FetchPlan {
    packs: Vec<(PackKey, Vec<Range<u64>>)>,
    is_needed: bool,
}

impl FetchPlan {
    /// Whether there is nothing to fetch.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Whether it takes fewer requests than reading each part when its turn comes.
    #[must_use]
    pub const fn is_needed(&self) -> bool {
        self.is_needed
    }
}

impl Packs {
    /// What to fetch before `next` is read, when `later` is read after that, in parts of at most
    /// `most_bytes`.
    #[must_use]
    pub fn plan_ahead<'a>(
        &self,
        next: &[ChunkLocation],
        later: impl Iterator<Item = &'a ChunkLocation>,
        most_bytes: u64,
    ) -> FetchPlan {
        if !self.storage().is_bucket() || self.is_direct() {
            return FetchPlan::default();
        }
        let mut ahead = plan(next, later, most_bytes.min(self.read_window()));
        ahead.packs.retain(|(pack, _)| {
            next.iter().any(|chunk| chunk.pack_key == *pack && self.recent(chunk.pack).is_none())
        });
        ahead
    }

    /// Fetches what was planned, part by part, each of which takes memory. What fails is read again
    /// by whoever needs it.
    pub async fn fetch_ahead(&self, ahead: &FetchPlan) {
        for (pack, parts) in &ahead.packs {
            self.storage().fetch_ahead(&pack_object_key(pack), parts).await;
        }
    }
}

fn plan<'a>(
    next: &[ChunkLocation],
    later: impl Iterator<Item = &'a ChunkLocation>,
    most_bytes: u64,
) -> FetchPlan {
    let mut packs: BTreeMap<i64, (PackKey, Vec<Range<u64>>)> = BTreeMap::new();
    for chunk in next {
        packs
            .entry(chunk.pack.0)
            .or_insert_with(|| (chunk.pack_key, Vec::new()))
            .1
            .push(place(chunk));
    }
    let mut is_needed_later = false;
    for chunk in later {
        if let Some((_, places)) = packs.get_mut(&chunk.pack.0) {
            places.push(place(chunk));
            is_needed_later = true;
        }
    }
    let is_in_order =
        next.is_sorted_by(|one, other| one.pack != other.pack || one.offset <= other.offset);
    let turns = next.windows(2).filter(|two| two[0].pack != two[1].pack).count();
    let is_needed = is_needed_later || !is_in_order || turns >= packs.len();
    let parts =
        packs.into_values().map(|(pack, places)| (pack, merge(places, most_bytes))).collect();
    FetchPlan { packs: parts, is_needed }
}

fn place(chunk: &ChunkLocation) -> Range<u64> {
    u64::from(chunk.offset)..u64::from(chunk.offset) + u64::from(chunk.len)
}

/// Puts neighbors together, up to `most_bytes` in one part.
fn merge(mut places: Vec<Range<u64>>, most_bytes: u64) -> Vec<Range<u64>> {
    places.sort_unstable_by_key(|place| place.start);
    let mut parts: Vec<Range<u64>> = Vec::new();
    for place in places {
        match parts.last_mut() {
            Some(last)
                if place.start <= last.end.saturating_add(MAX_GAP_BYTES)
                    && place.end.max(last.end) - last.start <= most_bytes =>
            {
                last.end = last.end.max(place.end);
            }
            _ => parts.push(place),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::tests::at;
    use super::*;

    const MIB: u32 = 1 << 20;

    #[test]
    fn a_nar_that_lies_in_one_run_needs_nothing() {
        assert!(
            !plan(&[at(2, 0, 50), at(2, 50, 50), at(1, 10, 5)], [].iter(), 8 << 20).is_needed()
        );
        assert!(!plan(&[at(1, 0, 50)], [at(2, 0, 50)].iter(), 8 << 20).is_needed());
        assert!(plan(&[at(1, 50, 50), at(1, 0, 50)], [].iter(), 8 << 20).is_needed());
        assert!(plan(&[at(1, 0, 50)], [at(1, 70, 50)].iter(), 8 << 20).is_needed());
        assert!(plan(&[], [].iter(), 8 << 20).is_empty());
    }

    #[test]
    fn a_pack_that_is_come_back_to_is_fetched_by_one_request() {
        let later = [at(1, MIB, 50), at(2, 7, 7), at(1, 400, 100)];
        let ahead = plan(&[at(1, 0, 50), at(3, 100, 50)], later.iter(), 8 << 20);
        let (one, three) = (PackKey::from_bytes([1; 16]), PackKey::from_bytes([3; 16]));
        let only = |pack: PackKey, part: Range<u64>| (pack, Vec::from_iter([part]));
        assert_eq!(ahead.packs, [only(one, 0..u64::from(MIB) + 50), only(three, 100..150)]);
        let back_and_forth = plan(&[at(1, 0, 50), at(2, 0, 9), at(1, 500, 50)], [].iter(), 8 << 20);
        assert!(ahead.is_needed() && back_and_forth.is_needed());
        assert_eq!(back_and_forth.packs[0], only(one, 0..550));
    }

    #[test]
    fn what_is_far_apart_or_too_long_takes_more_requests() {
        let later = [at(1, 3 * MIB, 50), at(1, 4 * MIB, 100)];
        let ahead = plan(&[at(1, 0, 50)], later.iter(), 8 << 20);
        let mib = u64::from(MIB);
        assert_eq!(ahead.packs[0].1, vec![0..50, 3 * mib..4 * mib + 100]);
        let long: Vec<ChunkLocation> = (1..10).map(|number| at(1, number * MIB, MIB)).collect();
        let ahead = plan(&[at(1, 0, MIB)], long.iter(), 4 << 20);
        assert_eq!(ahead.packs[0].1, vec![0..4 * mib, 4 * mib..8 * mib, 8 * mib..10 * mib]);
    }
}
