//! Each aggregate: what goes in comes out.

use snowbank_core::signing::SecretKey;
use snowbank_core::store_path::StorePath;

use super::{FreshDatabase, add_cache, nar, nar_hash, pack};
use crate::db::caches::DomainId;
use crate::db::keys::{SealedSigningKey, SealedTokenKey};
use crate::db::nars::{EncodedSegment, NarId};
use crate::db::packs::{PackId, PackState};
use crate::db::paths::{NewPath, PathId};
use crate::db::{self, DbError};

pub(super) async fn caches_are_found_by_name(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let made = add_cache(&mut tx, "Main", DomainId::SHARED).await;
    let isolated = db::caches::add_domain(tx.exec(), 1_000).await.unwrap();
    assert_ne!(isolated, DomainId::SHARED);
    add_cache(&mut tx, "alone", isolated).await;
    assert_eq!(
        db::caches::lookup(tx.exec(), &"Main".parse().unwrap()).await.unwrap().as_ref(),
        Some(&made)
    );
    assert_eq!(made.upstream_keys, ["cache.nixos.org-1"]);
    assert!(made.public && made.want_mass_query);
    assert!(
        db::caches::lookup(tx.exec(), &"main".parse().unwrap()).await.unwrap().is_none(),
        "names are case-sensitive"
    );
    let names: Vec<String> = db::caches::list(tx.exec())
        .await
        .unwrap()
        .iter()
        .map(|cache| cache.name.to_string())
        .collect();
    assert_eq!(names, ["Main", "alone"]);
    let again = db::caches::NewCache {
        name: "Main".parse().unwrap(),
        domain: DomainId::SHARED,
        public: false,
        store_dir: made.store_dir.clone(),
        priority: 1,
        compression_level: 1,
        created: 1,
    };
    assert!(matches!(db::caches::add(tx.exec(), &again).await, Err(DbError::Constraint(_))));
}

pub(super) async fn keys_and_revocations_are_kept(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let cache = add_cache(&mut tx, "main", DomainId::SHARED).await;
    let key = |name: &str| SealedSigningKey {
        name: name.to_owned(),
        public_key: format!("{name}:AAAA"),
        sealed_secret: vec![1, 2, 3],
    };
    for name in ["z-1", "a-2"] {
        db::keys::add_signing_key(tx.exec(), cache.id, &key(name), 1_000).await.unwrap();
    }
    let names = |rows: &[db::keys::SigningKeyRow], now| -> Vec<String> {
        rows.iter().filter(|row| row.signs(now)).map(|row| row.key.name.clone()).collect()
    };
    let rows = db::keys::signing_keys(tx.exec(), cache.id).await.unwrap();
    assert_eq!((rows[0].key.clone(), rows[0].created, rows[0].retired), (key("z-1"), 1_000, None));
    assert_eq!(names(&rows, 5_000), ["z-1", "a-2"]);
    db::keys::retire_signing_keys(tx.exec(), cache.id, 2_000).await.unwrap();
    db::keys::retire_signing_keys(tx.exec(), cache.id, 3_000).await.unwrap();
    let rows = db::keys::signing_keys(tx.exec(), cache.id).await.unwrap();
    assert_eq!((names(&rows, 1_999).len(), names(&rows, 2_000).len()), (2, 0));

    let token_key = |kid: &str, created| SealedTokenKey {
        kid: kid.to_owned(),
        algorithm: "HS256".to_owned(),
        sealed_secret: vec![9],
        created,
    };
    for (kid, created) in [("old", 1), ("new", 2)] {
        db::keys::add_token_key(tx.exec(), &token_key(kid, created)).await.unwrap();
    }
    assert_eq!(
        db::keys::token_keys(tx.exec()).await.unwrap(),
        [token_key("new", 2), token_key("old", 1)]
    );

    for from in [7, 5, 6] {
        db::revocations::add_token(tx.exec(), "t1", from).await.unwrap();
    }
    for until in [3, 9, 4] {
        db::revocations::add_subject(tx.exec(), "ci", until, 10).await.unwrap();
    }
    let (tokens, subjects) = db::revocations::list(tx.exec()).await.unwrap();
    assert_eq!((tokens.len(), tokens[0].from), (1, 5), "the earliest time holds");
    assert_eq!((subjects.len(), subjects[0].issued_until), (1, 9), "the latest time holds");
    assert_eq!(db::revocations::issued_until(tx.exec(), "ci").await.unwrap(), Some(9));
    assert_eq!(db::revocations::issued_until(tx.exec(), "me").await.unwrap(), None);
}

pub(super) async fn a_pack_key_is_used_once(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let cache = add_cache(&mut tx, "main", DomainId::SHARED).await;
    for id in 1..=5 {
        db::packs::add(tx.exec(), &pack(id, &cache)).await.unwrap();
    }
    let found = db::packs::lookup(tx.exec(), PackId(2)).await.unwrap().unwrap();
    assert_eq!(
        (found.key, found.state, found.bytes),
        (pack(2, &cache).key, PackState::Live, 1 << 20)
    );
    assert!(db::packs::lookup(tx.exec(), PackId(6)).await.unwrap().is_none());
    let page = db::packs::page(tx.exec(), PackId(2), 2).await.unwrap();
    assert_eq!(page.iter().map(|pack| pack.id.0).collect::<Vec<_>>(), [3, 4]);
    let mut again = pack(1, &cache);
    again.id = PackId(6);
    assert!(matches!(db::packs::add(tx.exec(), &again).await, Err(DbError::Constraint(_))));
}

fn segments(count: u64) -> Vec<EncodedSegment> {
    let segment = |seq: u64| EncodedSegment {
        first_raw: seq * 1_000,
        first_stored: seq * 300,
        data: seq.to_le_bytes().to_vec(),
    };
    (0..count).map(segment).collect()
}

pub(super) async fn nars_keep_their_segments_in_order(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    for (id, count) in [(1, 0), (2, 1), (3, 700)] {
        let segments = segments(count);
        db::nars::add(tx.exec(), &[nar(id, DomainId::SHARED, &segments)]).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut conn = fresh.db.reader().await.unwrap();
    assert_eq!(db::nars::segment(conn.exec(), NarId(1), 0).await.unwrap(), None);
    assert_eq!(
        db::nars::segment_at_raw(conn.exec(), NarId(2), 999).await.unwrap(),
        Some((0, 0_u64.to_le_bytes().to_vec()))
    );
    for seq in [0, 1, 699] {
        let data = u64::from(seq).to_le_bytes().to_vec();
        assert_eq!(db::nars::segment(conn.exec(), NarId(3), seq).await.unwrap(), Some(data));
    }
    assert_eq!(db::nars::segment(conn.exec(), NarId(3), 700).await.unwrap(), None);
    let at = |seq: u32| Some((seq, u64::from(seq).to_le_bytes().to_vec()));
    assert_eq!(db::nars::segment_at_stored(conn.exec(), NarId(3), 299).await.unwrap(), at(0));
    assert_eq!(db::nars::segment_at_stored(conn.exec(), NarId(3), 300).await.unwrap(), at(1));
    assert_eq!(db::nars::segment_at_raw(conn.exec(), NarId(3), 698_999).await.unwrap(), at(698));
    assert_eq!(db::nars::segment_at_raw(conn.exec(), NarId(3), u64::MAX).await.unwrap(), at(699));

    let found = db::nars::lookup_many(conn.exec(), DomainId::SHARED, &[nar_hash(3)]).await.unwrap();
    let found = found[&nar_hash(3)].clone();
    assert_eq!((found.id, found.segment_count, found.nar_size), (NarId(3), 700, 5_000_000_000));
    assert_eq!(db::nars::cut_id(conn.exec(), NarId(3)).await.unwrap(), Some(3));
    assert!(
        db::nars::lookup_many(conn.exec(), DomainId(2), &[nar_hash(3)]).await.unwrap().is_empty()
    );
    assert_eq!(db::nars::page(conn.exec(), NarId(1), 10).await.unwrap().len(), 2);
    drop(conn);
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let mut again = nar(4, DomainId::SHARED, &[]);
    again.nar_hash = nar_hash(3);
    assert!(matches!(db::nars::add(tx.exec(), &[again]).await, Err(DbError::Constraint(_))));
}

pub(super) async fn paths_are_seen_by_their_cache_only(fresh: FreshDatabase) {
    let path = |letter: &str, name: &str| {
        StorePath::from_base_name(&format!("{}-{name}", letter.repeat(32))).unwrap()
    };
    let (hello, glibc, other) = (path("a", "hello-2.12"), path("b", "glibc"), path("c", "other"));
    let signature = SecretKey::from_seed("builder-1", [3; 32]).unwrap().sign(b"text");
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let cache = add_cache(&mut tx, "main", DomainId::SHARED).await;
    let neighbour = add_cache(&mut tx, "neighbour", DomainId::SHARED).await;
    db::nars::add(tx.exec(), &[nar(1, DomainId::SHARED, &[])]).await.unwrap();
    let references = [hello.clone(), glibc.clone()];
    let signatures = [signature.clone()];
    let new = NewPath {
        id: PathId(1),
        cache: cache.id,
        store_path: &hello,
        nar: NarId(1),
        references: &references,
        deriver: Some(&other),
        signatures: &signatures,
        ca: Some("fixed:r:sha256:abc"),
        extra: "",
        pushed_by: "ci",
        created: 1_234,
        expires: None,
    };
    db::paths::add(tx.exec(), std::slice::from_ref(&new)).await.unwrap();
    let plain = NewPath {
        id: PathId(2),
        store_path: &glibc,
        references: &[],
        deriver: None,
        signatures: &[],
        ca: None,
        extra: "",
        ..new.clone()
    };
    db::paths::add(tx.exec(), std::slice::from_ref(&plain)).await.unwrap();

    let found = db::paths::records(tx.exec(), cache.id, &[hello.hash()])
        .await
        .unwrap()
        .remove(&hello.hash())
        .unwrap();
    assert_eq!((&found.store_path, found.nar.id, found.created), (&hello, NarId(1), 1_234));
    assert_eq!(
        (found.references, found.deriver),
        (vec![hello.clone(), glibc.clone()], Some(other.clone()))
    );
    assert_eq!(
        (found.signatures, found.ca.as_deref()),
        (vec![signature], Some("fixed:r:sha256:abc"))
    );
    let found = db::paths::records(tx.exec(), cache.id, &[glibc.hash()])
        .await
        .unwrap()
        .remove(&glibc.hash())
        .unwrap();
    assert!(found.references.is_empty() && found.signatures.is_empty() && found.ca.is_none());

    let hashes = [other.hash(), glibc.hash(), hello.hash()];
    let many = db::paths::lookup_many(tx.exec(), cache.id, &hashes).await.unwrap();
    assert_eq!(many.len(), 2);
    assert_eq!(many[&glibc.hash()].nar_hash, nar_hash(1));
    assert_eq!(db::paths::count(tx.exec(), cache.id).await.unwrap(), 2);
    let visible =
        db::paths::visible_nars(tx.exec(), cache.id, &[nar_hash(1), nar_hash(77)]).await.unwrap();
    assert_eq!(visible.keys().collect::<Vec<_>>(), [&nar_hash(1)]);
    let page = db::paths::page(tx.exec(), PathId(1), 10).await.unwrap();
    assert_eq!(
        page.iter().map(|(cache, path)| (*cache, path.id)).collect::<Vec<_>>(),
        [(cache.id, PathId(2))]
    );

    // The neighbour shares chunks and NARs, and sees none of it.
    assert!(db::paths::records(tx.exec(), neighbour.id, &[hello.hash()]).await.unwrap().is_empty());
    assert!(
        db::paths::visible_nars(tx.exec(), neighbour.id, &[nar_hash(1)]).await.unwrap().is_empty()
    );
    assert_eq!(db::paths::count(tx.exec(), neighbour.id).await.unwrap(), 0);

    let again = NewPath { id: PathId(3), ..new };
    assert!(matches!(
        db::paths::add(tx.exec(), std::slice::from_ref(&again)).await,
        Err(DbError::Constraint(_))
    ));
}
