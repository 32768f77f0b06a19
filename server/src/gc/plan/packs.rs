//! The live packs, and how much of each is needed: about 60 bytes of memory a pack.

use std::collections::HashMap;

use super::super::GcError;
use crate::db::caches::DomainId;
use crate::db::packs::{PackId, PackState};
use crate::db::{self, Db};

/// Rows read at a time.
const PAGE: u32 = 4_000;

/// A live pack, and how much of it is needed.
#[derive(Debug, Clone)]
pub(in crate::gc) struct PackUse {
    pub(in crate::gc) domain: DomainId,
    pub(in crate::gc) bytes: u64,
    /// Whether it is older than the grace period.
    pub(in crate::gc) is_old: bool,
    /// Chunk rows in it that stay. A record that caches of several domains share counts for each.
    pub(in crate::gc) chunks: u64,
    /// Bytes of their records.
    pub(in crate::gc) live_bytes: u64,
}

impl PackUse {
    /// Counts a chunk row that stays.
    pub(in crate::gc) fn keep_chunk(&mut self, len: u32) {
        self.chunks += 1;
        self.live_bytes += u64::from(len);
    }

    /// Whether no chunk row is left in it, and none can come from a push under way.
    pub(in crate::gc) const fn is_claimable(&self) -> bool {
        self.is_old && self.chunks == 0
    }

    /// Bytes that nothing needs.
    pub(in crate::gc) const fn dead_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.live_bytes)
    }
}

/// Every live pack.
#[derive(Debug, Default)]
pub(in crate::gc) struct PackUses(HashMap<PackId, PackUse>);

impl FromIterator<(PackId, PackUse)> for PackUses {
    fn from_iter<T: IntoIterator<Item = (PackId, PackUse)>>(packs: T) -> Self {
        Self(packs.into_iter().collect())
    }
}

impl PackUses {
    /// Reads all of them, with no chunk counted yet.
    pub(in crate::gc) async fn load(db: &Db, unneeded_before: i64) -> Result<Self, GcError> {
        let mut packs = HashMap::new();
        let mut after = PackId(0);
        loop {
            let page = db::packs::page(db.reader().await?.exec(), after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(Self(packs)) };
            after = last.id;
            for pack in page.into_iter().filter(|pack| pack.state == PackState::Live) {
                let is_old = pack.created <= unneeded_before;
                let (domain, bytes) = (pack.domain, pack.bytes);
                packs.insert(pack.id, PackUse { domain, bytes, is_old, chunks: 0, live_bytes: 0 });
            }
        }
    }

    pub(in crate::gc) fn iter(&self) -> impl Iterator<Item = (PackId, &PackUse)> {
        self.0.iter().map(|(id, pack)| (*id, pack))
    }

    pub(in crate::gc) fn get(&self, id: PackId) -> Option<&PackUse> {
        self.0.get(&id)
    }

    pub(in crate::gc) fn get_mut(&mut self, id: PackId) -> Option<&mut PackUse> {
        self.0.get_mut(&id)
    }

    pub(in crate::gc) fn remove(&mut self, id: PackId) -> Option<PackUse> {
        self.0.remove(&id)
    }

    /// Those that can be claimed, by id.
    pub(in crate::gc) fn claimable(&self) -> Vec<PackId> {
        let mut ids: Vec<PackId> =
            self.iter().filter(|(_, pack)| pack.is_claimable()).map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Bytes of their objects.
    pub(in crate::gc) fn stored_bytes(&self) -> u64 {
        self.0.values().map(|pack| pack.bytes).sum()
    }

    /// Bytes of their objects that nothing needs.
    pub(in crate::gc) fn dead_bytes(&self) -> u64 {
        self.0.values().map(PackUse::dead_bytes).sum()
    }
}
