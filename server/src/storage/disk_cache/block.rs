//! One block of an object as a file: its bytes behind a checksum that binds them to their place.
//!
//! ```text
//! "SNOWBLK1" | BLAKE3 of id and bytes 32 | bytes (at most BLOCK_LEN; fewer where the object ends)
//! ```

/// Bytes of every block but an object's last.
pub(super) const BLOCK_LEN: u64 = 512 * 1024;
/// What a file takes is counted in these.
const DISK_BLOCK: u64 = 4096;

const MAGIC: &[u8; 8] = b"SNOWBLK1";
const HEADER_LEN: usize = 8 + 32;
const ID_CONTEXT: &str = "snowbank 2026 read cache block id v1";
const CHECK_CONTEXT: &str = "snowbank 2026 read cache block v1";

/// Which block of which object; names the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BlockId([u8; 16]);

impl BlockId {
    pub(super) fn of(key: &str, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        hasher.update(&number.to_le_bytes()).update(key.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }

    /// Where the file is within the cache's folder.
    pub(super) fn file_name(self) -> String {
        let hex = format!("{:032x}", u128::from_be_bytes(self.0));
        format!("{}/{}", &hex[..2], &hex[2..])
    }

    /// The inverse of [`Self::file_name`].
    pub(super) fn parse(folder: &str, file: &str) -> Option<Self> {
        let digits =
            |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if folder.len() != 2 || file.len() != 30 || !digits(folder) || !digits(file) {
            return None;
        }
        u128::from_str_radix(&format!("{folder}{file}"), 16).ok().map(|id| Self(id.to_be_bytes()))
    }
}

/// What stands before `bytes` in their file.
pub(super) fn header(id: BlockId, bytes: &[u8]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(MAGIC);
    header[8..].copy_from_slice(checksum(id, bytes).as_bytes());
    header
}

/// The bytes of a file's block, if they are what was written.
pub(super) fn parse(id: BlockId, file: &[u8]) -> Option<&[u8]> {
    let (header, bytes) = file.split_first_chunk::<HEADER_LEN>()?;
    let stored = blake3::Hash::from_slice(header.strip_prefix(MAGIC)?).ok()?;
    let fits = bytes.len() as u64 <= BLOCK_LEN;
    (fits && stored == checksum(id, bytes)).then_some(bytes)
}

/// Bytes of disk that a block of `bytes` takes.
pub(super) fn disk_bytes(bytes: u64) -> u64 {
    (bytes + HEADER_LEN as u64).next_multiple_of(DISK_BLOCK)
}

/// The same for a file of `file_len` bytes.
pub(super) fn disk_bytes_of_file(file_len: u64) -> u64 {
    file_len.next_multiple_of(DISK_BLOCK)
}

/// A file that is longer than this is no block.
pub(super) const MAX_FILE_LEN: u64 = BLOCK_LEN + HEADER_LEN as u64;

fn checksum(id: BlockId, bytes: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key(CHECK_CONTEXT);
    hasher.update(&id.0).update(bytes);
    hasher.finalize()
}
