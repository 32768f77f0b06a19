//! The bytes of packs: every record that a row names, and every pack's table.
//!
//! Each pack is read once, whatever refers to it. A record that no row names is dead weight, and is
//! not looked at.

use std::collections::HashSet;

use super::{CheckError, PACK_DATA, PAGE, Phase, Run};
use crate::damage::{PackExamination, examine, read_pack};
use crate::db;
use crate::db::packs::{Pack, PackId, PackState};
use crate::pack::pack_object_key;
use crate::serving::ServeError;

/// Every live pack that is drawn: its table, and each record's checksum, frame and name.
pub(super) async fn packs(run: &mut Run<'_>, after: i64) -> Result<(), CheckError> {
    let Some(sample) = run.checker.options.read_data else { return Ok(()) };
    let mut after = PackId(after);
    loop {
        let page = db::packs::page(run.checker.db.reader().await?.exec(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        for pack in
            page.iter().filter(|pack| pack.state == PackState::Live && sample.includes(pack.id.0))
        {
            one(run, pack).await?;
            run.reached(Phase::Packs, pack.id.0);
        }
    }
}

async fn one(run: &mut Run<'_>, pack: &Pack) -> Result<(), CheckError> {
    let Some(first) = read(run, pack).await? else { return Ok(()) };
    run.stats.read_packs += 1;
    if first.faults.is_empty() && first.table.is_none() {
        return Ok(());
    }
    let Some(again) = read(run, pack).await? else { return Ok(()) };
    // It may have been compacted and removed, and its chunks be elsewhere.
    let row = db::packs::lookup(run.checker.db.reader().await?.exec(), pack.id).await?;
    if row.is_none_or(|row| row.state != PackState::Live) {
        return Ok(());
    }
    let object = pack_object_key(&pack.key);
    if let Some(table) = again.table {
        if again.heads.is_empty() && again.faults.is_empty() {
            run.observer.noted(format!("{object}: {table}; nothing needs it"));
        } else {
            run.found(PACK_DATA, object.clone(), table);
        }
    }
    let before: HashSet<(u64, u32)> =
        first.faults.iter().map(|fault| (fault.chunk.id, fault.chunk.offset)).collect();
    for fault in again
        .faults
        .into_iter()
        .filter(|fault| before.contains(&(fault.chunk.id, fault.chunk.offset)))
    {
        let (id, name, offset) = (fault.chunk.id, fault.chunk.name, fault.chunk.offset);
        run.found(
            PACK_DATA,
            object.clone(),
            format!("chunk {id} ({name}) at byte {offset}: {}", fault.reason),
        );
    }
    Ok(())
}

/// Reads and judges a pack; `None` where the object is gone, which is reported as W1.
async fn read(run: &mut Run<'_>, pack: &Pack) -> Result<Option<PackExamination>, CheckError> {
    let Some(object) = read_pack(run.checker.storage, &pack.key).await? else { return Ok(None) };
    let bytes = object.len() as u64;
    run.stats.read_bytes += bytes;
    run.pace.read(bytes).await;
    let rows = db::chunks::in_pack(run.checker.db.reader().await?.exec(), pack.id).await?;
    let key = pack.key;
    let examined = tokio::task::spawn_blocking(move || examine(&key, Some(&object), &rows)).await;
    Ok(Some(examined.map_err(|_| ServeError::Stopped)?))
}
