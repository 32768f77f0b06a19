//! Several servers on one PostgreSQL: who works, and what a lost connection costs.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::{FreshDatabase, add_cache, pack, postgres};
use crate::config::{DatabaseConfig, DatabaseUrl, SecretString};
use crate::db::caches::DomainId;
use crate::db::leader::Work;
use crate::db::usage::{self, Usage};
use crate::db::{self, Db, DbError};

pub(super) async fn what_is_stored_is_summed_up(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let cache = add_cache(&mut tx, "main", DomainId::SHARED).await;
    for id in [1, 2] {
        db::packs::add(tx.exec(), &pack(id, &cache)).await.unwrap();
    }
    assert_eq!(usage::lookup(tx.exec()).await.unwrap(), None);
    for counted in [7, 8] {
        let sums = usage::count(tx.exec(), counted).await.unwrap();
        assert_eq!(
            sums,
            Usage { packs: 2, bytes: 2 << 20, chunks: 6, counted, ..Usage::default() }
        );
        usage::store(tx.exec(), &sums).await.unwrap();
        assert_eq!(usage::lookup(tx.exec()).await.unwrap(), Some(sums));
    }
}

#[tokio::test]
async fn one_server_at_a_time_works_and_a_lost_connection_hands_over() {
    let server = postgres::Server::start();
    let config = server.config("leader").await;
    let (one, two) = (open(&config).await, open(&config).await);
    let (mut first, mut second) = (one.leader(Work::Usage), two.leader(Work::Usage));
    assert!(first.holds().await.unwrap());
    assert!(!second.holds().await.unwrap());
    assert!(first.holds().await.unwrap(), "it stays");

    terminate(
        &config,
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted",
    )
    .await;
    let took_over = async {
        while !second.holds().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), took_over).await.unwrap();
    assert!(!first.holds().await.unwrap(), "it knows that it has lost the lock");
    second.release().await;
    assert!(first.holds().await.unwrap());
    first.release().await;
}

#[tokio::test]
async fn a_lock_that_was_let_go_of_can_be_taken_at_once() {
    let server = postgres::Server::start();
    let config = server.config("handed").await;
    let servers = [open(&config).await, open(&config).await];
    for turn in 0..100 {
        let mut candidate = servers[turn % 2].leader(Work::Collection);
        assert!(candidate.holds().await.unwrap(), "turn {turn}");
        candidate.release().await;
    }
}

#[tokio::test]
async fn a_lost_connection_fails_no_request_that_comes_after() {
    let server = postgres::Server::start();
    let config = server.config("lost").await;
    let db = open(&config).await;
    for _ in 0..3 {
        db.ping().await.unwrap();
        let mut held = db.commit_tx().await.unwrap();
        add_cache(&mut held, "never", DomainId::SHARED).await;
        terminate(
            &config,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = \
             'snowbankd'",
        )
        .await;
        // The one under way is told to try again, by the kind of its error.
        let error = held.commit().await.unwrap_err();
        assert!(matches!(error, DbError::Unavailable(_)), "{error:?}");
        db.ping().await.unwrap();
        db.commit_tx().await.unwrap().commit().await.unwrap();
    }
    assert!(db::caches::list(db.reader().await.unwrap().exec()).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_keeps_a_server_from_its_database_is_said_with_what_to_do() {
    let server = postgres::Server::start();
    let config = server.config("there").await;
    let there = address(&config);
    let other = |from: &str, to: &str| there.replace(from, to);
    for (address, parts) in [
        (other("/there", "/absent"), ["absent", "CREATE DATABASE"]),
        (other("postgres@", "stranger:hunter2@"), ["stranger", "pg_hba.conf"]),
        ("postgres://u:hunter2@127.0.0.1:1/d".to_owned(), ["127.0.0.1:1", "Nothing listens there"]),
        (
            "postgres://u:hunter2@no-such-host.invalid/d".to_owned(),
            ["no-such-host.invalid", "cannot be resolved"],
        ),
        (other("?host=", "?host=/nonexistent"), ["/nonexistent", "socket"]),
        (format!("{there}&sslmode=nonsense"), ["cannot be understood", "%2F"]),
    ] {
        let config = DatabaseConfig::new(DatabaseUrl::Postgres(SecretString::new(address)));
        let opened = tokio::time::timeout(Duration::from_secs(15), Db::open(&config)).await;
        let message = opened.expect("it is given up in time").unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_set_up_says_why() {
    let server = postgres::Server::start();
    let config = server.config("mine").await;
    terminate(&config, "CREATE ROLE guest LOGIN").await;
    let guest = address(&config).replace("postgres@", "guest@");
    let open = async |address: &str| {
        let config = DatabaseConfig::new(DatabaseUrl::Postgres(SecretString::new(address)));
        Db::open(&config).await.unwrap_err().to_string()
    };
    let message = open(&guest).await;
    assert!(message.contains("`guest`") && message.contains("GRANT CREATE"), "{message}");
    terminate(&config, "ALTER ROLE guest SET default_transaction_read_only = on").await;
    let message = open(&guest).await;
    assert!(message.contains("read-only"), "{message}");
}

async fn open(config: &DatabaseConfig) -> Db {
    Db::open(config).await.unwrap()
}

fn address(config: &DatabaseConfig) -> String {
    let DatabaseUrl::Postgres(url) = &config.url else { panic!("not PostgreSQL") };
    url.expose().to_owned()
}

/// Does something beside the servers, such as ending their connections.
async fn terminate(config: &DatabaseConfig, sql: &'static str) {
    let mut connection = PgConnection::connect(&address(config)).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
