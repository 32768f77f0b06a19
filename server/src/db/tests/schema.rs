//! Setting up, upgrading, and refusing what this version does not know.

use std::path::Path;

use snowbank_core::cut::CutParams;

use super::FreshDatabase;
use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::db::exec::on_either;
use crate::db::{self, Db, DbError, counters};

pub(super) async fn opening_again_changes_nothing(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    assert_eq!(counters::reserve(tx.exec(), counters::Counter::Chunk, 10).await.unwrap(), 1);
    tx.commit().await.unwrap();
    fresh.db.close().await;

    let again = Db::open(&fresh.config).await.unwrap();
    again.ping().await.unwrap();
    let mut tx = again.commit_tx().await.unwrap();
    assert_eq!(counters::reserve(tx.exec(), counters::Counter::Chunk, 1).await.unwrap(), 11);
}

/// Makes the database look like that of a program whose last step is `version`.
async fn pretend_step(db: &Db, version: i64) {
    let mut tx = db.exclusive_tx().await.unwrap();
    on_either!(tx.exec(), |conn| {
        sqlx::query(
            "UPDATE _sqlx_migrations SET version = $1 WHERE version = (SELECT max(version) FROM \
             _sqlx_migrations)",
        )
        .bind(version)
        .execute(conn)
        .await
        .unwrap();
    });
    tx.commit().await.unwrap();
}

async fn demand(db: &Db, oldest: &str) {
    let mut tx = db.exclusive_tx().await.unwrap();
    db::settings::set(tx.exec(), "oldest-schema", oldest).await.unwrap();
    tx.commit().await.unwrap();
}

/// A database that a newer version has upgraded as well.
async fn add_step(db: &Db, version: i64) {
    let mut tx = db.exclusive_tx().await.unwrap();
    on_either!(tx.exec(), |conn| {
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
             execution_time) SELECT $1, 'newer', success, checksum, 0 FROM _sqlx_migrations WHERE \
             version = 1",
        )
        .bind(version)
        .execute(conn)
        .await
        .unwrap();
    });
    tx.commit().await.unwrap();
}

pub(super) async fn a_newer_schema_is_refused_when_it_says_so(fresh: FreshDatabase) {
    add_step(&fresh.db, 999).await;
    demand(&fresh.db, "999").await;
    for opened in [Db::open(&fresh.config).await, Db::open_existing(&fresh.config).await] {
        let error = opened.unwrap_err();
        assert!(matches!(error, DbError::Newer { found: 999, .. }), "{error}");
        assert!(error.to_string().contains("newer version"), "{error}");
    }
}

pub(super) async fn a_newer_schema_that_expands_is_worked_with(fresh: FreshDatabase) {
    add_step(&fresh.db, 999).await;
    for oldest in [None, Some("1"), Some("2")] {
        if let Some(oldest) = oldest {
            demand(&fresh.db, oldest).await;
        }
        Db::open(&fresh.config).await.unwrap().ping().await.unwrap();
        Db::open_existing(&fresh.config).await.unwrap();
    }
    demand(&fresh.db, "soon").await;
    let error = Db::open(&fresh.config).await.unwrap_err();
    assert!(matches!(error, DbError::Corrupt(_)), "{error}");
}

pub(super) async fn a_command_does_not_upgrade(fresh: FreshDatabase) {
    assert!(Db::open_existing(&fresh.config).await.is_ok());
    pretend_step(&fresh.db, 0).await;
    let error = Db::open_existing(&fresh.config).await.unwrap_err();
    assert!(matches!(error, DbError::Older(_)), "{error}");
}

pub(super) async fn settings_and_identity_are_made_once(fresh: FreshDatabase) {
    let mut tx = fresh.db.exclusive_tx().await.unwrap();
    assert!(db::settings::cut_params(tx.exec()).await.unwrap().is_none());
    db::settings::add_cut_params(tx.exec(), &CutParams::DEFAULT).await.unwrap();
    assert!(!db::settings::add_if_absent(tx.exec(), "cut", "other").await.unwrap());
    assert_eq!(db::settings::cut_params(tx.exec()).await.unwrap(), Some(CutParams::DEFAULT));
    let first = db::instance::load_or_create(tx.exec(), "first", 7).await.unwrap();
    let second = db::instance::load_or_create(tx.exec(), "second", 8).await.unwrap();
    assert_eq!(first, second);
    assert_eq!((first.id.as_str(), first.epoch, first.created), ("first", 1, 7));
}

fn sqlite(path: &Path) -> DatabaseConfig {
    DatabaseConfig::new(DatabaseUrl::Sqlite(path.to_owned()))
}

#[tokio::test]
async fn a_file_that_cannot_be_a_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(
        &text,
        "no database at all, but long enough to be taken for the head of one".repeat(100),
    )
    .unwrap();
    for path in [folder.path().join("absent/snowbank.db"), folder.path().to_owned(), text] {
        let message = Db::open(&sqlite(&path)).await.unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
}

#[tokio::test]
async fn a_command_does_not_make_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snowbank.db");
    let error = Db::open_existing(&sqlite(&path)).await.unwrap_err();
    assert!(matches!(error, DbError::Absent(_)), "{error}");
    assert!(!path.exists());
    // What a server that was killed in its first moment leaves.
    std::fs::write(&path, "").unwrap();
    let error = Db::open_existing(&sqlite(&path)).await.unwrap_err();
    assert!(matches!(error, DbError::Older(_)), "{error}");
    Db::open(&sqlite(&path)).await.unwrap();
}
