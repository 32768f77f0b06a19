//! Objects: those of packs that were claimed go; those that no row names are found, claimed once
//! they have been so for the grace period, and go then (C3).
//!
//! Before objects go the storage is found to be the database's, by a look of that moment: they may
//! be another one's by now.
//!
//! An object goes a while after its pack was claimed, so that whoever is reading it can end. The
//! row goes after the object, so that one which could not be removed is tried again. The row of an
//! object that had none stays for a month: a writer that slept since it put the object finds the
//! key taken when it comes to commit its rows.

use std::collections::HashSet;

use snowbank_core::pack::PackKey;
use snowbank_core::units::Seconds;

use super::GcError;
use super::run::Run;
use crate::db::counters::{self, Counter};
use crate::db::packs::PackId;
use crate::db::{self, unnamed};
use crate::pack::pack_object_key;
use crate::storage::Storage;

/// Objects of one request.
const BATCH: u32 = 1_000;
/// Objects that are removed between two looks at whose the storage is.
const AT_ONCE: usize = 100;
/// How long a claimed key stays taken.
const TAKEN: Seconds = Seconds::new(30 * 86_400);

impl Run<'_> {
    /// Lists the storage, notes what no row names, and claims what was noted a grace period ago.
    pub(super) async fn find_unnamed(&mut self, storage: &Storage) -> Result<(), GcError> {
        let mut after: Option<String> = None;
        loop {
            let page = storage.list("packs/", after.as_deref(), BATCH as usize).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            // What is not named like a pack is not ours to judge.
            let keys: Vec<PackKey> = page.iter().filter_map(|key| pack_key(key)).collect();
            let named = unnamed::named(self.db.reader().await?.exec(), &keys).await?;
            let found: Vec<PackKey> = keys.into_iter().filter(|key| !named.contains(key)).collect();
            self.report.unnamed_objects += found.len() as u64;
            if !self.report.dry_run && !found.is_empty() {
                let mut tx = self.db.upkeep_tx().await?;
                unnamed::note(tx.exec(), &found, self.ages.now()).await?;
                tx.commit().await?;
            }
        }
        if self.report.dry_run {
            return Ok(());
        }
        loop {
            let keys = unnamed::seen_until(self.db.reader().await?.exec(), self.grace, 256).await?;
            if keys.is_empty() {
                break;
            }
            crate::fault::pause("gc-before-claim").await;
            let mut held = self.begin().await?;
            for key in &keys {
                let id = PackId(counters::reserve(held.tx.exec(), Counter::Pack, 1).await?);
                db::packs::claim_unnamed(held.tx.exec(), id, key, self.ages.now()).await?;
            }
            unnamed::forget(held.tx.exec(), &keys).await?;
            self.end(held).await?;
        }
        let mut tx = self.db.upkeep_tx().await?;
        unnamed::forget_named(tx.exec()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Removes the objects of claimed packs, and then their rows. One that could not be removed is
    /// not tried again in the same run.
    pub(super) async fn remove_objects(&mut self, storage: &Storage) -> Result<(), GcError> {
        let mut after = PackId(0);
        loop {
            let mut dead =
                db::packs::dead(self.db.reader().await?.exec(), after, self.objects, BATCH).await?;
            let Some(last) = dead.last() else { break };
            after = last.id;
            dead.retain(|pack| !self.stuck.contains(&pack.id));
            let keys: Vec<String> = dead.iter().map(|pack| pack_object_key(&pack.key)).collect();
            let mut failed = Vec::new();
            for keys in keys.chunks(AT_ONCE) {
                crate::fault::pause("gc-before-object-delete").await;
                self.chain.confirm().await?;
                failed.extend(storage.delete_many(keys).await);
            }
            if let Some((_, error)) = failed.first() {
                tracing::warn!(%error, objects = failed.len(), "objects could not be removed; the \
                    next collection tries again");
            }
            self.report.failed_objects += failed.len() as u64;
            let failed: HashSet<&str> = failed.iter().map(|(key, _)| key.as_str()).collect();
            let mut gone: Vec<PackId> = Vec::with_capacity(dead.len());
            for (pack, key) in dead.iter().zip(&keys) {
                if failed.contains(key.as_str()) {
                    self.stuck.insert(pack.id);
                } else {
                    gone.push(pack.id);
                }
            }
            self.report.objects += gone.len() as u64;
            for batch in gone.chunks(256) {
                let mut tx = self.db.upkeep_tx().await?;
                db::packs::remove_dead(tx.exec(), batch).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }

    /// Forgets keys that were claimed so long ago that nobody can come late any more.
    pub(super) async fn forget_dead(&mut self) -> Result<(), GcError> {
        let mut tx = self.db.upkeep_tx().await?;
        db::packs::forget_dead(tx.exec(), self.ages.cutoff(TAKEN)).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The pack whose object has this key.
fn pack_key(object: &str) -> Option<PackKey> {
    let key: PackKey = object.rsplit('/').next()?.parse().ok()?;
    (pack_object_key(&key) == object).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_like_a_pack_is_one() {
        let key = PackKey::from_bytes([7; 16]);
        assert_eq!(pack_key(&pack_object_key(&key)), Some(key));
        for other in [
            "packs/07/07",
            "packs/00/07070707070707070707070707070707",
            "packs/07/readme",
            "packs/",
        ] {
            assert_eq!(pack_key(other), None, "{other}");
        }
    }
}
