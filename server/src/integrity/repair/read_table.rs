//! Reads the tables of packs.

use snowbank_core::frame::FrameVerifier;
use snowbank_core::pack::{
    FOOTER_LEN, Footer, HEAD_LEN, MAX_PACK_BYTES, PackEntry, PackIndex, PackKey,
};

use super::RepairError;
use crate::damage::{read_pack, record_at};
use crate::pack::pack_object_key;
use crate::serving::ServeError;
use crate::storage::{Storage, StorageError};

/// The end of a pack that is read at once: the tables of nearly all packs fit.
const TAIL: u64 = 128 * 1024;

/// A pack's table, by ranged reads; the error says what is wrong with the object.
pub(super) async fn read_table(
    storage: &Storage,
    key: &PackKey,
    len: u64,
) -> Result<Result<PackIndex, String>, StorageError> {
    let object = pack_object_key(key);
    if len > MAX_PACK_BYTES as u64 || len < (HEAD_LEN + FOOTER_LEN) as u64 {
        return Ok(Err(format!("no pack has {len} bytes")));
    }
    let tail_start = len - len.min(TAIL);
    let tail = match storage.get_up_to(&object, tail_start, len - tail_start).await {
        Err(StorageError::NotFound { .. }) => return Ok(Err("it is gone".to_owned())),
        tail => tail?,
    };
    let Some((before, footer)) =
        tail.split_last_chunk().filter(|_| tail.len() as u64 == len - tail_start)
    else {
        return Ok(Err("it is shorter than the listing says".to_owned()));
    };
    let footer = match Footer::parse(footer) {
        Ok(footer) if footer.pack_len() == len => footer,
        Ok(_) => return Ok(Err("its length is not what its footer says".to_owned())),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let (table_start, table_len) = (u64::from(footer.table_offset), u64::from(footer.table_len));
    let table =
        match table_start.checked_sub(tail_start).and_then(|start| usize::try_from(start).ok()) {
            Some(start) => before.get(start..).unwrap_or_default().to_vec(),
            None => storage.get_up_to(&object, table_start, table_len).await?,
        };
    let head = if tail_start == 0 {
        tail.clone()
    } else {
        storage.get_up_to(&object, 0, HEAD_LEN as u64).await?
    };
    let Some(head) = head.first_chunk() else { return Ok(Err("it has no head".to_owned())) };
    Ok(match PackIndex::parse_parts(head, &table, &footer) {
        Ok(index) if index.key == *key => Ok(index),
        Ok(index) => Err(format!("it says that it is the pack {}", index.key)),
        Err(error) => Err(error.to_string()),
    })
}

/// A pack's table, with those of its entries alone whose records are sound.
pub(super) async fn read_sound(
    storage: &Storage,
    key: &PackKey,
) -> Result<Result<PackIndex, String>, RepairError> {
    let Some(object) = read_pack(storage, key).await? else {
        return Ok(Err("it is gone".to_owned()));
    };
    let key = *key;
    let read = tokio::task::spawn_blocking(move || {
        let mut index = PackIndex::parse(&object).map_err(|error| error.to_string())?;
        if index.key != key {
            return Err(format!("it says that it is the pack {}", index.key));
        }
        let mut verifier = FrameVerifier::new();
        index.entries.retain(|PackEntry { span, header, .. }| {
            record_at(&mut verifier, &object, span.offset, span.len, &header.name).is_ok()
        });
        Ok(index)
    });
    Ok(read.await.map_err(|_| ServeError::Stopped)?)
}
