//! Reading a server's database beside it, as an independent witness.

use sqlx::{Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{Server, postgres};

/// The one number that a query gives; the query is in the SQL of both engines.
///
/// # Panics
/// When the database cannot be read, or the query gives no number.
#[must_use]
pub fn number(server: &Server, query: &'static str) -> i64 {
    let answer = async {
        if let Some(site) = server.shared() {
            let mut connection = PgConnection::connect(&site.database_url("snowbank")).await?;
            let number: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
            connection.close().await?;
            return Ok::<_, sqlx::Error>(number);
        }
        let file = server.data_dir().join("snowbank.db");
        assert!(file.is_file(), "{} is not there", file.display());
        let options = SqliteConnectOptions::new().filename(&file).read_only(true);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let number: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(number)
    };
    postgres::runtime().block_on(answer).unwrap_or_else(|e| panic!("{query}: {e}"))
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
