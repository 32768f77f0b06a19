//! A pack's object against the rows that name records in it. No database and no storage in here, so
//! that serving, `check` and `repair` judge alike.

use std::collections::{HashMap, HashSet};

use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::{ChunkHeader, FrameVerifier};
use snowbank_core::pack::{MAX_PACK_BYTES, PackIndex, PackKey, Record};

use crate::db::caches::DomainId;
use crate::db::chunks::ChunkLocation;
use crate::db::damage::is_retired;
use crate::pack::pack_object_key;
use crate::storage::{Storage, StorageError};

/// A row whose record is not what the row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The domain of the row.
    pub domain: DomainId,
    /// The row.
    pub chunk: ChunkLocation,
    /// What is wrong with its record.
    pub reason: String,
}

/// What a manifest has to agree with of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the chunk.
    pub raw_len: u32,
    /// Bytes of its frame.
    pub frame_len: u32,
    /// Its slots.
    pub slots: u32,
}

impl Head {
    fn of(header: &ChunkHeader) -> Self {
        // A header that decodes has a few thousand slots at most.
        let slots = u32::try_from(header.slots.len()).unwrap_or(u32::MAX);
        Self { raw_len: header.raw_len, frame_len: header.frame_len, slots }
    }
}

/// What a pack's object and its rows say of each other.
#[derive(Debug, Default)]
pub struct PackExamination {
    /// Rows whose record is not what they say. Retired ones are not among them.
    pub faults: Vec<Fault>,
    /// Heads of the sound rows, by id.
    pub heads: HashMap<u64, Head>,
    /// Ids of rows that are retired.
    pub retired: Vec<u64>,
    /// What the pack says about itself, if that can be read.
    pub index: Option<PackIndex>,
    /// What is wrong with what it says, if anything.
    pub table: Option<String>,
}

/// Reads the object of a pack whole, straight from the storage; `None` where there is none.
///
/// # Errors
/// When the storage cannot be read.
pub async fn read_pack(storage: &Storage, key: &PackKey) -> Result<Option<Vec<u8>>, StorageError> {
    // One byte more than a pack has shows that this is none.
    match storage.get_up_to(&pack_object_key(key), 0, MAX_PACK_BYTES as u64 + 1).await {
        Ok(object) => Ok(Some(object)),
        Err(StorageError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Verifies every record that `rows` name in `object`, the object of the pack `key` (`None`: it is
/// gone): checksum, name, frame, and that the name is that of what the frame decodes to; and that
/// the pack's table has the record.
#[must_use]
pub fn examine(
    key: &PackKey,
    object: Option<&[u8]>,
    rows: &[(DomainId, ChunkLocation)],
) -> PackExamination {
    let mut found = PackExamination::default();
    match object.map(PackIndex::parse) {
        None => {}
        Some(Ok(index)) if index.key == *key => found.index = Some(index),
        Some(Ok(index)) => found.table = Some(format!("it says that it is the pack {}", index.key)),
        Some(Err(error)) => found.table = Some(error.to_string()),
    }
    let named: HashSet<(u32, ChunkName)> = found
        .index
        .iter()
        .flat_map(|index| &index.entries)
        .map(|entry| (entry.span.offset, entry.header.name))
        .collect();
    let mut verifier = FrameVerifier::new();
    for (domain, chunk) in rows {
        if is_retired(chunk) {
            found.retired.push(chunk.id);
            continue;
        }
        let record = match object {
            None => Err("its pack's object is gone".to_owned()),
            Some(object) => record_at(&mut verifier, object, chunk.offset, chunk.len, &chunk.name),
        };
        match record {
            Ok(header) => {
                found.heads.insert(chunk.id, Head::of(&header));
                if found.index.is_some() && !named.contains(&(chunk.offset, chunk.name)) {
                    found.table = Some(format!("its table does not have the chunk {}", chunk.name));
                }
            }
            Err(reason) => {
                found.faults.push(Fault { domain: *domain, chunk: chunk.clone(), reason });
            }
        }
    }
    found
}

/// The header of the record at `offset`, once that is found to be the chunk `name`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn record_at(
    verifier: &mut FrameVerifier,
    object: &[u8],
    offset: u32,
    len: u32,
    name: &ChunkName,
) -> Result<ChunkHeader, String> {
    let (start, len) = (offset as usize, len as usize);
    let bytes = start.checked_add(len).and_then(|end| object.get(start..end));
    let bytes = bytes.ok_or_else(|| {
        format!("the object ends at byte {}, before its record does", object.len())
    })?;
    let record = Record::parse(bytes).map_err(|error| error.to_string())?;
    if record.header.name != *name {
        return Err(format!("the chunk {} lies there", record.header.name));
    }
    // Any filling serves here: whether bytes depend on slots was settled when the frame came in.
    verifier
        .verify(&record.header, record.frame, name.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok(record.header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::damage::retired_name;
    use crate::db::packs::PackId;
    use snowbank_core::chunk::Chunk;
    use snowbank_core::frame::FrameEncoder;
    use snowbank_core::pack::PackWriter;

    const KEY: PackKey = PackKey::from_bytes([5; 16]);

    /// A pack of one chunk for each text, and the rows that name them.
    fn pack(texts: &[&str]) -> (Vec<u8>, Vec<(DomainId, ChunkLocation)>) {
        let mut writer = PackWriter::new(1, KEY);
        let mut rows = Vec::new();
        for (text, id) in texts.iter().zip(1_u64..) {
            let chunk = Chunk::closed(text.repeat(50).into_bytes());
            let encoded = FrameEncoder::new(3).encode(&chunk, &chunk.name()).unwrap();
            let span = writer.add(id, &encoded.header, &encoded.frame).unwrap();
            let (name, pack) = (encoded.header.name, PackId(1));
            let row =
                ChunkLocation { id, name, pack, pack_key: KEY, offset: span.offset, len: span.len };
            rows.push((DomainId(1), row));
        }
        (writer.finish(), rows)
    }

    fn faulty(object: Option<&[u8]>, rows: &[(DomainId, ChunkLocation)]) -> Vec<u64> {
        examine(&KEY, object, rows).faults.iter().map(|fault| fault.chunk.id).collect()
    }

    #[test]
    fn a_flipped_byte_is_the_fault_of_one_chunk() {
        let (whole, rows) = pack(&["one", "two", "three"]);
        let found = examine(&KEY, Some(&whole), &rows);
        assert!(
            found.faults.is_empty() && found.table.is_none() && found.heads.len() == 3,
            "{found:?}"
        );
        assert_eq!(found.heads[&1].raw_len, 150);
        let second = rows[1].1.offset as usize;
        for at in [second, second + 8, second + 20, second + 70, rows[2].1.offset as usize - 1] {
            let mut object = whole.clone();
            object[at] ^= 1;
            assert_eq!(faulty(Some(&object), &rows), [2], "byte {at}");
        }
    }

    #[test]
    fn what_ends_early_or_is_gone_is_the_fault_of_what_lay_there() {
        let (whole, rows) = pack(&["one", "two", "three"]);
        assert_eq!(faulty(None, &rows), [1, 2, 3]);
        assert_eq!(faulty(Some(&whole[..rows[1].1.offset as usize + 5]), &rows), [2, 3]);
        let found = examine(&KEY, Some(&whole[..whole.len() - 1]), &rows);
        assert!(
            found.faults.is_empty() && found.table.is_some(),
            "the table alone is damaged: {found:?}"
        );
    }

    #[test]
    fn another_pack_in_its_place_has_none_of_its_chunks() {
        let (_, rows) = pack(&["one", "two"]);
        let (other, _) = pack(&["six", "ten"]);
        assert_eq!(faulty(Some(&other), &rows), [1, 2]);
        let found = examine(&PackKey::from_bytes([6; 16]), Some(&other), &[]);
        assert!(found.table.is_some_and(|table| table.contains("05050505")));
    }

    #[test]
    fn a_row_that_says_something_else_is_at_fault_and_a_retired_one_is_not() {
        let (whole, mut rows) = pack(&["one", "two", "three"]);
        rows[0].1.offset += 1;
        rows[1].1.name = ChunkName::from_bytes([9; 32]);
        rows[2].1.name = retired_name(3);
        let found = examine(&KEY, Some(&whole), &rows);
        assert_eq!(found.faults.iter().map(|fault| fault.chunk.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(found.retired, [3]);
    }
}
