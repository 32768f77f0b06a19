//! Room on a SQLite database's disk that is kept for the database.
//!
//! On a full disk SQLite commits nothing, not even a deletion that would make room: each goes to
//! its log first. So a file of some mebibytes lies beside the database. Where a transaction begins
//! with less free than that, the file is removed, and pushes are refused until there is room to
//! make it again (`storage::FreeSpace`).

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::files::open_own;

/// With less free than this many times the file's size, SQLite's log is folded before each
/// transaction, so that it does not grow.
const TIGHT_FACTOR: u64 = 4;
/// Written at a time where the file system allocates nothing on request.
const WRITE_BYTES: usize = 1 << 20;

/// The file, which may be there or not.
#[derive(Debug, Clone)]
pub struct Reserve {
    file: PathBuf,
    folder: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// The reserve of the configured database; `None` for PostgreSQL, or where none is wanted.
    #[must_use]
    pub fn of(config: &DatabaseConfig) -> Option<Self> {
        let DatabaseUrl::Sqlite(database) = &config.url else { return None };
        let bytes = config.reserve.bytes();
        let mut file = database.clone().into_os_string();
        file.push("-reserve");
        let folder = database
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        (bytes > 0).then(|| Self { file: file.into(), folder: folder.to_owned(), bytes })
    }

    /// How much it keeps.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it was given away, or not made yet.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        fs::symlink_metadata(&self.file).map_or(true, |metadata| metadata.len() < self.bytes)
    }

    /// Makes the file; leaves nothing behind where there is no room for all of it.
    pub fn make(&self) -> io::Result<()> {
        let made = || {
            let mut file = open_own(&self.file, OFlags::RDWR | OFlags::CREATE)?;
            match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    let piece = vec![0; WRITE_BYTES];
                    let mut left = self.bytes;
                    while left > 0 {
                        let len =
                            usize::try_from(left).map_or(WRITE_BYTES, |left| left.min(WRITE_BYTES));
                        file.write_all(&piece[..len])?;
                        left -= len as u64;
                    }
                    Ok(())
                }
                result => Ok(result?),
            }
        };
        made().inspect_err(|_| {
            // A part of it would count as missing, and take room.
            let _ = fs::remove_file(&self.file);
        })
    }

    /// Removes the file where little is free without it; gives whether little is free even so.
    pub(super) fn give_way(&self) -> bool {
        // A disk about which the system says nothing is not known to be full.
        let free = || {
            statvfs(&self.folder)
                .map_or(u64::MAX, |said| said.f_bavail.saturating_mul(said.f_frsize))
        };
        let mut room = free();
        if room < self.bytes
            && let Ok(()) = fs::remove_file(&self.file)
        {
            room = free();
            tracing::warn!(
                file = %self.file.display(),
                free = room,
                "the disk with the database is nearly full: its reserve was released, and pushes \
                 are refused until there is room for it again"
            );
        }
        room < self.bytes.saturating_mul(TIGHT_FACTOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    #[test]
    fn a_reserve_takes_its_room_and_is_missing_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("snowbank.db"));
        let config = DatabaseConfig { reserve: Size::from_mib(2), ..DatabaseConfig::new(url) };
        let reserve = Reserve::of(&config).unwrap();
        assert!(reserve.is_missing());
        reserve.make().unwrap();
        reserve.make().unwrap();
        let file = folder.path().join("snowbank.db-reserve");
        assert!(!reserve.is_missing());
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&file).unwrap());
        assert!(blocks * 512 >= 2 << 20, "{blocks} blocks are allocated");
        fs::write(&file, "a part").unwrap();
        assert!(reserve.is_missing(), "a part is no reserve");
        assert!(Reserve::of(&DatabaseConfig { reserve: Size::from_bytes(0), ..config }).is_none());
    }
}
