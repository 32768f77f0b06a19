//! What a query runs on: a connection of either engine.

use sqlx::{PgConnection, SqliteConnection};

/// A borrowed connection, inside or outside of a transaction.
#[derive(Debug)]
pub enum Exec<'c> {
    /// SQLite.
    Sqlite(&'c mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'c mut PgConnection),
}

impl Exec<'_> {
    /// Lends the same connection for one of several queries.
    pub fn again(&mut self) -> Exec<'_> {
        match self {
            Self::Sqlite(conn) => Exec::Sqlite(conn),
            Self::Postgres(conn) => Exec::Postgres(conn),
        }
    }
}

/// Writes a body once and compiles it for both engines; `$conn` is the engine's connection in it.
macro_rules! on_either {
    ($exec:expr, |$conn:ident| $body:expr) => {
        match $exec {
            $crate::db::Exec::Sqlite($conn) => $body,
            $crate::db::Exec::Postgres($conn) => $body,
        }
    };
}
pub(super) use on_either;
