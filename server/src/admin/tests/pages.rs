//! Tokens, the audit log and caches, page by page.

use super::*;
use crate::db::audit::{NewEntry, add};
use crate::db::caches::{DomainId, NewCache};
use crate::db::tokens::TokenRow;

#[tokio::test]
async fn tokens_come_newest_first_page_by_page() {
    let place = place().await;
    let mut tx = place.db.commit_tx().await.unwrap();
    for number in 0..1_100 {
        // Ten are issued in one second; every hundredth allows a great many caches.
        let many = if number % 100 == 0 {
            "a-long-name-of-a-cache-that-is-allowed".repeat(2_000)
        } else {
            String::new()
        };
        let row = TokenRow {
            jti: format!("token-{number:04}"),
            kid: "k".to_owned(),
            subject: "ci".to_owned(),
            label: many,
            grants: "{}".to_owned(),
            created: NOW + number / 10,
            expires: NOW + 1_000,
            created_by: "host".to_owned(),
            last_used: None,
            revoked: None,
        };
        db::tokens::add(tx.exec(), &row).await.unwrap();
    }
    tx.commit().await.unwrap();
    let (mut ids, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = list_tokens(&place.admin(), after.as_deref()).await.unwrap();
        assert!(serde_json::to_vec(&page).unwrap().len() <= 1 << 20);
        ids.extend(page.tokens.into_iter().map(|token| token.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(
        ids,
        (0..1_100).rev().map(|number| format!("token-{number:04}")).collect::<Vec<_>>()
    );
    assert!(list_tokens(&place.admin(), Some("nobody's")).await.unwrap().tokens.is_empty());
}

#[tokio::test]
async fn the_audit_log_is_looked_at_a_part_at_a_time() {
    let place = place().await;
    let entry = |number: i64| NewEntry {
        time: NOW + number,
        subject: if number == 7 { "rare" } else { "ci" }.to_owned(),
        token_id: String::new(),
        remote: "192.0.2.1".to_owned(),
        action: "push.paths".to_owned(),
        cache: "main".to_owned(),
        detail: String::new(),
        outcome: "ok".to_owned(),
    };
    let entries: Vec<NewEntry> = (0..12_000).map(entry).collect();
    let mut tx = place.db.commit_tx().await.unwrap();
    add(&mut tx, &entries).await.unwrap();
    tx.commit().await.unwrap();

    let mut query =
        AuditQuery { subject: Some("rare".to_owned()), limit: 10, ..AuditQuery::default() };
    let first = list_audit(&place.db, &query).await.unwrap();
    assert_eq!(
        (first.entries.len(), first.next),
        (0, Some(7_001)),
        "5,000 of 12,000 were looked at"
    );
    let (mut all, mut pages) = (AuditPage::default(), 1);
    while all.take(list_audit(&place.db, &query).await.unwrap(), &mut query) {
        pages += 1;
    }
    assert_eq!((pages, all.entries.len(), all.entries[0].time), (3, 1, NOW + 7));

    let mut query = AuditQuery { limit: 2_500, ..AuditQuery::default() };
    let (mut all, mut pages) = (AuditPage::default(), 1);
    while all.take(list_audit(&place.db, &query).await.unwrap(), &mut query) {
        pages += 1;
    }
    assert_eq!((pages, all.entries.len(), all.next), (3, 2_500, Some(9_501)));
}

#[tokio::test]
async fn caches_come_by_name_page_by_page() {
    let place = place().await;
    let mut tx = place.db.exclusive_tx().await.unwrap();
    for number in 0..450 {
        let new = NewCache {
            name: format!("cache-{number:03}").parse().unwrap(),
            domain: DomainId::SHARED,
            public: true,
            store_dir: snowbank_core::store_path::StoreDir::default(),
            priority: 40,
            compression_level: 3,
            created: NOW,
        };
        db::caches::add(tx.exec(), &new).await.unwrap();
    }
    tx.commit().await.unwrap();
    let last = |cache: &db::caches::Cache| cache.name.as_str() == "cache-449";
    let first = list_caches(&place.admin(), None, last).await.unwrap();
    assert_eq!((first.caches.len(), first.next.as_deref()), (0, Some("cache-199")));
    let second = list_caches(&place.admin(), Some("cache-199"), |_| true).await.unwrap();
    assert_eq!(
        (second.caches[0].name.as_str(), second.next.as_deref()),
        ("cache-200", Some("cache-399"))
    );
    let third = list_caches(&place.admin(), Some("cache-399"), last).await.unwrap();
    assert_eq!((third.caches.len(), third.next), (1, None));
}
