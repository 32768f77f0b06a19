//! A server's database beside it: read as an independent witness, changed as damage does, and where
//! a test moves the time.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions,
};

use crate::{Server, postgres};

/// How long a statement waits for the server's own transactions.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// The one number that a query gives; the query is in the SQL of both engines.
///
/// # Panics
/// When the database cannot be read, or the query gives no number.
#[must_use]
pub fn number(server: &Server, query: &str) -> i64 {
    let answer = async {
        if let Some(site) = server.shared() {
            let mut connection = PgConnection::connect(&site.database_url("snowbank")).await?;
            let number: i64 =
                sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut connection).await?;
            connection.close().await?;
            return Ok::<_, sqlx::Error>(number);
        }
        let mut connection =
            SqliteConnection::connect_with(&sqlite(server).read_only(true)).await?;
        let number: i64 =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(number)
    };
    postgres::runtime().block_on(answer).unwrap_or_else(|e| panic!("{query}: {e}"))
}

/// Runs statements, in the SQL of both engines, in one transaction; the server may run meanwhile.
/// In the same one, the value of `setting` becomes what `new` makes of it.
///
/// # Panics
/// When a statement fails.
pub(crate) fn change(
    server: &Server,
    statements: &[String],
    setting: &str,
    new: impl Fn(Option<String>) -> String,
) {
    const READ: &str = "SELECT value FROM settings WHERE key = $1";
    const WRITE: &str = "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO \
        UPDATE SET value = excluded.value";
    // Two engines, whose connections have no type in common.
    macro_rules! all_in {
        ($begin:literal, $connection:expr) => {{
            let mut connection = $connection;
            sqlx::query($begin).execute(&mut connection).await?;
            for statement in statements {
                sqlx::query(AssertSqlSafe(statement.as_str())).execute(&mut connection).await?;
            }
            let found: Option<String> =
                sqlx::query_scalar(READ).bind(setting).fetch_optional(&mut connection).await?;
            sqlx::query(WRITE).bind(setting).bind(new(found)).execute(&mut connection).await?;
            sqlx::query("COMMIT").execute(&mut connection).await?;
            connection.close().await
        }};
    }
    let done = async {
        if let Some(site) = server.shared() {
            all_in!("BEGIN", PgConnection::connect(&site.database_url("snowbank")).await?)
        } else {
            all_in!("BEGIN IMMEDIATE", SqliteConnection::connect_with(&sqlite(server)).await?)
        }
    };
    postgres::runtime()
        .block_on(done)
        .unwrap_or_else(|e: sqlx::Error| panic!("{statements:?}: {e}"));
}

fn sqlite(server: &Server) -> SqliteConnectOptions {
    let file = server.data_dir().join("snowbank.db");
    assert!(file.is_file(), "{} is not there", file.display());
    SqliteConnectOptions::new().filename(&file).busy_timeout(BUSY_TIMEOUT)
}

/// How many chunks the server knows.
#[must_use]
pub fn chunks(server: &Server) -> i64 {
    number(server, "SELECT count(*) FROM chunks")
}

/// How many NARs it has.
#[must_use]
pub fn nars(server: &Server) -> i64 {
    number(server, "SELECT count(*) FROM nars")
}

/// How many paths are visible, over all caches.
#[must_use]
pub fn paths(server: &Server) -> i64 {
    number(server, "SELECT count(*) FROM paths")
}

/// Bytes of the records that its chunks lie in.
#[must_use]
pub fn record_bytes(server: &Server) -> i64 {
    number(server, "SELECT CAST(coalesce(sum(record_len), 0) AS BIGINT) FROM chunks")
}

/// A chunk's row, and the pack that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// Its id.
    pub id: i64,
    /// The object of its pack, below the folder of objects.
    pub object: String,
    /// Where its record begins there.
    pub offset: i64,
    /// How long its record is.
    pub len: i64,
}

/// The rows of these chunks, in their order.
#[must_use]
pub fn stored_chunks(server: &Server, names: &[[u8; 32]]) -> Vec<StoredChunk> {
    const SQL: &str = "SELECT c.id, p.key, c.pack_offset, c.record_len FROM chunks c JOIN packs p \
        ON p.id = c.pack_id WHERE c.name = $1";
    let rows = async {
        let mut rows: Vec<(i64, Vec<u8>, i64, i64)> = Vec::new();
        match SideConnection::open(server).await? {
            SideConnection::Sqlite(mut connection) => {
                for name in names {
                    rows.push(
                        sqlx::query_as(SQL).bind(&name[..]).fetch_one(&mut connection).await?,
                    );
                }
                connection.close().await?;
            }
            SideConnection::Postgres(mut connection) => {
                for name in names {
                    rows.push(
                        sqlx::query_as(SQL).bind(&name[..]).fetch_one(&mut connection).await?,
                    );
                }
                connection.close().await?;
            }
        }
        Ok::<_, sqlx::Error>(rows)
    };
    let rows = postgres::runtime().block_on(rows).unwrap_or_else(|e| panic!("rows of chunks: {e}"));
    let chunk = |(id, key, offset, len): (i64, Vec<u8>, i64, i64)| {
        let hex = u128::from_be_bytes(key.try_into().expect("a key of 16 bytes"));
        let hex = format!("{hex:032x}");
        StoredChunk { id, object: format!("packs/{}/{hex}", &hex[..2]), offset, len }
    };
    rows.into_iter().map(chunk).collect()
}

/// The one blob that a query gives.
#[must_use]
pub fn blob(server: &Server, query: &str) -> Vec<u8> {
    let answer = async {
        Ok::<Vec<u8>, sqlx::Error>(match SideConnection::open(server).await? {
            SideConnection::Sqlite(mut connection) => {
                sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut connection).await?
            }
            SideConnection::Postgres(mut connection) => {
                sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut connection).await?
            }
        })
    };
    postgres::runtime().block_on(answer).unwrap_or_else(|e| panic!("{query}: {e}"))
}

/// Runs a statement that changes rows, where `$1` is `blob` if it has one; what rows name is not
/// looked at. Panics when nothing was changed.
pub fn edit(server: &Server, statement: &str, blob: Option<&[u8]>) {
    let changed = async {
        let rows = match SideConnection::open(server).await? {
            SideConnection::Sqlite(mut connection) => {
                let query = sqlx::query(AssertSqlSafe(statement));
                let query = if let Some(blob) = blob { query.bind(blob) } else { query };
                let rows = query.execute(&mut connection).await?.rows_affected();
                connection.close().await?;
                rows
            }
            SideConnection::Postgres(mut connection) => {
                // Only a superuser may; the harness is one.
                sqlx::query("SET session_replication_role = replica")
                    .execute(&mut connection)
                    .await?;
                let query = sqlx::query(AssertSqlSafe(statement));
                let query = if let Some(blob) = blob { query.bind(blob) } else { query };
                let rows = query.execute(&mut connection).await?.rows_affected();
                connection.close().await?;
                rows
            }
        };
        Ok::<_, sqlx::Error>(rows)
    };
    let changed =
        postgres::runtime().block_on(changed).unwrap_or_else(|e| panic!("{statement}: {e}"));
    assert!(changed > 0, "{statement}: it changed nothing");
}

/// A connection that may write, beside the server.
enum SideConnection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl SideConnection {
    async fn open(server: &Server) -> Result<Self, sqlx::Error> {
        if let Some(site) = server.shared() {
            return Ok(Self::Postgres(
                PgConnection::connect(&site.database_url("snowbank")).await?,
            ));
        }
        let file = server.data_dir().join("snowbank.db");
        assert!(file.is_file(), "{} is not there", file.display());
        let options = SqliteConnectOptions::new().filename(&file).foreign_keys(false);
        let options = options.busy_timeout(Duration::from_secs(30));
        Ok(Self::Sqlite(SqliteConnection::connect_with(&options).await?))
    }
}
