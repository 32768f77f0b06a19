//! `snowbankd migrate-database`: moves a Snowbank to another database, with no server running on
//! either.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cli::MigrateDatabaseArgs;
use crate::admin::migrate_database::{self, Plan, Progress, TableComparison};
use crate::clock::unix_now;
use crate::config::{Config, DatabaseConfig, DatabaseUrl, Overrides, SecretString};
use crate::db::{Db, PostgresPlace};
use crate::secrets::{DataDir, DataDirLock};
use crate::storage::Storage;

const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Copies, compares, prints a line per table, and hands the storage over; the exit code is 0 only
/// when that was done.
pub(super) async fn migrate(
    overrides: &Overrides,
    args: MigrateDatabaseArgs,
) -> anyhow::Result<ExitCode> {
    let config = Config::load(overrides)?;
    let from = side(args.from, args.from_file)?
        .context("say where to move from, with --from or --from-file")?;
    let to = side(args.to, args.to_file)?.unwrap_or_else(|| config.database.url.clone());
    if from == to {
        bail!(
            "the database to move from and the one to move to are the same; say where to with --to \
             or --to-file"
        );
    }
    // Held to the end: what a server wrote meanwhile would be lost.
    let mut locks = lock(&config.data_dir, &from)?;
    locks.extend(lock(&config.data_dir, &to)?);

    let source = DatabaseConfig { url: from, ..config.database.clone() };
    let target = DatabaseConfig { url: to, ..config.database.clone() };
    let place = place(&target)?;
    let source = Db::open_source(&source).await.context("cannot open the database to move from")?;
    let target = Db::open_target(&target).await.context("cannot open the database to move to")?;
    let storage = Storage::attach(&config.storage)
        .await
        .context("the storage is needed, which is to know the new database")?;
    let storage = Arc::new(storage);

    let is_moved = match migrate_database::plan(&source, &target, &storage).await? {
        Plan::Finish => {
            eprintln!("everything was copied before, and the storage belongs to the new database");
            migrate_database::finish(&source, &target, &place).await?;
            true
        }
        plan => {
            copy(&source, &target, plan).await?;
            let is_equal = compare(&source, &target).await?;
            if is_equal {
                migrate_database::hand_over(&source, &target, &storage, &place, unix_now()).await?;
            }
            is_equal
        }
    };
    target.close().await;
    source.close().await;
    drop(locks);
    if !is_moved {
        eprintln!(
            "snowbankd: error: the databases differ. Empty the one that was moved to, and run the \
             command again; the one that was moved from is unchanged"
        );
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "The Snowbank is now in {place}. Set `url` or `url-file` of [database] to it (or \
         SNOWBANKD_DATABASE_URL)"
    );
    println!(
        "on every server, with the same `server-key-file`, and start. No server starts with the \
         old database."
    );
    println!("To go back, run `snowbankd migrate-database` the other way.");
    Ok(ExitCode::SUCCESS)
}

async fn copy(source: &Db, target: &Db, plan: Plan) -> anyhow::Result<()> {
    let mut told = ProgressLine::new("copying");
    match plan {
        Plan::Compare => {
            eprintln!("everything was copied before; comparing");
            return Ok(());
        }
        Plan::Replace => {
            eprintln!("the database to move to has rows of an older state; they are removed");
            migrate_database::empty(target).await?;
        }
        Plan::Resume => eprintln!("going on where an earlier run stopped"),
        Plan::Copy | Plan::Finish => {}
    }
    Ok(migrate_database::copy(source, target, &mut |progress| told.tell(progress)).await?)
}

/// Prints a line for each table; gives whether both sides are equal.
async fn compare(source: &Db, target: &Db) -> anyhow::Result<bool> {
    let mut told = ProgressLine::new("comparing");
    let compared =
        migrate_database::verify(source, target, &mut |progress| told.tell(progress)).await?;
    println!("{:<16} {:>12} {:>12}  {:<16}", "table", "rows from", "rows to", "checksum");
    for table in &compared {
        println!("{table}");
    }
    Ok(compared.iter().all(TableComparison::is_equal))
}

/// Where a database is, without its password.
fn place(config: &DatabaseConfig) -> anyhow::Result<String> {
    Ok(match (&config.url, PostgresPlace::of(config)?) {
        (_, Some(place)) => {
            format!("the PostgreSQL database `{}` at {}:{}", place.database, place.host, place.port)
        }
        (DatabaseUrl::Sqlite(path), None) => path.display().to_string(),
        (DatabaseUrl::Postgres(_), None) => "a PostgreSQL database".to_owned(),
    })
}

/// An address of the command line: given, or in a file. A relative path is relative to where the
/// command runs.
fn side(url: Option<SecretString>, file: Option<PathBuf>) -> anyhow::Result<Option<DatabaseUrl>> {
    let url = match (url, file) {
        (Some(url), _) => {
            DatabaseUrl::try_from(url.expose().to_owned()).map_err(anyhow::Error::msg)?
        }
        (None, Some(file)) => DatabaseUrl::from_file(&file)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(match url {
        DatabaseUrl::Sqlite(path) => DatabaseUrl::Sqlite(std::path::absolute(path)?),
        postgres @ DatabaseUrl::Postgres(_) => postgres,
    }))
}

/// Keeps servers away from a SQLite database: in its own folder, and in the configured data folder.
fn lock(data_dir: &Path, url: &DatabaseUrl) -> anyhow::Result<Vec<DataDirLock>> {
    let DatabaseUrl::Sqlite(path) = url else { return Ok(Vec::new()) };
    let mut folders = vec![data_dir];
    folders.extend(path.parent().filter(|folder| *folder != data_dir));
    let locks = folders.into_iter().map(DataDir::lock_if_used).collect::<Result<Vec<_>, _>>();
    Ok(locks
        .context("no server may run on a SQLite database that is moved")?
        .into_iter()
        .flatten()
        .collect())
}

/// Says how far it is, once a second.
struct ProgressLine {
    doing: &'static str,
    last: Instant,
}

impl ProgressLine {
    fn new(doing: &'static str) -> Self {
        Self { doing, last: Instant::now() }
    }

    fn tell(&mut self, progress: Progress) {
        if self.last.elapsed() >= TOLD_EVERY {
            self.last = Instant::now();
            eprintln!("{} {}: {} rows", self.doing, progress.table, progress.rows);
        }
    }
}
