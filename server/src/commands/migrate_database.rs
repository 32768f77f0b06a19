//! `snowbankd migrate-database`: moves a Snowbank to another database, with no server running on either.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cli::MigrateDatabaseArgs;
use crate::admin::migrate_database::{self, Compared, Plan, Progress};
use crate::config::{Config, DatabaseConfig, DatabaseUrl, Overrides, SecretString};
use crate::db::Db;
use crate::secrets::{DataDir, DataDirLock};

const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Copies, compares, and prints a line per table; the exit code is 0 only when both sides are equal.
pub(super) async fn migrate(overrides: &Overrides, args: MigrateDatabaseArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(overrides)?;
    let from = side(args.from, args.from_file)?.context("say where to move from, with --from or --from-file")?;
    let to = side(args.to, args.to_file)?.unwrap_or_else(|| config.database.url.clone());
    if from == to {
        bail!("the database to move from and the one to move to are the same; say where to with --to or --to-file");
    }
    // Held to the end: what a server wrote meanwhile would be lost.
    let mut locks = lock(&config.data_dir, &from)?;
    locks.extend(lock(&config.data_dir, &to)?);

    let source = DatabaseConfig { url: from, ..config.database.clone() };
    let source = Db::open_source(&source).await.context("cannot open the database to move from")?;
    let target = DatabaseConfig { url: to, ..config.database.clone() };
    let target = Db::open_target(&target).await.context("cannot open the database to move to")?;

    let mut told = Told::new("copying");
    match migrate_database::plan(&source, &target).await? {
        Plan::Compare => eprintln!("everything was copied before; comparing"),
        plan => {
            if plan == Plan::Resume {
                eprintln!("going on where an earlier run stopped");
            }
            migrate_database::copy(&source, &target, &mut |progress| told.tell(progress)).await?;
        }
    }
    told = Told::new("comparing");
    let compared = migrate_database::verify(&source, &target, &mut |progress| told.tell(progress)).await?;
    target.close().await;
    source.close().await;
    drop(locks);

    println!("{:<16} {:>12} {:>12}  {:<16}", "table", "rows from", "rows to", "checksum");
    for table in &compared {
        println!("{table}");
    }
    if !compared.iter().all(Compared::is_equal) {
        eprintln!(
            "snowbankd: error: the databases differ. Empty the one that was moved to, and run the command again; the one \
             that was moved from is unchanged"
        );
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "The databases are equal. Now set `url` or `url-file` of [database] to the new one (or SNOWBANKD_DATABASE_URL)"
    );
    println!(
        "on every server, with the same `server-key-file`, and start. The old database is unchanged; keep it as a backup."
    );
    Ok(ExitCode::SUCCESS)
}

/// An address of the command line: given, or in a file. A relative path is relative to where the command runs.
fn side(url: Option<SecretString>, file: Option<PathBuf>) -> anyhow::Result<Option<DatabaseUrl>> {
    let url = match (url, file) {
        (Some(url), _) => DatabaseUrl::try_from(url.expose().to_owned()).map_err(anyhow::Error::msg)?,
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
    Ok(locks.context("no server may run on a SQLite database that is moved")?.into_iter().flatten().collect())
}

/// Says how far it is, once a second.
struct Told {
    doing: &'static str,
    last: Instant,
}

impl Told {
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
