//! Connecting to PostgreSQL: patiently at the start, with errors that say what to do, and with
//! limits on every session.

use std::io::ErrorKind;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, PgConnection, PgPool, Postgres};

use super::DbError;
use super::pool::pool_options;
use crate::config::{DatabaseConfig, DatabaseUrl, PostgresConfig, SecretString, TlsMode};

/// How long the first connection is tried for: servers and databases are started together, in any
/// order.
const START_PATIENCE: Duration = Duration::from_secs(8);
/// How long one attempt may take; a host that drops packets would never answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections on which ids are taken. Each is used for one short statement at a time.
const COUNTER_CONNECTIONS: u32 = 2;
/// A connection is made anew after this, so that a name that has moved to another server is
/// followed.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(30);
const OLDEST_SERVER: i32 = 130_000;
/// Parameters of an address that the driver knows.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// What to connect with.
pub(super) fn options(
    url: &SecretString,
    config: &PostgresConfig,
) -> Result<PgConnectOptions, DbError> {
    let url = known_parameters(url);
    let options = PgConnectOptions::from_str(url.expose()).map_err(|source| DbError::Connect {
        target: "of the configured address".to_owned(),
        problem:
            "the address cannot be understood; write postgres://USER:PASSWORD@HOST:PORT/NAME, with \
             characters such as / : @ in the password written as %2F %3A %40"
                .to_owned(),
        source: Some(source),
    })?;
    let mut options = options.application_name("snowbankd").statement_cache_capacity(256);
    if let Some(mode) = config.tls {
        options = options.ssl_mode(match mode {
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::Prefer => PgSslMode::Prefer,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
        });
    }
    if let Some(path) = &config.tls_ca_file {
        options = options.ssl_root_cert(path);
    }
    Ok(options)
}

/// The address without parameters that the driver does not know, since it would log them with their
/// values.
fn known_parameters(url: &SecretString) -> SecretString {
    let Some((address, query)) = url.expose().split_once('?') else { return url.clone() };
    let known = |pair: &&str| {
        let key = pair.split('=').next().unwrap_or_default();
        let known = PARAMETERS.contains(&key) || key.starts_with("options[");
        if !known {
            tracing::warn!(
                parameter = key,
                "a parameter of the database's address is not known and has no effect"
            );
        }
        known
    };
    let query: Vec<&str> = query.split('&').filter(known).collect();
    SecretString::new(format!("{address}?{}", query.join("&")))
}

/// The first connection, without limits on statements: what upgrades the schema may take its time.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, DbError> {
    let until = Instant::now() + START_PATIENCE;
    let mut connection = loop {
        let error = match tokio::time::timeout(ATTEMPT_TIMEOUT, PgConnection::connect_with(options))
            .await
        {
            Ok(Ok(connection)) => break connection,
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::Io(ErrorKind::TimedOut.into()),
        };
        if !is_worth_waiting_for(&error) || Instant::now() + RETRY_PAUSE > until {
            return Err(explain(options, error));
        }
        tracing::debug!(%error, "the database does not answer yet");
        tokio::time::sleep(RETRY_PAUSE).await;
    };
    let fit: (i32, bool, bool) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int4, pg_is_in_recovery(), \
         current_setting('default_transaction_read_only')::bool",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(|error| explain(options, error))?;
    let problem = match fit {
        (version, _, _) if version < OLDEST_SERVER => format!(
            "the server is PostgreSQL {}.{}, and 13 is the oldest that works. Upgrade it",
            version / 10_000,
            version % 10_000
        ),
        (_, true, _) => {
            "the server only follows another one (a hot standby) and takes no writes. Give the \
             address of the primary"
                .to_owned()
        }
        (_, _, true) => {
            "sessions are read-only there (default_transaction_read_only). Set it to off for this \
             user and database"
                .to_owned()
        }
        _ => return Ok(connection),
    };
    Err(DbError::Connect { target: target(options), problem, source: None })
}

/// Whether a server that is just being started may say this.
fn is_worth_waiting_for(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != ErrorKind::PermissionDenied,
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P03" | "57P01")),
        _ => false,
    }
}

/// Names what failed and what to do about it.
pub(super) fn explain(options: &PgConnectOptions, source: sqlx::Error) -> DbError {
    let problem = match &source {
        sqlx::Error::Io(error) => explain_io(error),
        sqlx::Error::Tls(error) => format!(
            "no encrypted connection: {error}. Check `tls` and `tls-ca-file` in [database]: the \
             server's certificate has to be of a trusted authority (\"verify-ca\") and for this \
             host's name (\"verify-full\")"
        ),
        sqlx::Error::Database(error) => {
            let what = match error.code().as_deref() {
                Some("28P01") => "Check user and password in the database's address".to_owned(),
                Some("28000") => "Check the user, and that the server's pg_hba.conf lets it in \
                    from here"
                    .to_owned(),
                Some("3D000") => "Make it, as a superuser: CREATE DATABASE name OWNER user \
                    ENCODING 'UTF8'"
                    .to_owned(),
                Some("42501") => format!(
                    "The user `{}` has to be allowed to make tables: GRANT CREATE, USAGE ON SCHEMA \
                     public TO that user, or make it the database's owner",
                    options.get_username()
                ),
                Some("25006") => {
                    "The server takes no writes; give the address of the primary".to_owned()
                }
                Some("53300") => {
                    "Raise max_connections there, or lower `connections` in [database] on each \
                     server"
                        .to_owned()
                }
                _ => "The server's log has more".to_owned(),
            };
            format!("{}. {what}", error.message())
        }
        error => {
            format!("{error}. Check the database's address, and that a PostgreSQL server is there")
        }
    };
    DbError::Connect { target: target(options), problem, source: Some(source) }
}

fn explain_io(error: &std::io::Error) -> String {
    let what = match error.kind() {
        ErrorKind::ConnectionRefused => {
            "Nothing listens there: check that PostgreSQL runs, and host and port"
        }
        ErrorKind::NotFound => {
            "The socket is not there: check that PostgreSQL runs, and the folder of its socket"
        }
        ErrorKind::TimedOut => "The host does not answer: check the host, and firewalls in between",
        ErrorKind::PermissionDenied => "This user may not use the socket",
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "The connection was closed: check that a PostgreSQL server is at that port, and its log"
        }
        _ if error.to_string().contains("lookup") => {
            "The host's name cannot be resolved: check the name, and DNS"
        }
        _ => "Check host and port, and that PostgreSQL runs",
    };
    let said = if error.kind() == ErrorKind::TimedOut {
        "no answer".to_owned()
    } else {
        error.to_string()
    };
    format!("{said}. {what}")
}

/// Says what a refused upgrade of the schema means.
pub(super) fn explain_upgrade(options: &PgConnectOptions, error: DbError) -> DbError {
    let refused = |source: &sqlx::Error| {
        source
            .as_database_error()
            .is_some_and(|error| matches!(error.code().as_deref(), Some("42501" | "25006")))
    };
    match error {
        DbError::Other(source) | DbError::Unavailable(source) if refused(&source) => {
            explain(options, source)
        }
        error => error,
    }
}

/// Where a database is, as PostgreSQL's own programs are told; the password is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresPlace {
    /// The host, or the folder of its socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The database's name.
    pub database: String,
}

impl PostgresPlace {
    /// Where the configured database is; `None` for SQLite.
    ///
    /// # Errors
    /// When the address cannot be understood.
    pub fn of(config: &DatabaseConfig) -> Result<Option<Self>, DbError> {
        let DatabaseUrl::Postgres(url) = &config.url else { return Ok(None) };
        let options = options(url, &config.postgres)?;
        let socket = options.get_socket().map(|folder| folder.display().to_string());
        Ok(Some(Self {
            host: socket.unwrap_or_else(|| options.get_host().to_owned()),
            port: options.get_port(),
            user: options.get_username().to_owned(),
            database: options.get_database().unwrap_or_else(|| options.get_username()).to_owned(),
        }))
    }
}

fn target(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{database} at {}", socket.display()),
        None => format!("{database} at {}:{}", options.get_host(), options.get_port()),
    }
}

/// The connections that requests share. Each is asked for a sign of life before it is used, so that
/// a restarted server costs no request.
pub(super) async fn pool(
    options: PgConnectOptions,
    config: &PostgresConfig,
) -> Result<PgPool, DbError> {
    let pool = pool_options::<Postgres>(config.connections);
    connect_pool(pool, options, Limits::new(config)).await
}

/// The connections on which ids are taken apart from the transactions that use them.
pub(super) async fn counters(
    options: PgConnectOptions,
    config: &PostgresConfig,
) -> Result<PgPool, DbError> {
    // No commit can use an id and be durable while the taking of it is not: the log is written in
    // order. So that alone need not wait for the disk. One that is dead is noticed by its use.
    let limits = Limits { synchronous_commit: Some("off"), ..Limits::new(config) };
    connect_pool(
        pool_options::<Postgres>(COUNTER_CONNECTIONS).test_before_acquire(false),
        options,
        limits,
    )
    .await
}

async fn connect_pool(
    pool: PoolOptions<Postgres>,
    options: PgConnectOptions,
    limits: Limits,
) -> Result<PgPool, DbError> {
    let pool = pool
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(CONNECTION_LIFETIME)
        .after_connect(move |conn, _| {
            let limits = limits.clone();
            Box::pin(async move { limits.set(conn).await })
        });
    pool.connect_with(options.clone()).await.map_err(|error| explain(&options, error))
}

/// What a session may do, in milliseconds. They are set by a statement: a connection pooler in
/// between may refuse them as start parameters.
#[derive(Clone)]
struct Limits {
    statement: String,
    lock: String,
    idle: String,
    unacknowledged: String,
    /// In place of what the administrator has set.
    synchronous_commit: Option<&'static str>,
}

impl Limits {
    fn new(config: &PostgresConfig) -> Self {
        let (statement, idle) = (
            config.statement_timeout.duration().as_millis(),
            config.idle_timeout.duration().as_millis(),
        );
        Self {
            statement: statement.to_string(),
            // Whoever waits for a lock for so long has met something that a statement's own work
            // would not explain.
            lock: (statement / 2).to_string(),
            // A transaction waits for nothing but the database. One that idles belongs to a server
            // that has stopped, and holds locks that others wait for.
            idle: idle.to_string(),
            // The same for one that stopped before it read an answer.
            unacknowledged: (2 * idle).to_string(),
            synchronous_commit: None,
        }
    }

    async fn set(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        // Stronger durability (remote_apply) stays as the administrator set it. The keepalives let
        // the server find out about clients that are gone, and free their locks. Every statement
        // reads a few rows by an index: a plan that reads whole tables comes from statistics that
        // are not there yet, and costs ten times as much.
        sqlx::query(
            "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, \
             false), set_config('idle_in_transaction_session_timeout', $3, false), \
             set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', \
             '10', false), set_config('tcp_keepalives_count', '3', false), \
             set_config('tcp_user_timeout', $4, false), set_config('enable_hashjoin', 'off', \
             false), set_config('enable_mergejoin', 'off', false), set_config('enable_seqscan', \
             'off', false), set_config('jit', 'off', false), set_config('synchronous_commit', CASE \
             WHEN $5 <> '' THEN $5 WHEN current_setting('synchronous_commit') IN ('off', 'local', \
             'remote_write') THEN 'on' ELSE current_setting('synchronous_commit') END, false)",
        )
        .bind(&self.statement)
        .bind(&self.lock)
        .bind(&self.idle)
        .bind(&self.unacknowledged)
        .bind(self.synchronous_commit.unwrap_or_default())
        .execute(conn)
        .await?;
        Ok(())
    }
}

/// Why no connection came free: asks the server itself, briefly. `None` when it answers, so that
/// they are merely all in use.
pub(super) async fn outage(pool: &PgPool) -> Option<sqlx::Error> {
    let options = pool.connect_options();
    match tokio::time::timeout(ATTEMPT_TIMEOUT, PgConnection::connect_with(&options)).await {
        Ok(Ok(connection)) => {
            // Whether it says goodbye changes nothing.
            let _ = connection.close().await;
            None
        }
        Ok(Err(error)) => Some(error),
        Err(_) => Some(sqlx::Error::Io(ErrorKind::TimedOut.into())),
    }
}
