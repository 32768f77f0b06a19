//! Why bytes are not a NAR. Names from the archive are quoted only in part, so that no error is
//! long.

/// Why bytes are not a NAR, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid NAR at byte {offset}: {kind}")]
pub struct NarError {
    /// Where the token begins that is wrong, in bytes from the start of the NAR.
    pub offset: u64,
    /// What is wrong.
    pub kind: NarErrorKind,
}

/// What is wrong with a NAR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarErrorKind {
    /// Another token stands where only this one, or these, may.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A name of a directory entry that no file can have or that would leave the directory.
    #[error("`{0}` cannot be the name of a file")]
    BadName(String),
    /// A name of a directory entry that is longer than [`MAX_NAME_LEN`](super::MAX_NAME_LEN).
    #[error("a file name of {0} bytes, more than 255")]
    NameTooLong(u64),
    /// A name that is not above the one before it in its directory.
    #[error("`{0}` is out of order in its directory, or stands there twice")]
    Unsorted(String),
    /// A target of a symlink that is empty or has a NUL in it.
    #[error("a symlink's target is empty or has a NUL in it")]
    BadTarget,
    /// A target of a symlink that is longer than [`MAX_TARGET_LEN`](super::MAX_TARGET_LEN).
    #[error("a symlink's target of {0} bytes, more than 4,095")]
    TargetTooLong(u64),
    /// A file that is larger than [`MAX_FILE_SIZE`](super::MAX_FILE_SIZE).
    #[error("a file of {0} bytes, more than a file can have")]
    FileTooLarge(u64),
    /// The bytes that fill up a string to a multiple of 8 are not all zero.
    #[error("padding that is not zero")]
    BadPadding,
    /// Directories inside each other, more than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("more than 2,048 directories inside each other")]
    TooDeep,
    /// There is more behind the end.
    #[error("more bytes after the end of the archive")]
    TrailingBytes,
    /// The input ended before the archive did.
    #[error("the archive is cut off here")]
    Truncated,
}
