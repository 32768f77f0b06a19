//! How much of everything the suite does: in a measurement, and in a trial of the suite itself.

use std::time::Duration;

/// Sizes and counts.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// Whether this is a trial, whose figures say nothing.
    pub(crate) quick: bool,
    /// Pairs of releases that (b) has; `None` is all of them.
    pub(crate) pairs: Option<&'static [&'static str]>,
    /// Bytes of (a).
    pub(crate) tree_bytes: u64,
    /// Paths of (c).
    pub(crate) tiny_paths: usize,
    /// Size of (d).
    pub(crate) large_mebibytes: u64,
    /// Chunks, and paths, that are stored beforehand where pushes to a full cache are measured.
    pub(crate) full_chunks: u64,
    /// See `full_chunks`.
    pub(crate) full_paths: u64,
    /// Paths that are stored beforehand where reads of a full cache are measured.
    pub(crate) many_paths: u64,
    /// How long each load of requests lasts.
    pub(crate) load: Duration,
    /// How often all NARs are downloaded in one run.
    pub(crate) passes: usize,
    /// Size of the NAR that is read from a storage far away.
    pub(crate) far_megabytes: usize,
    /// Bytes of (a) that go over the slowest link.
    pub(crate) slow_bytes: u64,
    /// How long a server is left alone before its memory counts as idle.
    pub(crate) idle: Duration,
    /// Builds whose hooks are timed.
    pub(crate) hooks: usize,
}

impl Scale {
    /// What is measured.
    pub(crate) const FULL: Self = Self {
        quick: false,
        pairs: None,
        tree_bytes: 1_500_000_000,
        tiny_paths: 2_000,
        large_mebibytes: 4_096,
        full_chunks: 1_000_000,
        full_paths: 200_000,
        many_paths: 1_000_000,
        load: Duration::from_secs(4),
        passes: 4,
        far_megabytes: 300,
        slow_bytes: 100_000_000,
        idle: Duration::from_secs(10),
        hooks: 1_000,
    };

    /// What tries the suite out.
    pub(crate) const QUICK: Self = Self {
        quick: true,
        pairs: Some(&["libpython3.11-stdlib", "linux-libc-dev", "php8.2-cli"]),
        tree_bytes: 60_000_000,
        tiny_paths: 200,
        large_mebibytes: 256,
        full_chunks: 50_000,
        full_paths: 10_000,
        many_paths: 50_000,
        load: Duration::from_millis(500),
        passes: 1,
        far_megabytes: 60,
        slow_bytes: 10_000_000,
        idle: Duration::from_secs(2),
        hooks: 50,
    };
}
