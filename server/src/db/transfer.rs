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

mod tables;
mod value;

use tables::Kind::{Blob, Int, Text};
pub use tables::{TABLES, Table};
pub use value::{Digest, Row, Value};

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
