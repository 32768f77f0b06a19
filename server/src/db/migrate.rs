//! Brings the schema up to date, or finds that it is not.
//!
//! The steps lie in `migrations/{sqlite,postgres}` at the workspace's top, one number and meaning
//! in both; they are append-only: a step that has been released is never changed. On PostgreSQL
//! they are taken under an advisory lock, so that any number of servers can start at once.
//!
//! Servers of two versions share a database while one replaces the other. So a step expands only:
//! new tables, new columns with a default. What older versions cannot live with (a column gone, a
//! new meaning) comes at least one release later, and its step raises the setting `oldest-schema`:
//! the lowest schema that a program must know to work with the database. Without that setting, any
//! will do.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::exec::on_either;
use super::{DbError, Exec, settings};

/// The setting with the lowest schema that a program must know.
pub(super) const OLDEST: &str = "oldest-schema";

struct Step {
    version: i64,
    description: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

const STEPS: [Step; 7] = [
    Step {
        version: 1,
        description: "initial",
        sqlite: include_str!("../../../migrations/sqlite/0001_initial.sql"),
        postgres: include_str!("../../../migrations/postgres/0001_initial.sql"),
    },
    Step {
        version: 2,
        description: "cut id",
        sqlite: include_str!("../../../migrations/sqlite/0002_cut_id.sql"),
        postgres: include_str!("../../../migrations/postgres/0002_cut_id.sql"),
    },
    Step {
        version: 3,
        description: "operators",
        sqlite: include_str!("../../../migrations/sqlite/0003_operators.sql"),
        postgres: include_str!("../../../migrations/postgres/0003_operators.sql"),
    },
    Step {
        version: 4,
        description: "kept",
        sqlite: include_str!("../../../migrations/sqlite/0004_kept.sql"),
        postgres: include_str!("../../../migrations/postgres/0004_kept.sql"),
    },
    Step {
        version: 5,
        description: "listings",
        sqlite: include_str!("../../../migrations/sqlite/0005_listings.sql"),
        postgres: include_str!("../../../migrations/postgres/0005_listings.sql"),
    },
    Step {
        version: 6,
        description: "chain",
        sqlite: include_str!("../../../migrations/sqlite/0006_chain.sql"),
        postgres: include_str!("../../../migrations/postgres/0006_chain.sql"),
    },
    Step {
        version: 7,
        description: "uploads",
        sqlite: include_str!("../../../migrations/sqlite/0007_uploads.sql"),
        postgres: include_str!("../../../migrations/postgres/0007_uploads.sql"),
    },
];

pub(super) const LATEST: i64 = STEPS[STEPS.len() - 1].version;

fn migrator(sql: fn(&Step) -> &'static str) -> Migrator {
    let steps = STEPS.iter().map(|step| {
        let (kind, sql) = (MigrationType::Simple, sql(step).into_sql_str());
        Migration::new(step.version, step.description.into(), kind, sql, false)
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    // Steps of a newer version are judged here, by what they say about older ones.
    migrator.set_ignore_missing(true);
    migrator
}

/// Applies the steps that are missing, each in a transaction of its own.
pub(super) async fn run(mut exec: Exec<'_>) -> Result<(), DbError> {
    // A database of a newer version is not touched, not even by a look for missing steps.
    if let Some(found) = applied(exec.again()).await? {
        judge(exec.again(), found).await?;
    }
    let done = match exec.again() {
        Exec::Sqlite(conn) => migrator(|step| step.sqlite).run_direct(None, conn, false).await,
        Exec::Postgres(conn) => migrator(|step| step.postgres).run_direct(None, conn, false).await,
    };
    done.map_err(failed)?;
    let found = applied(exec.again()).await?.unwrap_or_default();
    if found > LATEST {
        tracing::info!(
            schema = found,
            known = LATEST,
            "the database has the schema of a newer version, with which this one works"
        );
    }
    judge(exec, found).await
}

/// Checks that every step has been applied, and none that this version cannot live with; changes
/// nothing.
pub(super) async fn check(mut exec: Exec<'_>) -> Result<(), DbError> {
    match applied(exec.again()).await?.unwrap_or_default() {
        found if found < LATEST => Err(DbError::Older(LATEST)),
        found => judge(exec, found).await,
    }
}

/// Checks that no step has been applied that this version does not know.
pub(super) async fn check_known(exec: Exec<'_>) -> Result<(), DbError> {
    match applied(exec).await?.unwrap_or_default() {
        found if found > LATEST => Err(DbError::Newer { found, known: LATEST }),
        _ => Ok(()),
    }
}

/// The last step that was applied; `None` where nothing ever was.
async fn applied(exec: Exec<'_>) -> Result<Option<i64>, DbError> {
    let steps = on_either!(exec, |conn| conn.list_applied_migrations("_sqlx_migrations").await);
    match steps {
        Ok(steps) => Ok(steps.last().map(|step| step.version)),
        // Without that table the database is there, and no server has set it up yet.
        Err(MigrateError::Execute(error)) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Whether a statement named a table that there is not.
pub(super) fn is_absent(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
}

/// Refuses a schema whose steps this version cannot live with.
async fn judge(exec: Exec<'_>, found: i64) -> Result<(), DbError> {
    if found <= LATEST {
        return Ok(());
    }
    let oldest = settings::lookup(exec, OLDEST).await?;
    let oldest = oldest.map_or(Ok(0), |text| text.parse::<i64>());
    match oldest.map_err(|error| DbError::corrupt(format!("the setting `{OLDEST}`: {error}")))? {
        oldest if oldest > LATEST => Err(DbError::Newer { found, known: LATEST }),
        _ => Ok(()),
    }
}

fn failed(error: MigrateError) -> DbError {
    match error {
        MigrateError::Execute(error) => DbError::from(error),
        MigrateError::ExecuteMigration(error, version) => match DbError::from(error) {
            DbError::Other(error) | DbError::Constraint(error) => {
                DbError::Migrate(MigrateError::ExecuteMigration(error, version))
            }
            // A full disk or a lost connection is no fault of the step.
            error => error,
        },
        error => DbError::Migrate(error),
    }
}
