//! The links of the chain by which the storage knows this database (C3), and whether it was moved
//! elsewhere.
//!
//! Each number has one link for ever. The last one that is written is the database's own; one above
//! it is being written.

use super::exec::on_either;
use super::{DbError, Exec, convert, settings};

/// The setting that says where the rows of a database went: no server works with what is left.
const MOVED: &str = "moved-to";
/// Links that are kept.
const MAX_LINKS: i64 = 32;

/// A link: what the storage's marker holds while it belongs to this database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its place in the chain, from 1; 0 before the first one.
    pub number: u64,
    /// Random; empty before the first one.
    pub link: String,
}

/// A link, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownLink {
    /// The link.
    pub link: Link,
    /// Since when the storage's marker is known to have it, in unix seconds; `None` while that is
    /// not known.
    pub written: Option<i64>,
    /// Where the server ran that wrote it; `None` where a command did.
    pub place: Option<String>,
}

/// The last links, the newest first.
pub async fn links(exec: Exec<'_>) -> Result<Vec<KnownLink>, DbError> {
    let rows: Vec<(i64, String, Option<i64>, Option<String>)> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT number, link, written, place FROM chain ORDER BY number DESC LIMIT $1",
        )
        .bind(MAX_LINKS)
        .fetch_all(conn)
        .await?
    });
    let known = |(number, link, written, place)| {
        let number = convert::number("chain.number", number)?;
        Ok(KnownLink { link: Link { number, link }, written, place })
    };
    rows.into_iter().map(known).collect()
}

/// Adds a link that is to be written, unless another server has chosen one of its number.
pub async fn add(mut exec: Exec<'_>, link: &Link) -> Result<(), DbError> {
    let number = convert::to_db(link.number)?;
    on_either!(exec.again(), |conn| {
        sqlx::query(
            "INSERT INTO chain (number, link) VALUES ($1, $2) ON CONFLICT (number) DO NOTHING",
        )
        .bind(number)
        .bind(&link.link)
        .execute(conn)
        .await?;
    });
    on_either!(exec, |conn| {
        sqlx::query("DELETE FROM chain WHERE number <= $1")
            .bind(number - MAX_LINKS)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Notes that the storage's marker has the link.
pub async fn written(exec: Exec<'_>, link: &Link, place: &str, now: i64) -> Result<(), DbError> {
    let number = convert::to_db(link.number)?;
    on_either!(exec, |conn| {
        sqlx::query(
            "UPDATE chain SET written = $1, place = $2 WHERE number = $3 AND link = $4 AND written \
            IS NULL",
        )
        .bind(now)
        .bind(place)
        .bind(number)
        .bind(&link.link)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Begins another chain with `link`, which a command writes into the storage's marker.
pub async fn begin(mut exec: Exec<'_>, link: &Link, now: i64) -> Result<(), DbError> {
    let number = convert::to_db(link.number)?;
    on_either!(exec.again(), |conn| {
        sqlx::query("DELETE FROM chain").execute(conn).await?;
    });
    on_either!(exec, |conn| {
        sqlx::query("INSERT INTO chain (number, link, written) VALUES ($1, $2, $3)")
            .bind(number)
            .bind(&link.link)
            .bind(now)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Where the rows of this database went, if they did.
pub async fn moved_to(exec: Exec<'_>) -> Result<Option<String>, DbError> {
    settings::lookup(exec, MOVED).await
}

/// Notes where the rows went, without a password; or, with `None`, that this database counts again.
pub async fn set_moved_to(exec: Exec<'_>, place: Option<&str>) -> Result<(), DbError> {
    match place {
        Some(place) => settings::set(exec, MOVED, place).await,
        None => settings::remove(exec, MOVED).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseConfig, DatabaseUrl};
    use crate::db::Db;

    fn link(number: u64, link: &str) -> Link {
        Link { number, link: link.to_owned() }
    }

    #[tokio::test]
    async fn a_number_has_one_link_and_the_last_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("a.db"))))
            .await
            .unwrap();
        let mut tx = db.upkeep_tx().await.unwrap();
        assert_eq!(links(tx.exec()).await.unwrap(), []);
        for number in 1..=40 {
            add(tx.exec(), &link(number, "mine")).await.unwrap();
            add(tx.exec(), &link(number, "another's")).await.unwrap();
            written(tx.exec(), &link(number, "another's"), "there", 6).await.unwrap();
            written(tx.exec(), &link(number, "mine"), "here", 7).await.unwrap();
            written(tx.exec(), &link(number, "mine"), "there", 8).await.unwrap();
        }
        let known = links(tx.exec()).await.unwrap();
        assert_eq!((known.len(), known[31].link.number), (32, 9));
        let here = Some("here".to_owned());
        assert_eq!(known[0], KnownLink { link: link(40, "mine"), written: Some(7), place: here });
        begin(tx.exec(), &link(1, "restored"), 9).await.unwrap();
        let known = links(tx.exec()).await.unwrap();
        assert_eq!(known, [KnownLink { link: link(1, "restored"), written: Some(9), place: None }]);
        tx.commit().await.unwrap();
    }
}
