//! What transactions promise: all or nothing, and commits and destruction apart.

use std::collections::HashSet;
use std::time::Duration;

use super::{FreshDatabase, add_cache, pack};
use crate::db::caches::DomainId;
use crate::db::counters::{self, Counter};
use crate::db::exec::on_either;
use crate::db::packs::PackId;
use crate::db::{self, Db, DbError};

const A_MOMENT: Duration = Duration::from_millis(300);

pub(super) async fn what_is_dropped_leaves_nothing(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    add_cache(&mut tx, "lost", DomainId::SHARED).await;
    drop(tx);
    let mut tx = fresh.db.commit_tx().await.unwrap();
    add_cache(&mut tx, "kept", DomainId::SHARED).await;
    tx.commit().await.unwrap();
    let caches = db::caches::list(fresh.db.reader().await.unwrap().exec()).await.unwrap();
    assert_eq!(caches.iter().map(|cache| cache.name.as_str()).collect::<Vec<_>>(), ["kept"]);
}

pub(super) async fn a_cancelled_transaction_leaves_the_writer_usable(fresh: FreshDatabase) {
    // Cut off after ever longer times, so that each await of the transaction is hit at some point.
    for micros in (0..3_000).step_by(60) {
        let work = async {
            let mut tx = fresh.db.commit_tx().await?;
            counters::reserve(tx.exec(), Counter::Pack, 1).await?;
            add_cache(&mut tx, "half", DomainId::SHARED).await;
            std::future::pending::<()>().await;
            tx.commit().await
        };
        assert!(tokio::time::timeout(Duration::from_micros(micros), work).await.is_err());
    }
    let mut tx = fresh.db.exclusive_tx().await.unwrap();
    assert_eq!(counters::reserve(tx.exec(), Counter::Pack, 1).await.unwrap(), 1);
    assert!(db::caches::list(tx.exec()).await.unwrap().is_empty());
    tx.commit().await.unwrap();
}

pub(super) async fn a_failed_statement_is_never_committed_silently(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let cache = add_cache(&mut tx, "main", DomainId::SHARED).await;
    tx.commit().await.unwrap();

    let mut tx = fresh.db.commit_tx().await.unwrap();
    db::packs::add(tx.exec(), &pack(1, &cache)).await.unwrap();
    let refused = db::packs::add(tx.exec(), &pack(1, &cache)).await;
    assert!(matches!(refused, Err(DbError::Constraint(_))), "{refused:?}");
    let committed = tx.commit().await.is_ok();
    let stored = db::packs::lookup(fresh.db.reader().await.unwrap().exec(), PackId(1))
        .await
        .unwrap()
        .is_some();
    assert_eq!(committed, stored);
}

/// As SQLite does by itself when the disk is full.
pub(super) async fn a_transaction_that_the_database_ended_leaves_the_writer_usable(
    fresh: FreshDatabase,
) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    add_cache(&mut tx, "lost", DomainId::SHARED).await;
    on_either!(tx.exec(), |conn| {
        sqlx::query("ROLLBACK").execute(conn).await.unwrap();
    });
    drop(tx);
    let mut tx = fresh.db.commit_tx().await.unwrap();
    add_cache(&mut tx, "kept", DomainId::SHARED).await;
    tx.commit().await.unwrap();
    assert_eq!(db::caches::list(fresh.db.reader().await.unwrap().exec()).await.unwrap().len(), 1);
}

pub(super) async fn destruction_waits_for_commits(fresh: FreshDatabase) {
    let commit = fresh.db.commit_tx().await.unwrap();
    let db = fresh.db.clone();
    let mut destruction = tokio::spawn(async move { db.exclusive_tx().await.map(drop) });
    assert!(
        tokio::time::timeout(A_MOMENT, &mut destruction).await.is_err(),
        "destroyed beside a commit"
    );
    commit.commit().await.unwrap();
    destruction.await.unwrap().unwrap();

    let destruction = fresh.db.exclusive_tx().await.unwrap();
    let db = fresh.db.clone();
    let mut commit = tokio::spawn(async move { db.commit_tx().await.map(drop) });
    assert!(
        tokio::time::timeout(A_MOMENT, &mut commit).await.is_err(),
        "committed beside destruction"
    );
    drop(destruction);
    commit.await.unwrap().unwrap();
}

pub(super) async fn another_process_can_write_beside(fresh: FreshDatabase) {
    let beside = Db::open_existing(&fresh.config).await.unwrap();
    let mut held = fresh.db.commit_tx().await.unwrap();
    add_cache(&mut held, "first", DomainId::SHARED).await;
    let waiting = tokio::spawn(async move {
        let mut tx = beside.commit_tx().await.unwrap();
        add_cache(&mut tx, "second", DomainId::SHARED).await;
        tx.commit().await.unwrap();
    });
    tokio::time::sleep(A_MOMENT).await;
    held.commit().await.unwrap();
    waiting.await.unwrap();
    let caches = db::caches::list(fresh.db.reader().await.unwrap().exec()).await.unwrap();
    assert_eq!(caches.len(), 2);
    assert_ne!(caches[0].id, caches[1].id);
}

pub(super) async fn ids_are_given_out_once(fresh: FreshDatabase) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let db = fresh.db.clone();
        tasks.spawn(async move {
            let mut firsts = Vec::new();
            for _ in 0..5 {
                let mut tx = db.commit_tx().await.unwrap();
                firsts.push(counters::reserve(tx.exec(), Counter::Chunk, 100).await.unwrap());
                tx.commit().await.unwrap();
            }
            firsts
        });
    }
    let firsts = tasks.join_all().await.concat();
    assert_eq!(firsts.len(), 40);
    assert_eq!(
        firsts.iter().copied().collect::<HashSet<_>>(),
        (0..40).map(|block| 1 + 100 * block).collect()
    );
}
