//! Opening the database: pools, what every connection is set to, and the two kinds of transaction.
//!
//! SQLite: one connection writes and a few read, each with its settings in the connect options, so
//! that no connection is ever without them; `synchronous=FULL` makes a commit durable. PostgreSQL
//! (see [`postgres`]): every session has `synchronous_commit` on, and limits on its statements.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, PgPool, Postgres, Sqlite, SqlitePool, Transaction};
use tokio::sync::{Mutex, Notify};

use super::counters::{self, Counter};
use super::exec::on_either;
use super::pool::{PATIENCE, pool_options};
use super::reserve::Reserve;
use super::transfer::MoveState;
use super::tx::{Conn, ConnInner, Tx, TxInner};
use super::{DbError, Exec, chain, migrate, postgres, transfer};
use crate::config::{DatabaseConfig, DatabaseUrl, PostgresConfig};

/// Connections that read from SQLite at the same time.
const SQLITE_READERS: u32 = 4;
/// Page cache of one SQLite connection; with the readers and the writer, 80 MiB.
const SQLITE_CACHE_KIB: u32 = 16 * 1024;

/// How long commits are gathered before they are folded into SQLite's file.
const FOLD_AFTER: Duration = Duration::from_secs(1);

/// Who asks whether the database lives has a limit of their own: one that takes longer is as good
/// as gone.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(3);

/// The advisory lock that keeps commits and destructive transactions apart on PostgreSQL
/// ("snowbank" in ASCII).
const COMMIT_LOCK: i64 = 0x736e_6f77_6261_6e6b;

/// A handle to the database; clones share its connections.
#[derive(Debug, Clone)]
pub struct Db(pub(super) Pools);

#[derive(Debug, Clone)]
pub(super) enum Pools {
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
        /// Told of every commit.
        folding: Arc<Notify>,
        /// Room for it on its disk.
        reserve: Option<Reserve>,
    },
    Postgres {
        pool: PgPool,
        /// Connections on which ids are taken, each in a statement of its own.
        counters: PgPool,
        /// Held by the one that asks a server why it gives no connections.
        asking: Arc<Mutex<()>>,
    },
}

impl Db {
    /// Connects, creates the database if it is not there, and brings its schema up to date.
    ///
    /// # Errors
    /// When it cannot be reached or made, or a newer version has written it ([`DbError::Newer`]).
    pub async fn open(config: &DatabaseConfig) -> Result<Self, DbError> {
        Self::open_target(config).await?.complete().await
    }

    /// As [`Db::open`], for a database that rows are moved into.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn open_target(config: &DatabaseConfig) -> Result<Self, DbError> {
        match &config.url {
            DatabaseUrl::Sqlite(path) => {
                let reserve = make_room(config);
                let writer = sqlite_writer(path, true).await?;
                migrate::run(Exec::Sqlite(&mut *writer.acquire().await?)).await?;
                Ok(Self::over_sqlite(writer, sqlite_readers(path).await?, reserve))
            }
            DatabaseUrl::Postgres(url) => {
                let options = postgres::options(url, &config.postgres)?;
                let mut first = postgres::connect(&options).await?;
                let upgraded = migrate::run(Exec::Postgres(&mut first)).await;
                upgraded.map_err(|error| postgres::explain_upgrade(&options, error))?;
                first.close().await?;
                Self::over(options, &config.postgres).await
            }
        }
    }

    /// Connects to a database that a server has set up, as a command beside it does; makes and
    /// upgrades nothing.
    ///
    /// # Errors
    /// When there is none ([`DbError::Absent`]), or its schema is not this version's.
    pub async fn open_existing(config: &DatabaseConfig) -> Result<Self, DbError> {
        Self::attach(config).await?.complete().await
    }

    /// As [`Db::open_existing`], for a database that rows are moved out of, or were: a newer
    /// schema, which may have more than this version knows, is refused.
    ///
    /// # Errors
    /// As [`Db::open_existing`].
    pub async fn open_source(config: &DatabaseConfig) -> Result<Self, DbError> {
        let db = Self::attach(config).await?.whole().await?;
        migrate::check_known(db.reader().await?.exec()).await?;
        Ok(db)
    }

    async fn attach(config: &DatabaseConfig) -> Result<Self, DbError> {
        match &config.url {
            DatabaseUrl::Sqlite(path) => {
                if !path.exists() {
                    return Err(DbError::Absent(path.clone()));
                }
                let reserve = make_room(config);
                let writer = sqlite_writer(path, false).await?;
                migrate::check(Exec::Sqlite(&mut *writer.acquire().await?)).await?;
                Ok(Self::over_sqlite(writer, sqlite_readers(path).await?, reserve))
            }
            DatabaseUrl::Postgres(url) => {
                let options = postgres::options(url, &config.postgres)?;
                let mut first = postgres::connect(&options).await?;
                migrate::check(Exec::Postgres(&mut first)).await?;
                first.close().await?;
                Self::over(options, &config.postgres).await
            }
        }
    }

    /// Refuses a database that rows are still being moved into, or were moved out of.
    async fn complete(self) -> Result<Self, DbError> {
        let db = self.whole().await?;
        match chain::moved_to(db.reader().await?.exec()).await? {
            Some(to) => Err(DbError::Moved(to)),
            None => Ok(db),
        }
    }

    /// Refuses a database that rows are still being moved into.
    async fn whole(self) -> Result<Self, DbError> {
        match transfer::state(self.reader().await?.exec()).await? {
            Some(MoveState::Incomplete) => Err(DbError::Moving),
            Some(MoveState::Arriving) | None => Ok(self),
        }
    }

    /// Connects to a database that is to count again, whatever was moved out of it: as
    /// [`Db::open`], but one that was moved away from is not refused.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn open_again(config: &DatabaseConfig) -> Result<Self, DbError> {
        Self::open_target(config).await?.whole().await
    }

    /// Where this database is: another text for a copy of it, the same one whenever the same server
    /// process of the machine or of PostgreSQL has it. A machine that was started anew, or
    /// PostgreSQL, counts as another place.
    ///
    /// # Errors
    /// When the file or the database cannot be asked.
    pub async fn place(&self) -> Result<String, DbError> {
        let place = match &self.0 {
            Pools::Sqlite { writer, .. } => {
                sqlite_place(writer.connect_options().get_filename())
                    .map_err(|error| DbError::Unavailable(sqlx::Error::Io(error)))?
            }
            Pools::Postgres { pool, .. } => {
                let (oid, started): (i64, String) = sqlx::query_as(
                    "SELECT oid::bigint, pg_postmaster_start_time()::text FROM pg_database WHERE \
                     datname = current_database()",
                )
                .fetch_one(pool)
                .await?;
                format!("postgres {oid} {started}")
            }
        };
        // Long enough to tell places apart, and nothing that tells about the host.
        Ok(blake3::hash(place.as_bytes()).to_hex()[..16].to_owned())
    }

    /// Whether several servers may have this database open.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Pools::Postgres { .. })
    }

    fn over_sqlite(writer: SqlitePool, readers: SqlitePool, reserve: Option<Reserve>) -> Self {
        Self(Pools::Sqlite { writer, readers, folding: Arc::default(), reserve })
    }

    async fn over(options: PgConnectOptions, config: &PostgresConfig) -> Result<Self, DbError> {
        let counters = postgres::counters(options.clone(), config).await?;
        Ok(Self(Pools::Postgres {
            pool: postgres::pool(options, config).await?,
            counters,
            asking: Arc::default(),
        }))
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// [`DbError::Busy`] when none comes free in time, [`DbError::Unavailable`] when the database
    /// is gone.
    pub async fn reader(&self) -> Result<Conn, DbError> {
        Ok(Conn(match &self.0 {
            Pools::Sqlite { readers, .. } => ConnInner::Sqlite(readers.acquire().await?),
            Pools::Postgres { pool, asking, .. } => match pool.acquire().await {
                Ok(connection) => ConnInner::Postgres(connection),
                Err(error) => return Err(why(pool, asking, error).await),
            },
        }))
    }

    /// How many of the connections for reading may be used by listings at the same time: half of
    /// them on SQLite, and a quarter of all on PostgreSQL, where writers share them.
    #[must_use]
    pub fn listing_readers(&self) -> usize {
        let connections = match &self.0 {
            Pools::Sqlite { readers, .. } => readers.options().get_max_connections() / 2,
            Pools::Postgres { pool, .. } => pool.options().get_max_connections() / 4,
        };
        connections.max(1) as usize
    }

    /// A transaction that adds. Any number of them run at once on PostgreSQL, one at a time on
    /// SQLite, and none beside an [`Db::exclusive_tx`]: what this one has seen to exist still
    /// exists when it commits.
    ///
    /// # Errors
    /// As [`Db::reader`].
    pub async fn commit_tx(&self) -> Result<Tx, DbError> {
        self.begin("commit", "SELECT pg_advisory_xact_lock_shared($1)").await
    }

    /// A transaction that nothing else writes beside: one that destroys, or sets up.
    ///
    /// # Errors
    /// As [`Db::reader`].
    pub async fn exclusive_tx(&self) -> Result<Tx, DbError> {
        self.begin("exclusive", "SELECT pg_advisory_xact_lock($1)").await
    }

    /// As [`Db::commit_tx`], for what a server notes down for itself, of its own accord.
    ///
    /// # Errors
    /// As [`Db::reader`].
    pub async fn upkeep_tx(&self) -> Result<Tx, DbError> {
        self.begin("upkeep", "SELECT pg_advisory_xact_lock_shared($1)").await
    }

    /// Takes `count` neighbouring ids for good, and gives the first: as durable as a commit, and
    /// not part of one.
    pub async fn reserve(&self, counter: Counter, count: u32) -> Result<i64, DbError> {
        if let Pools::Postgres { pool, .. } = &self.0 {
            metrics::counter!("snowbank_database_transactions_total", "kind" => "commit")
                .increment(1);
            return counters::reserve_apart(pool, counter, count).await;
        }
        let mut tx = self.commit_tx().await?;
        let first = tx.reserve(counter, count).await?;
        tx.commit().await?;
        Ok(first)
    }

    async fn begin(&self, kind: &'static str, postgres_lock: &'static str) -> Result<Tx, DbError> {
        metrics::counter!("snowbank_database_transactions_total", "kind" => kind).increment(1);
        Ok(Tx(match &self.0 {
            Pools::Sqlite { writer, readers, folding, reserve } => {
                if reserve.as_ref().is_some_and(Reserve::give_way) {
                    fold_now(readers).await;
                }
                TxInner::Sqlite {
                    tx: writer.begin_with("BEGIN IMMEDIATE").await?,
                    folding: Arc::clone(folding),
                }
            }
            Pools::Postgres { pool, counters, asking } => {
                let first = locked(pool, postgres_lock).await;
                let tx = match first {
                    // The connection died after it had been tried, and nothing has been done on it.
                    Err(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => {
                        locked(pool, postgres_lock).await
                    }
                    result => result,
                };
                match tx {
                    Ok(tx) => TxInner::Postgres { tx, counters: counters.clone() },
                    Err(error) => return Err(why(pool, asking, error).await),
                }
            }
        }))
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// When there is none within three seconds.
    pub async fn ping(&self) -> Result<(), DbError> {
        let answer = async {
            let mut conn = self.reader().await?;
            on_either!(conn.exec(), |conn| {
                sqlx::query("SELECT 1 FROM instance").fetch_optional(conn).await?;
            });
            Ok(())
        };
        let late = |_| DbError::Busy(sqlx::Error::PoolTimedOut);
        tokio::time::timeout(LIVENESS_TIMEOUT, answer).await.map_err(late)?
    }

    /// Moves what was committed from SQLite's write-ahead log into its file, beside the commits, so
    /// that none of them has to do it: in a large database each touches pages all over the file.
    /// Never ends; PostgreSQL does so by itself.
    pub async fn fold(self) {
        let Pools::Sqlite { readers, folding, .. } = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            folding.notified().await;
            tokio::time::sleep(FOLD_AFTER).await;
            fold_now(readers).await;
        }
    }

    /// Closes every connection; what waits for one gets an error. SQLite's write-ahead log is
    /// folded into its file.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Sqlite { writer, readers, .. } => {
                // The last connection to close does the folding, and only one that may write can.
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres { pool, counters, .. } => {
                counters.close().await;
                pool.close().await;
            }
        }
    }
}

/// The file itself, on the machine as it runs now: a snapshot of a disk may have the same numbers
/// elsewhere.
fn sqlite_place(path: &Path) -> std::io::Result<String> {
    let file = std::fs::metadata(path)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Ok(format!("sqlite {} {} {}", file.dev(), file.ino(), boot.trim()))
}

pub(super) fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE)
        .foreign_keys(true)
        .statement_cache_capacity(256)
        .pragma("cache_size", format!("-{SQLITE_CACHE_KIB}"))
        .pragma("temp_store", "MEMORY")
        .pragma("mmap_size", "0")
        // Where `Db::fold` does not get to it, a commit folds the log of 64 MiB; after a burst it
        // is cut back to that.
        .pragma("wal_autocheckpoint", "16384")
        .pragma("journal_size_limit", "67108864")
}

async fn sqlite_writer(path: &Path, create: bool) -> Result<SqlitePool, DbError> {
    let options = sqlite_options(path).create_if_missing(create);
    // A full disk or a failed read makes SQLite undo the transaction by itself. The undoing that
    // follows then fails, and a connection left with it counted as open would refuse every later
    // one.
    let pool =
        pool_options::<Sqlite>(1).test_before_acquire(false).after_release(|connection, _| {
            Box::pin(async {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        });
    let pool = pool.connect_with(options).await;
    pool.map_err(|source| match DbError::from(source) {
        DbError::Unavailable(source) | DbError::Other(source) => {
            DbError::Open { path: path.to_owned(), source }
        }
        error => error,
    })
}

async fn sqlite_readers(path: &Path) -> Result<SqlitePool, DbError> {
    let options = sqlite_options(path).pragma("query_only", "ON");
    let pool = pool_options::<Sqlite>(SQLITE_READERS)
        .min_connections(SQLITE_READERS)
        .test_before_acquire(false);
    Ok(pool.connect_with(options).await?)
}

/// Makes room for a database that is to be opened: that alone writes.
fn make_room(config: &DatabaseConfig) -> Option<Reserve> {
    let reserve = Reserve::of(config)?;
    reserve.give_way();
    Some(reserve)
}

/// Moves what was committed from SQLite's write-ahead log into its file, so that the log begins
/// anew.
async fn fold_now(readers: &SqlitePool) {
    let folded = async {
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *readers.acquire().await?).await
    };
    if let Err(error) = folded.await {
        // The writer does it when the log has grown.
        tracing::warn!(%error, "the write-ahead log was not folded into the database");
    }
}

async fn locked(
    pool: &PgPool,
    lock: &'static str,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    // The lock is the first statement, so that each later one sees what was committed before it was
    // had.
    sqlx::query(lock).bind(COMMIT_LOCK).execute(&mut *tx).await?;
    Ok(tx)
}

/// Whether all connections are in use or none can be had looks the same to who waits for one. One
/// request asks the server; the others need no better answer than "busy".
async fn why(pool: &PgPool, asking: &Mutex<()>, error: sqlx::Error) -> DbError {
    let outage = match (&error, asking.try_lock()) {
        (sqlx::Error::PoolTimedOut, Ok(_asking)) => postgres::outage(pool).await,
        _ => None,
    };
    DbError::from(outage.unwrap_or(error))
}
