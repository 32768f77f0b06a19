//! The two forms of a NAR.

use snowbank_core::manifest::SegmentEntry;

use crate::db::nars::Nar;

/// Raw batches are counted with what they decode to, and so may be this many times as large.
const RAW_WINDOWS: u64 = 4;

/// Which of the two forms of a NAR is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Representation {
    /// `.nar.zst`: the filled frames, one after the other.
    Zstd,
    /// `.nar`: what they decode to.
    Raw,
}

impl Representation {
    /// Bytes of the whole NAR in this form.
    #[must_use]
    pub fn len(self, nar: &Nar) -> u64 {
        match self {
            Self::Zstd => nar.file_size,
            Self::Raw => nar.nar_size,
        }
    }

    /// Memory that a chunk takes beside what is read of it.
    pub(super) fn cost_of(self, entry: &SegmentEntry) -> u64 {
        match self {
            Self::Zstd => 0,
            Self::Raw => entry.raw_len.into(),
        }
    }

    pub(super) fn windows(self) -> u64 {
        match self {
            Self::Zstd => 1,
            Self::Raw => RAW_WINDOWS,
        }
    }

    pub(super) fn len_of(self, entry: &SegmentEntry) -> u64 {
        u64::from(match self {
            Self::Zstd => entry.frame_len,
            Self::Raw => entry.raw_len,
        })
    }
}
