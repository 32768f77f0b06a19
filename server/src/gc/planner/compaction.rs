//! Which packs are worth rewriting: those of which little is needed, and small ones once they are
//! many.

use std::collections::BTreeMap;

use super::super::plan::Rewrites;
use super::super::plan::packs::{PackUse, PackUses};
use crate::db::caches::DomainId;
use crate::db::packs::PackId;

/// A pack below this is small.
const SMALL_PACK: u64 = 4 << 20;
/// So many small packs of a domain are worth putting together, or as many as have this many bytes.
const MIN_SMALL_PACKS: usize = 8;
const MIN_SMALL_BYTES: u64 = 8 << 20;
/// A pack of which this share is needed, or less, is worth rewriting; near the server's size limit,
/// the other.
const MAX_LIVE_SHARE: f64 = 0.5;
const MAX_LIVE_SHARE_NEAR_LIMIT: f64 = 0.9;

/// How much may be rewritten.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Bytes that may be written in one run.
    bytes: u64,
    /// A pack of which this share is needed, or less, is worth rewriting.
    max_live_share: f64,
}

impl Budget {
    /// `is_pressed` says that the server is near its size limit.
    pub(super) const fn new(bytes: u64, is_pressed: bool) -> Self {
        let max_live_share = if is_pressed { MAX_LIVE_SHARE_NEAR_LIMIT } else { MAX_LIVE_SHARE };
        Self { bytes, max_live_share }
    }
}

/// The packs that are worth it, within the budget.
#[expect(clippy::cast_precision_loss, reason = "a share of a size")]
pub(super) fn choose(packs: &PackUses, budget: Budget) -> Rewrites {
    let mut by_domain: BTreeMap<DomainId, (Vec<_>, Vec<_>)> = BTreeMap::new();
    for (id, pack) in packs.iter().filter(|(_, pack)| pack.is_old && pack.chunks > 0) {
        let (dead, small) = by_domain.entry(pack.domain).or_default();
        if pack.live_bytes as f64 <= pack.bytes as f64 * budget.max_live_share {
            dead.push((id, pack));
        } else if pack.bytes < SMALL_PACK {
            small.push((id, pack));
        }
    }
    let mut left = budget.bytes;
    let mut chosen = BTreeMap::new();
    for (domain, (mut dead, mut small)) in by_domain {
        // The packs that free most for the bytes that are written come first.
        dead.sort_by_key(|(id, pack)| {
            (pack.live_bytes.saturating_mul(1_000) / pack.bytes.max(1), *id)
        });
        small.sort_by_key(|(id, _)| *id);
        if small.len() < MIN_SMALL_PACKS
            && small.iter().map(|(_, pack)| pack.live_bytes).sum::<u64>() < MIN_SMALL_BYTES
        {
            small.clear();
        }
        let mut within = |(id, pack): (PackId, &PackUse)| {
            left = left.checked_sub(pack.live_bytes)?;
            Some(id)
        };
        let mut ids: Vec<PackId> = dead.into_iter().map_while(&mut within).collect();
        ids.extend(small.into_iter().map_while(&mut within));
        ids.sort_unstable();
        if !ids.is_empty() {
            chosen.insert(domain, ids);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(bytes: u64, live_bytes: u64) -> PackUse {
        let chunks = u64::from(live_bytes > 0);
        PackUse { domain: DomainId::SHARED, bytes, is_old: true, chunks, live_bytes }
    }

    fn chosen(packs: &[PackUse], budget: u64) -> Vec<i64> {
        let uses = (1..).map(PackId).zip(packs.iter().cloned()).collect();
        choose(&uses, Budget::new(budget, false)).into_values().flatten().map(|id| id.0).collect()
    }

    #[test]
    fn mostly_dead_packs_are_chosen_within_the_budget_the_deadest_first() {
        let packs = [
            pack(10 << 20, 5 << 20),
            pack(10 << 20, 6 << 20),
            pack(10 << 20, 1 << 20),
            pack(10 << 20, 0),
        ];
        assert_eq!(chosen(&packs, 1 << 30), [1, 3]);
        assert_eq!(chosen(&packs, 2 << 20), [3]);
    }

    #[test]
    fn small_packs_are_put_together_once_they_are_many() {
        let small = pack(1 << 20, 1_000_000);
        assert!(chosen(&vec![small.clone(); 7], 1 << 30).is_empty());
        assert_eq!(chosen(&vec![small.clone(); 8], 1 << 30).len(), 8);
        assert_eq!(chosen(&vec![pack(3 << 20, 3 << 20); 3], 1 << 30).len(), 3);
        let young = PackUse { is_old: false, ..small };
        assert!(chosen(&vec![young; 20], 1 << 30).is_empty());
    }
}
