//! Token keys from their first day to their last, and the tokens that depend on them.

use super::FreshDatabase;
use crate::db::exec::on_either;
use crate::db::keys::SealedTokenKey;
use crate::db::token_counts::count_live_by_kid;
use crate::db::{self, Exec, token_keys};

pub(super) async fn a_retired_key_stays_in_the_list_and_verifies_nothing(fresh: FreshDatabase) {
    let key = |kid: &str, created| SealedTokenKey {
        kid: kid.to_owned(),
        algorithm: "EdDSA".to_owned(),
        sealed_secret: vec![9],
        created,
    };
    let mut tx = fresh.db.exclusive_tx().await.unwrap();
    for (kid, created) in [("old", 1), ("new", 2)] {
        db::keys::add_token_key(tx.exec(), &key(kid, created)).await.unwrap();
    }
    assert!(token_keys::retire(tx.exec(), "old", 5).await.unwrap());
    assert!(!token_keys::retire(tx.exec(), "old", 6).await.unwrap(), "it is retired already");
    assert!(!token_keys::retire(tx.exec(), "absent", 6).await.unwrap());
    assert_eq!(db::keys::token_keys(tx.exec()).await.unwrap(), [key("new", 2)]);
    let all = token_keys::list(tx.exec()).await.unwrap();
    let ends: Vec<_> = all.iter().map(|row| (row.key.kid.as_str(), row.retired)).collect();
    assert_eq!(ends, [("new", None), ("old", Some(5))]);
    assert!(token_keys::remove(tx.exec(), "old").await.unwrap());
    assert!(!token_keys::remove(tx.exec(), "old").await.unwrap());
    assert_eq!(token_keys::list(tx.exec()).await.unwrap().len(), 1);
}

async fn run(exec: Exec<'_>, sql: &'static str) {
    on_either!(exec, |conn| {
        sqlx::query(sql).execute(conn).await.unwrap();
    });
}

pub(super) async fn tokens_that_depend_on_a_key_are_counted(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    run(
        tx.exec(),
        "INSERT INTO tokens (jti, kid, subject, label, grants, created, expires, created_by) \
         VALUES ('good', 'k', 'ci', '', '{}', 100, 900, ''), ('other', 'j', 'ci', '', '{}', 100, \
         900, ''), ('over', 'k', 'ci', '', '{}', 100, 500, ''), ('revoked', 'k', 'ci', '', '{}', \
         100, 900, ''), ('revoked-later', 'k', 'ci', '', '{}', 100, 900, ''), ('early', 'k', \
         'bob', '', '{}', 100, 900, ''), ('late', 'k', 'bob', '', '{}', 300, 900, '')",
    )
    .await;
    run(
        tx.exec(),
        "INSERT INTO revoked_tokens (jti, revoked) VALUES ('revoked', 500), ('revoked-later', 501)",
    )
    .await;
    run(
        tx.exec(),
        "INSERT INTO revoked_subjects (subject, issued_until, revoked) VALUES ('bob', 200, 200)",
    )
    .await;
    // `good`, `revoked-later` and `late`.
    assert_eq!(count_live_by_kid(tx.exec(), "k", 500).await.unwrap(), 3);
    assert_eq!(count_live_by_kid(tx.exec(), "k", 501).await.unwrap(), 2);
    assert_eq!(count_live_by_kid(tx.exec(), "absent", 500).await.unwrap(), 0);
    run(
        tx.exec(),
        "INSERT INTO revoked_subjects (subject, issued_until, revoked) VALUES ('', 100, 200)",
    )
    .await;
    assert_eq!(count_live_by_kid(tx.exec(), "k", 500).await.unwrap(), 1);
}
