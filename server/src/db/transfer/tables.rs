//! The tables that a move copies, with their columns and keys. A test compares them with the
//! schema.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Text,
    Blob,
}
use Kind::{Blob, Int, Text};

/// A table: its columns, of which the first `key` are what it is ordered by.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    pub(super) columns: &'static [(&'static str, Kind)],
    pub(super) key: usize,
    /// Small tables with rows from the start: written over, not gone on with.
    pub(super) seeded: bool,
}

const fn table(name: &'static str, key: usize, columns: &'static [(&'static str, Kind)]) -> Table {
    Table { name, columns, key, seeded: false }
}

/// Every table of the schema: the identity first, by which a copy that was cut off is known, then
/// those that others refer to before those that do.
pub const TABLES: [Table; 25] = [
    Table {
        seeded: true,
        ..table("instance", 1, &[("id", Text), ("epoch", Int), ("created", Int)])
    },
    Table { seeded: true, ..table("settings", 1, &[("key", Text), ("value", Text)]) },
    Table { seeded: true, ..table("counters", 1, &[("name", Text), ("next", Int)]) },
    Table { seeded: true, ..table("domains", 1, &[("id", Int), ("created", Int)]) },
    table(
        "caches",
        1,
        &[
            ("id", Int),
            ("name", Text),
            ("domain_id", Int),
            ("public", Int),
            ("store_dir", Text),
            ("priority", Int),
            ("want_mass_query", Int),
            ("upstream_keys", Text),
            ("compression_level", Int),
            ("created", Int),
            ("description", Text),
            ("retention", Int),
            ("max_size", Int),
            ("destroyed", Int),
        ],
    ),
    table(
        "signing_keys",
        1,
        &[
            ("id", Int),
            ("cache_id", Int),
            ("name", Text),
            ("public_key", Text),
            ("sealed_secret", Blob),
            ("created", Int),
            ("retired", Int),
        ],
    ),
    table(
        "token_keys",
        1,
        &[
            ("kid", Text),
            ("algorithm", Text),
            ("sealed_secret", Blob),
            ("created", Int),
            ("retired", Int),
        ],
    ),
    table("revoked_tokens", 1, &[("jti", Text), ("revoked", Int)]),
    table("revoked_subjects", 1, &[("subject", Text), ("issued_until", Int), ("revoked", Int)]),
    table(
        "tokens",
        1,
        &[
            ("jti", Text),
            ("kid", Text),
            ("subject", Text),
            ("label", Text),
            ("grants", Text),
            ("created", Int),
            ("expires", Int),
            ("created_by", Text),
            ("last_used", Int),
        ],
    ),
    table(
        "audit",
        1,
        &[
            ("id", Int),
            ("time", Int),
            ("subject", Text),
            ("token_id", Text),
            ("remote", Text),
            ("action", Text),
            ("cache", Text),
            ("detail", Text),
            ("outcome", Text),
        ],
    ),
    table(
        "packs",
        1,
        &[
            ("id", Int),
            ("domain_id", Int),
            ("cache_id", Int),
            ("key", Blob),
            ("state", Int),
            ("bytes", Int),
            ("chunk_count", Int),
            ("created", Int),
            ("died", Int),
        ],
    ),
    table(
        "chunks",
        1,
        &[
            ("id", Int),
            ("domain_id", Int),
            ("name", Blob),
            ("pack_id", Int),
            ("pack_offset", Int),
            ("record_len", Int),
        ],
    ),
    table(
        "nars",
        1,
        &[
            ("id", Int),
            ("domain_id", Int),
            ("nar_hash", Blob),
            ("nar_size", Int),
            ("file_hash", Blob),
            ("file_size", Int),
            ("content_digest", Blob),
            ("chunk_count", Int),
            ("segment_count", Int),
            ("format", Int),
            ("created", Int),
            ("manifest", Blob),
            ("cut_id", Int),
        ],
    ),
    table(
        "nar_segments",
        2,
        &[("nar_id", Int), ("seq", Int), ("first_raw", Int), ("first_stored", Int), ("data", Blob)],
    ),
    table(
        "paths",
        1,
        &[
            ("id", Int),
            ("cache_id", Int),
            ("hash", Text),
            ("name", Text),
            ("nar_id", Int),
            ("refs", Text),
            ("deriver", Text),
            ("signatures", Text),
            ("ca", Text),
            ("pushed_by", Text),
            ("created", Int),
            ("last_used", Int),
            ("expires", Int),
            ("extra", Text),
        ],
    ),
    table(
        "nar_uploads",
        2,
        &[
            ("cache_id", Int),
            ("file", Text),
            ("nar_id", Int),
            ("file_hash", Blob),
            ("file_size", Int),
            ("created", Int),
        ],
    ),
    table(
        "waiting_paths",
        2,
        &[
            ("cache_id", Int),
            ("hash", Text),
            ("waits_for", Text),
            ("narinfo", Text),
            ("pushed_by", Text),
            ("created", Int),
        ],
    ),
    table(
        "cache_files",
        2,
        &[
            ("cache_id", Int),
            ("name", Text),
            ("deriver", Text),
            ("hash", Text),
            ("nar_id", Int),
            ("size", Int),
            ("body", Text),
            ("pushed_by", Text),
            ("created", Int),
        ],
    ),
    table(
        "pins",
        2,
        &[("cache_id", Int), ("name", Text), ("generation", Int), ("keep", Int), ("expires", Int)],
    ),
    table(
        "pin_generations",
        3,
        &[
            ("cache_id", Int),
            ("name", Text),
            ("generation", Int),
            ("hash", Text),
            ("path_name", Text),
            ("created", Int),
            ("created_by", Text),
        ],
    ),
    table("unreferenced_nars", 1, &[("nar_id", Int), ("since", Int)]),
    table("unnamed_objects", 1, &[("key", Blob), ("seen", Int)]),
    table(
        "damaged_chunks",
        1,
        &[
            ("chunk_id", Int),
            ("domain_id", Int),
            ("name", Blob),
            ("pack_key", Blob),
            ("reason", Text),
            ("found", Int),
        ],
    ),
    table(
        "withdrawn_paths",
        2,
        &[
            ("cache_id", Int),
            ("hash", Text),
            ("name", Text),
            ("nar_hash", Blob),
            ("reason", Text),
            ("since", Int),
        ],
    ),
];
