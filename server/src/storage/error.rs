//! What can go wrong with the storage, sorted by what a caller does about it.

use std::io;

/// Why a storage call failed; each names the object, or the folder, that it was about.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such object.
    #[error("the storage has no object `{key}`")]
    NotFound {
        /// The object.
        key: String,
    },
    /// The object ends before the range that was asked for.
    #[error("the object `{key}` is shorter than the {wanted} bytes that the database knows of; run `snowbankd check`")]
    Short {
        /// The object.
        key: String,
        /// Where the range would have ended.
        wanted: u64,
    },
    /// No room is left.
    #[error("the storage is full: `{key}` could not be written. Make room, then push again")]
    Full {
        /// What was to be written.
        key: String,
        /// What the system said.
        source: io::Error,
    },
    /// The storage cannot be used, by this server or at this moment.
    #[error(
        "the storage is unavailable: {key}: {source}. Check that it is mounted, and that the server may read and write there"
    )]
    Unavailable {
        /// What it was about.
        key: String,
        /// What the system said.
        source: io::Error,
    },
    /// A key that is no key.
    #[error("`{key}` is not an object key")]
    BadKey {
        /// The text.
        key: String,
    },
    /// Anything else.
    #[error("the storage failed on `{key}`: {source}")]
    Other {
        /// What it was about.
        key: String,
        /// What the system said.
        source: io::Error,
    },
}

impl StorageError {
    /// Sorts what the system said about `key`.
    pub(super) fn from_io(key: &str, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let key = key.to_owned();
        match source.kind() {
            Kind::NotFound => Self::NotFound { key },
            Kind::StorageFull | Kind::QuotaExceeded => Self::Full { key, source },
            Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotADirectory
            | Kind::ResourceBusy
            | Kind::TimedOut
            | Kind::StaleNetworkFileHandle => Self::Unavailable { key, source },
            // EIO has no kind of its own: a disk that fails.
            _ if source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Self::Unavailable { key, source }
            }
            _ => Self::Other { key, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn class(errno: Errno) -> StorageError {
        StorageError::from_io("packs/aa", io::Error::from(errno))
    }

    #[test]
    fn a_full_disk_is_told_from_a_lost_one() {
        assert!(matches!(class(Errno::NOSPC), StorageError::Full { .. }));
        assert!(matches!(class(Errno::DQUOT), StorageError::Full { .. }));
        assert!(matches!(class(Errno::IO), StorageError::Unavailable { .. }));
        assert!(matches!(class(Errno::ROFS), StorageError::Unavailable { .. }));
        assert!(matches!(class(Errno::ACCESS), StorageError::Unavailable { .. }));
        assert!(matches!(class(Errno::NOENT), StorageError::NotFound { .. }));
        assert!(matches!(class(Errno::MFILE), StorageError::Other { .. }));
    }

    #[test]
    fn every_error_names_its_object() {
        for errno in [Errno::NOSPC, Errno::IO, Errno::NOENT, Errno::MFILE] {
            assert!(class(errno).to_string().contains("packs/aa"));
        }
    }
}
