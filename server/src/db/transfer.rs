//! Whole tables, row by row, from one database to another of either engine.
//!
//! Rows go in the order of their keys, and a batch is one transaction: what the target has of a
//! table is always its beginning, so that a copy that was cut off goes on behind the target's last
//! key. Memory is bounded by the bytes of a batch and one row.

use futures_util::TryStreamExt;
use sqlx::Row as _;

use super::batch::Engine as _;
use super::exec::on_either;
use super::{DbError, Exec, batch, settings};

/// The setting of a target that servers do not work with yet.
const MOVING: &str = "moving";
/// Its values: rows are missing; or all are there, and the storage's marker decides.
const INCOMPLETE: &str = "1";
const ARRIVING: &str = "arriving";
/// Settings that say something of a database rather than of its rows.
const OWN_SETTINGS: &str = "'moving', 'moved-to'";
/// Tables, likewise.
const OWN_TABLES: [&str; 1] = ["chain"];
/// Rows of one batch at most.
const BATCH_ROWS: u32 = 512;
/// Bytes of one batch at most, but for its last row.
const BATCH_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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
    columns: &'static [(&'static str, Kind)],
    key: usize,
    /// Small tables with rows from the start: written over, not gone on with.
    seeded: bool,
}

const fn table(name: &'static str, key: usize, columns: &'static [(&'static str, Kind)]) -> Table {
    Table { name, columns, key, seeded: false }
}

/// Every table of the schema: the identity first, by which a copy that was cut off is known, then
/// those that others refer to before those that do.
pub const TABLES: [Table; 22] = [
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

/// A column's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    fn len(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }

    /// One way to write it as bytes, the same for both engines, that no other value has.
    fn hash_into(&self, hasher: &mut blake3::Hasher) {
        let (tag, bytes) = match self {
            Self::Null => (0, &[][..]),
            Self::Int(number) => (1, &number.to_le_bytes()[..]),
            Self::Text(text) => (2, text.as_bytes()),
            Self::Blob(bytes) => (3, &bytes[..]),
        };
        hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
}

/// A row: a value per column.
pub type Row = Vec<Value>;

/// How many rows a table has, and BLAKE3 over all of them in the order of their keys.
#[derive(Debug, Default, Clone)]
pub struct Digest {
    /// Rows.
    pub rows: u64,
    hasher: Box<blake3::Hasher>,
}

impl Digest {
    /// Takes in a row.
    pub fn add(&mut self, row: &[Value]) {
        self.rows += 1;
        for value in row {
            value.hash_into(&mut self.hasher);
        }
    }

    /// The checksum of what was taken in.
    #[must_use]
    pub fn checksum(&self) -> blake3::Hash {
        self.hasher.finalize()
    }
}

/// Binds a value; NULL has the type of its column, which PostgreSQL asks for.
macro_rules! bind {
    ($query:expr, $value:expr, $kind:expr) => {
        match ($value, $kind) {
            (Value::Int(number), _) => $query.bind(*number),
            (Value::Text(text), _) => $query.bind(text.as_str()),
            (Value::Blob(bytes), _) => $query.bind(bytes.as_slice()),
            (Value::Null, Int) => $query.bind(None::<i64>),
            (Value::Null, Text) => $query.bind(None::<&str>),
            (Value::Null, Blob) => $query.bind(None::<&[u8]>),
        }
    };
}

impl Table {
    /// Whether the table is small and copied anew each time.
    #[must_use]
    pub const fn is_seeded(&self) -> bool {
        self.seeded
    }

    /// The key of a row.
    #[must_use]
    pub fn key_of(&self, row: &[Value]) -> Row {
        row.iter().take(self.key).cloned().collect()
    }

    fn names(&self, count: usize) -> String {
        self.columns.iter().take(count).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// What a server's own bookkeeping adds to a table is no part of it.
    fn condition(&self, after: bool) -> String {
        let keys = self.names(self.key);
        let placeholders =
            (1..=self.key).map(|key| format!("${key}")).collect::<Vec<_>>().join(", ");
        match (self.name, after) {
            ("settings", true) => format!("WHERE key NOT IN ({OWN_SETTINGS}) AND key > $1"),
            ("settings", false) => format!("WHERE key NOT IN ({OWN_SETTINGS})"),
            (_, true) => format!("WHERE ({keys}) > ({placeholders})"),
            (_, false) => String::new(),
        }
    }

    /// The rows behind the key `after`, up to a batch.
    pub async fn read(&self, exec: Exec<'_>, after: Option<&[Value]>) -> Result<Vec<Row>, DbError> {
        let sql = format!(
            "SELECT {} FROM {} {} ORDER BY {} LIMIT {BATCH_ROWS}",
            self.names(self.columns.len()),
            self.name,
            self.condition(after.is_some()),
            self.names(self.key)
        );
        self.fetch(exec, sql, after.unwrap_or_default(), self.columns.len()).await
    }

    /// The key of the last row.
    pub async fn last_key(&self, exec: Exec<'_>) -> Result<Option<Row>, DbError> {
        let order = self.names(self.key).replace(", ", " DESC, ");
        let sql = format!(
            "SELECT {} FROM {} {} ORDER BY {order} DESC LIMIT 1",
            self.names(self.key),
            self.name,
            self.condition(false)
        );
        Ok(self.fetch(exec, sql, &[], self.key).await?.pop())
    }

    async fn fetch(
        &self,
        exec: Exec<'_>,
        sql: String,
        bound: &[Value],
        columns: usize,
    ) -> Result<Vec<Row>, DbError> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        on_either!(exec, |conn| {
            let mut query = sqlx::query(conn.text(sql));
            for (value, (_, kind)) in bound.iter().zip(self.columns) {
                query = bind!(query, value, kind);
            }
            let mut found = query.fetch(conn);
            while let Some(row) = found.try_next().await? {
                let mut values = Vec::with_capacity(columns);
                for (index, (_, kind)) in self.columns.iter().take(columns).enumerate() {
                    values.push(match kind {
                        Int => {
                            row.try_get::<Option<i64>, _>(index)?.map_or(Value::Null, Value::Int)
                        }
                        Text => row
                            .try_get::<Option<String>, _>(index)?
                            .map_or(Value::Null, Value::Text),
                        Blob => row
                            .try_get::<Option<Vec<u8>>, _>(index)?
                            .map_or(Value::Null, Value::Blob),
                    });
                }
                bytes += values.iter().map(Value::len).sum::<usize>();
                rows.push(values);
                if bytes >= BATCH_BYTES {
                    break;
                }
            }
        });
        Ok(rows)
    }

    /// Writes rows; in a seeded table over those that are there.
    pub async fn write(&self, exec: Exec<'_>, rows: &[Row]) -> Result<(), DbError> {
        let count = self.columns.len();
        let over = if self.seeded {
            let set: Vec<_> = self
                .columns
                .iter()
                .skip(self.key)
                .map(|(name, _)| format!("{name} = excluded.{name}"))
                .collect();
            format!(" ON CONFLICT ({}) DO UPDATE SET {}", self.names(self.key), set.join(", "))
        } else {
            String::new()
        };
        on_either!(exec, |conn| {
            for rows in batch::exact(rows) {
                let values = batch::rows(count, rows.len());
                let sql = format!(
                    "INSERT INTO {} ({}) VALUES {values}{over}",
                    self.name,
                    self.names(count)
                );
                let mut query = sqlx::query(conn.text(sql));
                for row in rows {
                    for (value, (_, kind)) in row.iter().zip(self.columns) {
                        query = bind!(query, value, kind);
                    }
                }
                query.execute(&mut *conn).await?;
            }
        });
        Ok(())
    }
}

/// How far the move into a database has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveState {
    /// Rows are missing.
    Incomplete,
    /// All rows are there; the database takes over once the storage's marker says so.
    Arriving,
}

/// How far the move into this database has come, if there is one under way.
pub async fn state(exec: Exec<'_>) -> Result<Option<MoveState>, DbError> {
    let found = settings::lookup(exec, MOVING).await?;
    Ok(found
        .map(|value| if value == ARRIVING { MoveState::Arriving } else { MoveState::Incomplete }))
}

/// Notes how far the move into this database has come; `None`: it has ended.
pub async fn set_state(exec: Exec<'_>, state: Option<MoveState>) -> Result<(), DbError> {
    match state {
        Some(MoveState::Incomplete) => settings::set(exec, MOVING, INCOMPLETE).await,
        Some(MoveState::Arriving) => settings::set(exec, MOVING, ARRIVING).await,
        None => settings::remove(exec, MOVING).await,
    }
}

/// Removes every row of a database that was moved away from, and marks it as one that rows are
/// moved into.
pub async fn empty(mut exec: Exec<'_>) -> Result<(), DbError> {
    let names = || TABLES.iter().rev().map(|table| table.name).chain(OWN_TABLES);
    match exec.again() {
        Exec::Sqlite(conn) => {
            for name in names() {
                sqlx::query(conn.text(format!("DELETE FROM {name}"))).execute(&mut *conn).await?;
            }
        }
        Exec::Postgres(conn) => {
            let all = names().collect::<Vec<_>>().join(", ");
            sqlx::query(conn.text(format!("TRUNCATE {all}"))).execute(conn).await?;
        }
    }
    set_state(exec, Some(MoveState::Incomplete)).await
}

/// Columns of a SQLite database that no table here names.
#[cfg(test)]
pub(crate) async fn unknown_columns(exec: Exec<'_>) -> Result<Vec<String>, DbError> {
    let Exec::Sqlite(conn) = exec else { return Ok(Vec::new()) };
    let found: Vec<(String, String)> = sqlx::query_as(
        "SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type \
         = 'table' AND m.name <> '_sqlx_migrations'",
    )
    .fetch_all(conn)
    .await?;
    let known = |table: &str, column: &str| {
        TABLES.iter().any(|known| {
            known.name == table && known.columns.iter().any(|(name, _)| *name == column)
        })
    };
    let is_own = |table: &str| OWN_TABLES.contains(&table);
    let unknown =
        found.into_iter().filter(|(table, column)| !known(table, column) && !is_own(table));
    Ok(unknown.map(|(table, column)| format!("{table}.{column}")).collect())
}
