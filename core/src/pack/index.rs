//! A pack's table and footer: all its chunk headers again, for rebuilding the chunk index without
//! reading the frames.

use super::{
    FOOTER_LEN, HEAD_LEN, HEAD_MAGIC, MAX_PACK_BYTES, PackError, PackKey, RecordSpan,
    TABLE_CONTEXT, TAIL_MAGIC, VERSION, record,
};
use crate::frame::ChunkHeader;

/// Bytes of a table entry before its chunk header.
const ENTRY_PREFIX_LEN: usize = 8 + 4;

/// Where the key begins in the head, which it ends.
const KEY_AT: usize = HEAD_LEN - 16;
/// Where the hash begins in the footer.
const HASH_AT: usize = 3 * 4;

/// The last [`FOOTER_LEN`] bytes of a pack: where its table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Where the table begins, which is where the records end.
    pub table_offset: u32,
    /// Bytes of the table.
    pub table_len: u32,
    /// Number of records.
    pub records: u32,
    /// BLAKE3 of the head and the table.
    hash: [u8; 32],
}

impl Footer {
    /// Parses the last [`FOOTER_LEN`] bytes of a pack.
    ///
    /// # Errors
    /// [`PackError`] when these bytes do not end a pack.
    pub fn parse(bytes: &[u8; FOOTER_LEN]) -> Result<Self, PackError> {
        let mut rest = &bytes[..];
        let table_offset = take_u32(&mut rest)?;
        let table_len = take_u32(&mut rest)?;
        let records = take_u32(&mut rest)?;
        let hash = take(&mut rest)?;
        let version = take_u32(&mut rest)?;
        if rest != TAIL_MAGIC {
            return Err(PackError::NotAPack("it does not end with the pack's magic"));
        }
        check_version(version)?;
        Ok(Self { table_offset, table_len, records, hash })
    }

    /// Bytes of the whole pack.
    #[must_use]
    pub const fn pack_len(&self) -> u64 {
        self.table_offset as u64 + self.table_len as u64 + FOOTER_LEN as u64
    }
}

/// A chunk in a pack's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// The chunk's id.
    pub id: u64,
    /// Where its record is.
    pub span: RecordSpan,
    /// Its header.
    pub header: ChunkHeader,
}

/// What a pack says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackIndex {
    /// The dedup domain that its chunks are in.
    pub domain: u64,
    /// The key that it is stored under.
    pub key: PackKey,
    /// Its chunks, in the order of their records, which follow one another without a gap.
    pub entries: Vec<PackEntry>,
}

impl PackIndex {
    /// Parses a whole pack's head, table and footer. The records are not looked at.
    ///
    /// # Errors
    /// [`PackError`] when the parts do not fit each other, or are not those of a pack.
    pub fn parse(pack: &[u8]) -> Result<Self, PackError> {
        if pack.len() > MAX_PACK_BYTES {
            return Err(PackError::Full { bytes: pack.len() });
        }
        let (front, footer) =
            pack.split_last_chunk().ok_or(PackError::Truncated("there is no footer"))?;
        let footer = Footer::parse(footer)?;
        if footer.pack_len() != pack.len() as u64 {
            return Err(PackError::Truncated("its length is not what its footer says"));
        }
        // Both are within `front`, as was just seen, unless the table begins inside of the head.
        let head = front.first_chunk().ok_or(PackError::Truncated("there is no head"))?;
        Self::parse_parts(head, &front[footer.table_offset as usize..], &footer)
    }

    /// Parses what ranged reads brought: the first [`HEAD_LEN`] bytes, and the table where `footer`
    /// says that it is.
    ///
    /// # Errors
    /// [`PackError`] when the parts do not fit each other, or are not those of a pack.
    pub fn parse_parts(
        head: &[u8; HEAD_LEN],
        table: &[u8],
        footer: &Footer,
    ) -> Result<Self, PackError> {
        if footer.table_len as usize != table.len() || footer.pack_len() > MAX_PACK_BYTES as u64 {
            return Err(PackError::Truncated("its table is not as long as its footer says"));
        }
        let mut rest = &head[..];
        if &take::<8>(&mut rest)? != HEAD_MAGIC {
            return Err(PackError::NotAPack("it does not begin with the pack's magic"));
        }
        check_version(take_u32(&mut rest)?)?;
        if take_u32(&mut rest)? != 0 {
            return Err(PackError::NotAPack("it has flags that are not known here"));
        }
        let domain = u64::from_le_bytes(take(&mut rest)?);
        let key = PackKey::from_bytes(take(&mut rest)?);
        if table_hash(head, table) != footer.hash {
            return Err(PackError::Table);
        }
        let entries = parse_table(table, footer)?;
        Ok(Self { domain, key, entries })
    }
}

fn parse_table(mut table: &[u8], footer: &Footer) -> Result<Vec<PackEntry>, PackError> {
    let mut entries = Vec::new();
    let mut next = HEAD_LEN;
    while !table.is_empty() {
        let id = u64::from_le_bytes(take(&mut table)?);
        let offset = take_u32(&mut table)?;
        let (header, consumed) = ChunkHeader::decode(table)?
            .ok_or(PackError::Truncated("a table entry is incomplete"))?;
        table = &table[consumed..];
        if offset as usize != next {
            return Err(PackError::Inconsistent("the records do not follow one another"));
        }
        let len = record::len(&header);
        next += len;
        if next > footer.table_offset as usize {
            return Err(PackError::Inconsistent("a record reaches into the table"));
        }
        // It lies before the table's offset, which is a u32.
        let span = RecordSpan { offset, len: u32::try_from(len).unwrap_or(u32::MAX) };
        entries.push(PackEntry { id, span, header });
    }
    if next != footer.table_offset as usize || entries.len() != footer.records as usize {
        return Err(PackError::Inconsistent("the table does not account for all records"));
    }
    Ok(entries)
}

/// Bytes of a chunk's table entry.
pub(super) fn entry_len(header: &ChunkHeader) -> usize {
    ENTRY_PREFIX_LEN + header.encoded_len()
}

/// Appends a table entry.
pub(super) fn write_entry(table: &mut Vec<u8>, id: u64, span: RecordSpan, header: &ChunkHeader) {
    table.extend_from_slice(&id.to_le_bytes());
    table.extend_from_slice(&span.offset.to_le_bytes());
    header.encode_into(table);
}

/// Appends the table and the footer to a head and records.
pub(super) fn write_end(bytes: &mut Vec<u8>, table: &[u8], records: u32) {
    let hash = table_hash(&bytes[..HEAD_LEN], table);
    // Both are below MAX_PACK_BYTES.
    let as_u32 = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let table_offset = as_u32(bytes.len());
    bytes.reserve_exact(table.len() + FOOTER_LEN);
    bytes.extend_from_slice(table);
    bytes.extend_from_slice(&table_offset.to_le_bytes());
    bytes.extend_from_slice(&as_u32(table.len()).to_le_bytes());
    bytes.extend_from_slice(&records.to_le_bytes());
    bytes.extend_from_slice(&hash);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(TAIL_MAGIC);
}

/// See [`super::rekey`].
pub(super) fn rekey(pack: &mut [u8], key: PackKey) -> Result<(), PackError> {
    let (body, end) = pack
        .split_last_chunk_mut::<FOOTER_LEN>()
        .ok_or(PackError::Truncated("it has no footer"))?;
    let footer = Footer::parse(end)?;
    let (records, table) = body
        .split_at_mut_checked(footer.table_offset as usize)
        .ok_or(PackError::Truncated("the table lies outside of it"))?;
    let head =
        records.first_chunk_mut::<HEAD_LEN>().ok_or(PackError::Truncated("it has no head"))?;
    if table_hash(head, table) != footer.hash {
        return Err(PackError::Table);
    }
    head[KEY_AT..].copy_from_slice(key.as_bytes());
    let hash = table_hash(head, table);
    end[HASH_AT..HASH_AT + hash.len()].copy_from_slice(&hash);
    Ok(())
}

fn table_hash(head: &[u8], table: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_derive_key(TABLE_CONTEXT).update(head).update(table).finalize().as_bytes()
}

const fn check_version(version: u32) -> Result<(), PackError> {
    if version == VERSION { Ok(()) } else { Err(PackError::Version(version)) }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], PackError> {
    let (taken, after) =
        rest.split_first_chunk().ok_or(PackError::Truncated("a field is incomplete"))?;
    *rest = after;
    Ok(*taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, PackError> {
    take(rest).map(u32::from_le_bytes)
}
