//! What rows say of each other, and of the objects' lengths.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use snowbank_core::manifest::{ContentDigester, Segment};

use super::{CheckError, CheckStats, Checker, Finding, PAGE};
use crate::db;
use crate::db::nars::{Nar, NarId};
use crate::db::packs::{Pack, PackId, PackState};
use crate::db::paths::PathId;
use crate::pack::pack_object_key;

type Found<'f> = &'f mut (dyn FnMut(Finding) + Send);

/// W1: every live pack's object is there, with the length that its row says.
pub(super) async fn packs(checker: &Checker<'_>, stats: &mut CheckStats, found: Found<'_>) -> Result<(), CheckError> {
    let mut after = PackId(0);
    loop {
        let mut conn = checker.db.reader().await?;
        let page = db::packs::page(conn.exec(), after, PAGE).await?;
        drop(conn);
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.id;
        for pack in page.iter().filter(|pack| pack.state == PackState::Live) {
            stats.packs += 1;
            let key = pack_object_key(&pack.key);
            let detail = match checker.storage.len(&key).await? {
                Some(length) if length == pack.bytes => continue,
                Some(length) => format!("the object has {length} bytes where its row says {}", pack.bytes),
                None => "its row names an object that is not there".to_owned(),
            };
            found(Finding { invariant: "W1", subject: key, detail });
        }
    }
}

/// W1: every chunk row lies within a live pack. It may be of another domain: copies between caches share records.
pub(super) async fn chunks(checker: &Checker<'_>, stats: &mut CheckStats, found: Found<'_>) -> Result<(), CheckError> {
    let mut after = 0;
    loop {
        let mut conn = checker.db.reader().await?;
        let page = db::chunks::page(conn.exec(), after, PAGE).await?;
        let Some((_, last)) = page.last() else {
            return Ok(());
        };
        after = last.id;
        let mut packs: HashMap<PackId, Option<Pack>> = HashMap::new();
        for (_, chunk) in &page {
            stats.chunks += 1;
            let pack = match packs.entry(chunk.pack) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(db::packs::lookup(conn.exec(), chunk.pack).await?),
            };
            let end = u64::from(chunk.offset) + u64::from(chunk.len);
            let detail = match pack {
                None => "its pack has no row".to_owned(),
                Some(pack) if pack.state != PackState::Live => "its pack is dead".to_owned(),
                Some(pack) if end > pack.bytes => format!("it ends at byte {end} of a pack of {}", pack.bytes),
                Some(_) => continue,
            };
            found(Finding { invariant: "W1", subject: format!("chunk {} ({})", chunk.id, chunk.name), detail });
        }
    }
}

/// W2, W3: every chunk that a manifest names has a row, and names and slot values are those that were verified.
pub(super) async fn nars(checker: &Checker<'_>, stats: &mut CheckStats, found: Found<'_>) -> Result<(), CheckError> {
    let mut after = NarId(0);
    loop {
        let mut conn = checker.db.reader().await?;
        let page = db::nars::page(conn.exec(), after, PAGE).await?;
        drop(conn);
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.id;
        for nar in &page {
            stats.nars += 1;
            if let Some(finding) = manifest(checker, nar).await? {
                found(finding);
            }
        }
    }
}

async fn manifest(checker: &Checker<'_>, nar: &Nar) -> Result<Option<Finding>, CheckError> {
    let finding = |invariant, detail| Some(Finding { invariant, subject: format!("NAR {}", nar.nar_hash), detail });
    let mut digester = ContentDigester::new();
    let mut values = Vec::new();
    let (mut raw, mut stored, mut chunks) = (0, 0, 0);
    let mut conn = checker.db.reader().await?;
    for seq in 0..nar.segment_count {
        let Some(data) = db::nars::segment(conn.exec(), nar.id, seq).await? else {
            return Ok(finding("W3", format!("segment {seq} of its manifest is not there")));
        };
        let segment = match Segment::decode(&data) {
            Ok(segment) => segment,
            Err(error) => return Ok(finding("W3", format!("segment {seq} of its manifest: {error}"))),
        };
        if segment.first_raw != raw || segment.first_stored != stored {
            return Ok(finding("W3", format!("segment {seq} of its manifest does not begin where the last one ends")));
        }
        raw = segment.end_raw();
        stored = segment.end_stored();
        chunks += segment.entries.len() as u64;
        let ids: Vec<u64> = segment.entries.iter().map(|entry| entry.id).collect();
        let rows = db::chunks::lookup_by_ids(conn.exec(), &ids).await?;
        for id in ids {
            match rows.get(&id) {
                Some(row) => digester.name(&row.name),
                None => return Ok(finding("W2", format!("chunk {id} of its manifest has no row"))),
            }
        }
        values.extend(segment.values);
    }
    if raw != nar.nar_size || stored != nar.file_size || chunks != nar.chunk_count {
        let detail = format!("its manifest adds up to {raw} raw and {stored} stored bytes in {chunks} chunks");
        return Ok(finding("W3", detail));
    }
    for value in &values {
        digester.value(value);
    }
    if digester.finish() != nar.content_digest {
        return Ok(finding("W3", "its chunks and slot values are not those that were verified".to_owned()));
    }
    Ok(None)
}

/// W4: every path has a NAR of its cache's domain.
pub(super) async fn paths(checker: &Checker<'_>, stats: &mut CheckStats, found: Found<'_>) -> Result<(), CheckError> {
    let mut conn = checker.db.reader().await?;
    let caches: HashMap<_, _> =
        db::caches::list(conn.exec()).await?.into_iter().map(|cache| (cache.id, cache.domain)).collect();
    drop(conn);
    let mut after = PathId(0);
    loop {
        let mut conn = checker.db.reader().await?;
        let page = db::paths::page(conn.exec(), after, PAGE).await?;
        drop(conn);
        let Some((_, last)) = page.last() else {
            return Ok(());
        };
        after = last.id;
        for (cache, path) in &page {
            stats.paths += 1;
            if caches.get(cache).is_some_and(|domain| *domain != path.nar.domain) {
                let detail = "its NAR is of another domain than its cache".to_owned();
                found(Finding { invariant: "W4", subject: path.store_path.base_name(), detail });
            }
        }
    }
}

/// Objects that no row names: what a crash between W1 and W2 leaves.
pub(super) async fn unnamed_objects(checker: &Checker<'_>, stats: &mut CheckStats) -> Result<(), CheckError> {
    let mut after: Option<String> = None;
    let mut objects = 0;
    loop {
        let page = checker.storage.list("packs/", after.as_deref(), PAGE as usize).await?;
        let Some(last) = page.last() else {
            break;
        };
        objects += page.len() as u64;
        after = Some(last.clone());
    }
    stats.unnamed_objects = objects.saturating_sub(stats.packs);
    Ok(())
}
