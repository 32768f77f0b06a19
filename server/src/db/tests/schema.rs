//! Setting up, upgrading, and refusing what this version does not know.

use snowbank_core::cut::CutParams;

use super::Fresh;
use crate::db::exec::on_either;
use crate::db::{self, Db, DbError, counters};

pub(super) async fn opening_again_changes_nothing(fresh: Fresh) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    assert_eq!(counters::reserve(tx.exec(), counters::Counter::Chunk, 10).await.unwrap(), 1);
    tx.commit().await.unwrap();
    fresh.db.close().await;

    let again = Db::open(&fresh.config, &fresh.data_dir).await.unwrap();
    again.ping().await.unwrap();
    let mut tx = again.commit_tx().await.unwrap();
    assert_eq!(counters::reserve(tx.exec(), counters::Counter::Chunk, 1).await.unwrap(), 11);
}

async fn pretend_step(db: &Db, version: i64) {
    let mut tx = db.exclusive_tx().await.unwrap();
    on_either!(tx.exec(), |conn| {
        sqlx::query("UPDATE _sqlx_migrations SET version = $1").bind(version).execute(conn).await.unwrap();
    });
    tx.commit().await.unwrap();
}

pub(super) async fn a_newer_schema_is_refused(fresh: Fresh) {
    pretend_step(&fresh.db, 999).await;
    for opened in [
        Db::open(&fresh.config, &fresh.data_dir).await,
        Db::open_existing(&fresh.config, &fresh.data_dir).await,
    ] {
        let error = opened.unwrap_err();
        assert!(matches!(error, DbError::Newer { found: 999, .. }), "{error}");
        assert!(error.to_string().contains("newer version"), "{error}");
    }
}

pub(super) async fn a_command_does_not_upgrade(fresh: Fresh) {
    assert!(Db::open_existing(&fresh.config, &fresh.data_dir).await.is_ok());
    pretend_step(&fresh.db, 0).await;
    let error = Db::open_existing(&fresh.config, &fresh.data_dir).await.unwrap_err();
    assert!(matches!(error, DbError::Older(_)), "{error}");
}

pub(super) async fn settings_and_identity_are_made_once(fresh: Fresh) {
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
