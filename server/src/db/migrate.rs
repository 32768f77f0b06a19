//! Brings the schema up to date, or finds that it is not.
//!
//! The steps lie in `migrations/{sqlite,postgres}` at the workspace's top, one number and meaning in both; they are
//! append-only: a step that has been released is never changed.

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Acquire, SqlSafeStr};

use super::DbError;

/// Which dialect a step is written in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// Number, description, and the step for SQLite and for PostgreSQL.
const STEPS: [(i64, &str, &str, &str); 1] = [(
    1,
    "initial",
    include_str!("../../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../../migrations/postgres/0001_initial.sql"),
)];

const LATEST: i64 = STEPS[STEPS.len() - 1].0;

fn migrator(dialect: Dialect) -> Migrator {
    let steps = STEPS.into_iter().map(|(version, description, sqlite, postgres)| {
        let sql = match dialect {
            Dialect::Sqlite => sqlite,
            Dialect::Postgres => postgres,
        };
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect())
}

/// Applies the steps that are missing, each in a transaction of its own.
pub(super) async fn run<'a, A>(dialect: Dialect, connection: A) -> Result<(), DbError>
where
    A: Acquire<'a>,
    <A::Connection as std::ops::Deref>::Target: Migrate,
{
    migrator(dialect).run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => DbError::Newer { found, known: LATEST },
        MigrateError::Execute(error) => DbError::from(error),
        error => DbError::Migrate(error),
    })
}

/// Checks that every step has been applied and no other; changes nothing.
pub(super) async fn check<C: Migrate>(conn: &mut C) -> Result<(), DbError> {
    let applied = conn.list_applied_migrations("_sqlx_migrations").await.map_err(|error| match error {
        // Without that table nothing has ever been applied: the file is there, and the server has not set it up yet.
        MigrateError::Execute(sqlx::Error::Database(_)) => DbError::Older(LATEST),
        MigrateError::Execute(error) => DbError::from(error),
        error => DbError::Migrate(error),
    })?;
    match applied.last().map_or(0, |step| step.version) {
        found if found > LATEST => Err(DbError::Newer { found, known: LATEST }),
        found if found < LATEST => Err(DbError::Older(LATEST)),
        _ => Ok(()),
    }
}
