//! `snowbankd backup` and `snowbankd restore`.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use snowbank_cli::confirm;
use snowbank_cli::date::utc;
use snowbank_core::units::Bytes;

use super::cli::{BackupArgs, RestoreArgs};
use super::{CommandContext, shell_quoted};
use crate::admin::backup::{SecretFile, back_up, secret_files, server_key_file};
use crate::admin::restore::{
    RestoreError, check_storage, open_backup, restore, restore_in_place, settle_epoch,
};
use crate::admin::{self, AdminError};
use crate::clock::unix_now;
use crate::config::{Config, DatabaseUrl, Overrides, StorageConfig};
use crate::db::instance::Instance;
use crate::db::{self, Db, PostgresPlace};
use crate::secrets::{DataDir, DataDirLock, Sealer};
use crate::storage::{MarkerError, Storage, StorageError};

/// Nothing was backed up: another program has to.
const NOT_HERE: u8 = 2;

/// What becomes of a storage that cannot be reached now.
const MARKED_LATER: &str = "The next start of the server marks the storage as this database's, \
    before anything else: it cannot be done now.";

/// `snowbankd backup`: says what was written, and what else belongs to it.
pub(super) async fn backup(overrides: &Overrides, args: BackupArgs) -> anyhow::Result<ExitCode> {
    let context = CommandContext::open(overrides).await?;
    let config = &context.config;
    let file = std::path::absolute(&args.file)?;
    let mut apart = secret_files(config);
    let DatabaseUrl::Sqlite(database) = &config.database.url else {
        context.db.close().await;
        return postgres(config, &file, &apart);
    };
    let inside = if args.with_secrets { std::mem::take(&mut apart) } else { Vec::new() };
    let made = back_up(&context.db, database, inside, &file, args.force, unix_now()).await?;
    context.db.close().await;
    println!(
        "Backed up {} to {} ({}): instance {}, epoch {}.",
        database.display(),
        file.display(),
        Bytes(made.bytes),
        made.info.instance,
        made.info.epoch
    );
    if !made.files.is_empty() {
        println!("In it, for whoever can read it:");
        list(&made.files);
    }
    needed(config, &apart);
    Ok(ExitCode::SUCCESS)
}

/// What another program has to do, on standard output.
fn postgres(config: &Config, file: &Path, apart: &[SecretFile]) -> anyhow::Result<ExitCode> {
    let place = PostgresPlace::of(&config.database)?.context("the database is not PostgreSQL")?;
    let quoted = |text: &str| shell_quoted(Path::new(text));
    let at = format!(
        "--host={} --port={} --username={}",
        quoted(&place.host),
        place.port,
        quoted(&place.user)
    );
    let (name, file) = (quoted(&place.database), shell_quoted(file));
    println!("The database is PostgreSQL, whose own programs back it up, while servers run:");
    println!("  pg_dump {at} --format=custom --no-owner --no-privileges --file={file} {name}");
    println!(
        "To restore that into an empty database, with no server running, and then once on one \
         server's host:"
    );
    println!(
        "  pg_restore {at} --dbname={name} --no-owner --no-privileges --single-transaction {file}"
    );
    println!("  snowbankd restore --in-place");
    println!("They ask for the password, or take it from PGPASSWORD or ~/.pgpass.");
    needed(config, apart);
    eprintln!("snowbankd: nothing was backed up; run the first of these commands");
    Ok(ExitCode::from(NOT_HERE))
}

/// What a backup is of little use without.
fn needed(config: &Config, apart: &[SecretFile]) {
    let there: Vec<SecretFile> = apart.iter().filter(|file| file.path.exists()).cloned().collect();
    if !there.is_empty() {
        println!(
            "These belong to it and are not in it; keep them where nobody else can read them:"
        );
        list(&there);
    }
    match &config.storage {
        StorageConfig::Local { path } => {
            println!(
                "The packs are in {}, whose files never change; copy that folder as well.",
                path.display()
            );
        }
        StorageConfig::S3(s3) => println!("The packs are in the bucket `{}`.", s3.bucket),
    }
}

fn list(files: &[SecretFile]) {
    for SecretFile { path, purpose, .. } in files {
        println!("  {}: {purpose}", path.display());
    }
}

/// `snowbankd restore`: says what it did, and what is to be done next.
pub(super) async fn restore_backup(
    overrides: &Overrides,
    args: RestoreArgs,
) -> anyhow::Result<ExitCode> {
    let config = Config::load(overrides)?;
    let data_dir = DataDir::create(&config.data_dir)?;
    // Held to the end.
    let _locks =
        lock(&config, &data_dir).context("no server may run while a database is restored")?;
    let storage = storage(&config).await?;
    match &args.file {
        Some(file) => from_file(&config, storage.as_ref(), file, &args).await?,
        None => in_place(&config, storage.as_ref(), &args).await?,
    }
    let db = Db::open_existing(&config.database).await?;
    let settled = match &storage {
        Some(storage) => settle_epoch(&db, storage, unix_now()).await.map(Some),
        None => Ok(None),
    };
    match settled {
        Ok(Some(Instance { id, epoch, .. })) => {
            println!(
                "Instance {id}, epoch {epoch}: no other copy of this database can use the storage."
            );
        }
        Err(RestoreError::Storage(MarkerError::Storage(error))) => {
            eprintln!("snowbankd: warning: {error}");
            println!("{MARKED_LATER}");
        }
        Ok(None) => println!("{MARKED_LATER}"),
        Err(error) => return Err(error.into()),
    }
    advise(&config, &db).await?;
    db.close().await;
    println!("Collection is off. Next, before or after the server is started:");
    println!("  snowbankd check     shows where database and storage disagree");
    println!(
        "  snowbankd repair    finds what was pushed since the backup, and switches collection on \
         again"
    );
    Ok(ExitCode::SUCCESS)
}

/// Keeps servers of this host away.
fn lock(config: &Config, data_dir: &DataDir) -> anyhow::Result<Vec<DataDirLock>> {
    let mut locks = vec![data_dir.lock()?];
    if let DatabaseUrl::Sqlite(path) = &config.database.url
        && let Some(folder) = path.parent().filter(|folder| *folder != data_dir.path())
    {
        locks.extend(DataDir::lock_if_used(folder)?);
    }
    Ok(locks)
}

/// The storage, unless it cannot be reached now; what is wrong with the settings, or with the
/// storage's marker, is an error.
async fn storage(config: &Config) -> anyhow::Result<Option<Storage>> {
    let reached = async {
        let storage = Storage::attach(&config.storage).await?;
        storage.marker().await?;
        Ok::<_, MarkerError>(storage)
    };
    match (reached.await, &config.storage) {
        (Ok(storage), _) => Ok(Some(storage)),
        (
            Err(MarkerError::Storage(StorageError::NotFound { .. })),
            StorageConfig::Local { path },
        ) => {
            eprintln!(
                "snowbankd: warning: {} is not there; put the packs there before you start the \
                 server",
                path.display()
            );
            Ok(None)
        }
        (Err(MarkerError::Storage(error)), _) if !matches!(error, StorageError::Settings(_)) => {
            eprintln!("snowbankd: warning: {error}");
            Ok(None)
        }
        (Err(error), _) => Err(error.into()),
    }
}

async fn from_file(
    config: &Config,
    storage: Option<&Storage>,
    file: &Path,
    args: &RestoreArgs,
) -> anyhow::Result<()> {
    let DatabaseUrl::Sqlite(database) = &config.database.url else {
        bail!(
            "the database in the settings is PostgreSQL: restore it with pg_restore, then run \
             `snowbankd restore --in-place`"
        );
    };
    let backup = open_backup(file).await?;
    if let Some(storage) = storage {
        check_storage(storage, &backup.info.instance, backup.info.epoch, args.force).await?;
    }
    let made = utc(backup.info.time);
    if args.force && !args.yes && database.exists() {
        let what = format!(
            "This puts the backup of {made} in the place of the database {}.",
            database.display()
        );
        confirm(&what, "restore")?;
    }
    let done = restore(&backup, database, &secret_files(config), args.force, unix_now()).await?;
    println!("Restored the backup of {made} to {}.", database.display());
    for (from, to) in &done.moved {
        println!("  {} was there, and is now {}", from.display(), to.display());
    }
    for path in &done.written {
        println!("  {} was in the backup, and is put back", path.display());
    }
    for name in &done.left {
        println!(
            "  `{name}` is in the backup, and the settings name no file for it: nothing was written"
        );
    }
    Ok(())
}

async fn in_place(
    config: &Config,
    storage: Option<&Storage>,
    args: &RestoreArgs,
) -> anyhow::Result<()> {
    if let DatabaseUrl::Sqlite(path) = &config.database.url
        && !path.exists()
    {
        return Err(db::DbError::Absent(path.clone()).into());
    }
    // It may be of an older version, or one that was moved away from.
    let db = Db::open_again(&config.database).await?;
    let found = db::instance::lookup(db.reader().await?.exec()).await?;
    let found = found
        .context("no Snowbank was ever set up in this database; restore a backup into it first")?;
    if let Some(storage) = storage {
        check_storage(storage, &found.id, found.epoch, args.force).await?;
    }
    restore_in_place(&db, args.force, unix_now()).await?;
    db.close().await;
    println!("The database is marked as restored.");
    Ok(())
}

/// Says what is missing before a server can start.
async fn advise(config: &Config, db: &Db) -> anyhow::Result<()> {
    let key = server_key_file(config);
    if matches!(key.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound) {
        println!(
            "The server key that belongs to this database is not here: put it into {} (mode 0600) \
             before you start the server.",
            key.display()
        );
        return Ok(());
    }
    let sealer = Sealer::for_command(config.server_key_file.as_deref(), &config.data_dir)?;
    match admin::check_server_key(db, &sealer).await {
        Err(AdminError::OtherServerKey) => {
            println!(
                "{} is another server key than this database's: replace it before you start the \
                 server.",
                key.display()
            );
            Ok(())
        }
        result => Ok(result?),
    }
}
