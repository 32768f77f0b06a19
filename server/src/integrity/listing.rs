//! The storage's listing against the packs' rows: objects that are gone, that have another length,
//! or that no row names.
//!
//! A listing takes a while, and pushes, compaction and collection go on meanwhile. So every
//! contradiction is looked at once more before it is believed.

use roaring::RoaringTreemap;
use snowbank_core::pack::PackKey;
use thiserror::Error;

use crate::db::packs::{Pack, PackId, PackState};
use crate::db::{self, Db, DbError};
use crate::pack::{pack_object_key, pack_of_object};
use crate::storage::{Storage, StorageError};

/// Keys, and rows, that are read at a time.
const PAGE: u32 = 1_000;
/// The prefix of the packs' keys.
const PACKS: &str = "packs/";

/// The objects of the storage, compared with the rows.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// Live packs whose object is there, with the right length.
    pub(super) live: u64,
    /// Their bytes.
    pub(super) live_bytes: u64,
    /// Objects of packs that were claimed, and are yet to be removed.
    pub(super) dead: u64,
    /// Live packs without an object.
    pub(super) gone: Vec<(PackId, PackKey)>,
    /// Live packs whose object has another length than the row says, with that length.
    pub(super) odd: Vec<(Pack, u64)>,
    /// Objects that no row names, with their lengths.
    pub(super) unnamed: Vec<(PackKey, u64)>,
    /// Keys below the prefix that no pack has.
    pub(super) strange: Vec<String>,
}

/// Why the storage could not be compared with the rows.
#[derive(Debug, Error)]
pub enum ObjectsError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Lists all packs and compares them with the rows. `progress` gets how many were listed so far.
pub(super) async fn survey(
    db: &Db,
    storage: &Storage,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Objects, ObjectsError> {
    let mut found = Objects::default();
    let mut seen = RoaringTreemap::new();
    let (mut listed, mut after): (u64, Option<String>) = (0, None);
    loop {
        let page = storage.list_objects(PACKS, after.as_deref(), PAGE as usize).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        listed += page.len() as u64;
        let mut keys = Vec::with_capacity(page.len());
        for object in page {
            match pack_of_object(&object.key) {
                Some(key) => keys.push((key, object.len)),
                None => found.strange.push(object.key),
            }
        }
        let names: Vec<PackKey> = keys.iter().map(|(key, _)| *key).collect();
        let rows = db::check::packs_by_key(db.reader().await?.exec(), &names).await?;
        for (key, len) in keys {
            match rows.get(&key) {
                None => found.unnamed.push((key, len)),
                Some(pack) if pack.state == PackState::Dead => found.dead += 1,
                Some(pack) => {
                    seen.insert(number(pack.id));
                    if pack.bytes == len {
                        found.live += 1;
                        found.live_bytes += len;
                    } else {
                        found.odd.push((pack.clone(), len));
                    }
                }
            }
        }
        progress(listed);
    }
    unlisted(db, &seen, &mut found).await?;
    look_again(db, storage, found).await
}

/// Adds the live packs that were not listed.
async fn unlisted(db: &Db, seen: &RoaringTreemap, found: &mut Objects) -> Result<(), ObjectsError> {
    let mut after = PackId(0);
    loop {
        let page = db::packs::page(db.reader().await?.exec(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        let live = page
            .iter()
            .filter(|pack| pack.state == PackState::Live && !seen.contains(number(pack.id)));
        found.gone.extend(live.map(|pack| (pack.id, pack.key)));
    }
}

/// Looks once more at every contradiction.
async fn look_again(
    db: &Db,
    storage: &Storage,
    mut found: Objects,
) -> Result<Objects, ObjectsError> {
    let suspects: Vec<PackId> = found
        .gone
        .iter()
        .map(|(id, _)| *id)
        .chain(found.odd.iter().map(|(pack, _)| pack.id))
        .collect();
    (found.gone, found.odd) = (Vec::new(), Vec::new());
    for ids in suspects.chunks(PAGE as usize) {
        for pack in db::packs::lookup_many(db.reader().await?.exec(), ids).await? {
            if pack.state != PackState::Live {
                continue;
            }
            match storage.len(&pack_object_key(&pack.key)).await? {
                Some(len) if len == pack.bytes => {
                    found.live += 1;
                    found.live_bytes += len;
                }
                Some(len) => found.odd.push((pack, len)),
                // An object goes only after its row has died.
                None => {
                    let still = db::packs::lookup(db.reader().await?.exec(), pack.id).await?;
                    if still.is_some_and(|pack| pack.state == PackState::Live) {
                        found.gone.push((pack.id, pack.key));
                    }
                }
            }
        }
    }
    let unnamed = std::mem::take(&mut found.unnamed);
    for objects in unnamed.chunks(PAGE as usize) {
        let keys: Vec<PackKey> = objects.iter().map(|(key, _)| *key).collect();
        let rows = db::check::packs_by_key(db.reader().await?.exec(), &keys).await?;
        found.unnamed.extend(objects.iter().filter(|(key, _)| !rows.contains_key(key)));
    }
    Ok(found)
}

/// A pack's id in a bitmap.
pub(super) fn number(pack: PackId) -> u64 {
    pack.0.unsigned_abs()
}
