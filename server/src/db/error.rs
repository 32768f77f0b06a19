//! What can go wrong with the database, sorted by what a caller does about it.
//!
//! No message holds a statement's values, and none holds the database's password.

use std::path::PathBuf;

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::migrate::MigrateError;

/// Why a database call failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Others hold a lock or every connection; worth another try in a moment.
    #[error("the database is busy; try again in a moment")]
    Busy(#[source] sqlx::Error),
    /// It cannot be reached, or cannot be written to.
    #[error(
        "the database is unavailable: {0}. Check that it runs and can be written to, and its disk"
    )]
    Unavailable(#[source] sqlx::Error),
    /// PostgreSQL cannot be reached, or not be used, at the start.
    #[error("cannot use the PostgreSQL database {target}: {problem}")]
    Connect {
        /// Host, port and database, without a password.
        target: String,
        /// What failed, and what to do.
        problem: String,
        /// What the driver said, if it was the driver.
        source: Option<sqlx::Error>,
    },
    /// The database file cannot be opened.
    #[error(
        "cannot open the database file {}: {source}. Its folder has to be there and writable for \
         the user that runs snowbankd, and the file has to be a SQLite database",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// A row is there already, or one that is named is not.
    #[error("the database refused the change: {0}")]
    Constraint(#[source] sqlx::Error),
    /// No room is left.
    #[error("the database has no room left to write: {0}. Make room on its disk")]
    Full(#[source] sqlx::Error),
    /// A row says what no row can say.
    #[error("the database is damaged: {0}. Run `snowbankd check`, or restore a backup")]
    Corrupt(String),
    /// A number does not fit the database's 64-bit signed integers.
    #[error("{0} is too large a number for the database")]
    TooLarge(u64),
    /// There is no database yet.
    #[error("there is no database {}. Start `snowbankd` once, or say where its data is with \
        --data-dir DIR", .0.display())]
    Absent(PathBuf),
    /// A newer version has changed the schema.
    #[error(
        "the database was written by a newer version of snowbankd (schema {found}; this one knows \
         {known}). Start the newer version, or restore a backup from before the upgrade"
    )]
    Newer {
        /// A schema version that the database has and this program does not know.
        found: i64,
        /// The latest schema version that this program knows.
        known: i64,
    },
    /// A move into this database was cut off.
    #[error(
        "the database is not complete: `snowbankd migrate-database` was moving rows into it. Run \
         that command again to the end, or use the database that they come from"
    )]
    Moving,
    /// Its rows were moved to another one.
    #[error(
        "the database was moved to {0} by `snowbankd migrate-database`; use that one. To go back, \
         run `snowbankd migrate-database` the other way; if the new one is lost, `snowbankd \
         restore --in-place --force` makes this one count again, without what was pushed since"
    )]
    Moved(String),
    /// This version has to upgrade the schema before a command can use it.
    #[error(
        "the database has the schema of an older version of snowbankd (this one needs {0}). \
         Restart the server with this version first, which upgrades it"
    )]
    Older(i64),
    /// The schema could not be brought up to date.
    #[error(
        "cannot upgrade the database: {0}. Nothing was changed by the failed step; restore a \
         backup if this stays"
    )]
    Migrate(#[source] MigrateError),
    /// Anything else.
    #[error("the database failed: {0}")]
    Other(#[source] sqlx::Error),
}

impl DbError {
    /// A row that says what no row can say; `what` names it.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(what.into())
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let class = match &error {
            sqlx::Error::Database(database) => classify(database.as_ref()),
            sqlx::Error::PoolTimedOut => Class::Busy,
            // A connection that was cut in the middle of a message reads as a breach of the
            // protocol.
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Class::Unavailable,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                return Self::Corrupt(error.to_string());
            }
            _ => Class::Other,
        };
        match class {
            Class::Busy => Self::Busy(error),
            Class::Unavailable => Self::Unavailable(error),
            Class::Constraint => Self::Constraint(error),
            Class::Full => Self::Full(error),
            Class::Corrupt => Self::Corrupt(error.to_string()),
            Class::Other => Self::Other(error),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Busy,
    Unavailable,
    Constraint,
    Full,
    Corrupt,
    Other,
}

fn classify(error: &dyn DatabaseError) -> Class {
    if error.kind() != ErrorKind::Other {
        return Class::Constraint;
    }
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        code.parse().map_or(Class::Other, classify_sqlite)
    } else {
        classify_postgres(&code)
    }
}

/// SQLite's extended result codes, <https://www.sqlite.org/rescode.html>.
fn classify_sqlite(code: i32) -> Class {
    /// A full disk shows as this one when the shared-memory file cannot grow.
    const IOERR_SHMSIZE: i32 = 4874;
    match (code, code & 0xff) {
        (IOERR_SHMSIZE, _) | (_, 13) => Class::Full,
        (_, 5 | 6) => Class::Busy,
        (_, 8 | 10 | 14) => Class::Unavailable,
        (_, 11) => Class::Corrupt,
        (_, 19) => Class::Constraint,
        _ => Class::Other,
    }
}

/// PostgreSQL's SQLSTATE codes, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn classify_postgres(code: &str) -> Class {
    match code {
        "53100" => Class::Full,
        "40001" | "40P01" | "55P03" | "57014" => Class::Busy,
        "XX001" | "XX002" => Class::Corrupt,
        // Connections, resources, shutdown and start, the system; then who may log in, and the
        // database itself, which an operator is about to change.
        _ if ["08", "53", "57P", "58", "28", "3D"].iter().any(|class| code.starts_with(class)) => {
            Class::Unavailable
        }
        // A server that only follows another, and a transaction that idled for too long.
        "25006" | "25P03" => Class::Unavailable,
        _ if code.starts_with("23") => Class::Constraint,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        assert_eq!(classify_sqlite(13), Class::Full);
        assert_eq!(classify_sqlite(4874), Class::Full);
        assert_eq!(classify_sqlite(778), Class::Unavailable);
        assert_eq!(classify_postgres("53100"), Class::Full);
        assert_eq!(classify_postgres("58030"), Class::Unavailable);
    }

    #[test]
    fn a_server_that_goes_or_comes_is_unavailable() {
        for code in
            ["57P01", "57P02", "57P03", "57P05", "08006", "08P01", "25P03", "25006", "53300"]
        {
            assert_eq!(classify_postgres(code), Class::Unavailable, "{code}");
        }
        for kind in [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof] {
            let error = DbError::from(sqlx::Error::Io(kind.into()));
            assert!(matches!(error, DbError::Unavailable(_)), "{error}");
        }
    }

    #[test]
    fn locks_are_worth_another_try() {
        assert_eq!(classify_sqlite(5), Class::Busy);
        assert_eq!(classify_sqlite(517), Class::Busy);
        assert_eq!(classify_postgres("40P01"), Class::Busy);
    }
}
