//! How long things are kept: uses, ends and pins.

use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::StorePath;

use super::{FreshDatabase, add_cache, nar, nar_hash};
use crate::db::caches::{Cache, DomainId};
use crate::db::nars::NarId;
use crate::db::paths::{NewPath, PathId};
use crate::db::pins::{Generation, Pin};
use crate::db::{self, Tx};

/// A cache with a path for each of these names, on one NAR, made visible at the time 1,000.
async fn cache_with(
    tx: &mut Tx,
    cache: &str,
    first_id: i64,
    names: &[&str],
    expires: Option<i64>,
) -> (Cache, Vec<StorePath>) {
    let cache = match db::caches::lookup(tx.exec(), &cache.parse().unwrap()).await.unwrap() {
        Some(cache) => cache,
        None => add_cache(tx, cache, DomainId::SHARED).await,
    };
    let nar_id = NarId(first_id);
    db::nars::add(tx.exec(), &[nar(nar_id.0, DomainId::SHARED, &[])]).await.unwrap();
    let path = |name: &&str| {
        StorePath::from_base_name(&format!("{}-{name}", name[..1].repeat(32))).unwrap()
    };
    let paths: Vec<StorePath> = names.iter().map(path).collect();
    for (id, store_path) in (first_id..).zip(&paths) {
        let new = NewPath {
            id: PathId(id),
            cache: cache.id,
            store_path,
            nar: nar_id,
            references: &[],
            deriver: None,
            signatures: &[],
            ca: None,
            extra: "",
            pushed_by: "ci",
            created: 1_000,
            expires,
        };
        db::paths::add(tx.exec(), &[new]).await.unwrap();
    }
    (cache, paths)
}

async fn last_used(
    tx: &mut Tx,
    cache: &Cache,
    paths: &[StorePath],
) -> Vec<(Option<i64>, Option<i64>)> {
    let hashes: Vec<_> = paths.iter().map(StorePath::hash).collect();
    let found = db::paths::lookup_many(tx.exec(), cache.id, &hashes).await.unwrap();
    hashes.iter().map(|hash| (found[hash].last_used, found[hash].expires)).collect()
}

pub(super) async fn uses_are_written_where_they_are_news(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let (cache, paths) = cache_with(&mut tx, "main", 1, &["a", "b", "c"], None).await;
    let (other, others) = cache_with(&mut tx, "other", 10, &["a"], None).await;
    let ids = [PathId(3), PathId(1), PathId(99)];
    assert!(
        db::uses::unused_since(tx.exec(), &ids, 1_000).await.unwrap().is_empty(),
        "as new as that"
    );
    let unused = db::uses::unused_since(tx.exec(), &ids, 1_001).await.unwrap();
    assert_eq!(unused, [PathId(1), PathId(3)]);
    db::uses::used(tx.exec(), &unused, 2_000, 1_001).await.unwrap();
    db::uses::used(tx.exec(), &unused, 2_100, 1_900).await.unwrap();
    let used = (Some(2_000), None);
    assert_eq!(last_used(&mut tx, &cache, &paths).await, [used, (None, None), used]);

    // A NAR is that of all three, and of nobody's in the other cache.
    let nars = [NarId(1), NarId(10), NarId(77)];
    let unused = db::uses::unused_with_nars(tx.exec(), cache.id, &nars, 2_000).await.unwrap();
    assert_eq!(unused, [PathId(2)]);
    let unused = db::uses::unused_with_nars(tx.exec(), cache.id, &nars, 2_001).await.unwrap();
    assert_eq!(unused, [PathId(1), PathId(2), PathId(3)]);
    assert_eq!(last_used(&mut tx, &other, &others).await, [(None, None)]);
    let many: Vec<PathId> = (1..=1_000).map(PathId).collect();
    assert_eq!(db::uses::unused_since(tx.exec(), &many, 5_000).await.unwrap().len(), 4);
    let record = db::paths::page(tx.exec(), PathId(0), 1).await.unwrap().remove(0).1;
    assert_eq!((record.last_used, record.expires), (Some(2_000), None));
}

pub(super) async fn what_is_pushed_again_is_kept_for_longer_and_never_shorter(
    fresh: FreshDatabase,
) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let (cache, paths) = cache_with(&mut tx, "main", 1, &["a", "b"], Some(5_000)).await;
    let (_, kept) = cache_with(&mut tx, "main", 11, &["c"], None).await;
    let ids = [PathId(11), PathId(2), PathId(1)];
    let all = [&paths[..], &kept].concat();
    for (now, expires, expected) in [
        (2_000, Some(4_000), [Some(5_000), Some(5_000), None]),
        (2_001, Some(6_000), [Some(6_000), Some(6_000), None]),
        (2_002, None, [None, None, None]),
        (2_003, Some(9_000), [None, None, None]),
    ] {
        let found = db::paths::lookup_many(tx.exec(), cache.id, &[paths[0].hash()]).await.unwrap();
        let changes = found[&paths[0].hash()].expires != expected[0];
        assert_eq!(found[&paths[0].hash()].is_to_touch(0, expires), changes, "{now}");
        db::uses::touch(tx.exec(), &ids, now, expires).await.unwrap();
        let expected: Vec<_> = expected.iter().map(|expires| (Some(now), *expires)).collect();
        assert_eq!(last_used(&mut tx, &cache, &all).await, expected);
    }
    let found = db::paths::lookup_many(tx.exec(), cache.id, &[paths[0].hash()]).await.unwrap();
    let brief = &found[&paths[0].hash()];
    assert!(brief.is_to_touch(2_004, None) && !brief.is_to_touch(2_003, None), "used at 2,003");
}

pub(super) async fn pins_keep_their_generations(fresh: FreshDatabase) {
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let (cache, paths) = cache_with(&mut tx, "main", 1, &["a", "b"], None).await;
    let (other, _) = cache_with(&mut tx, "other", 10, &["a"], None).await;
    let gone = StorePath::from_base_name(&format!("{}-gone", "g".repeat(32))).unwrap();
    let [latest, brief]: [PinName; 2] = ["latest", "brief"].map(|name| name.parse().unwrap());
    assert_eq!(db::pins::lock(tx.exec(), cache.id, &latest).await.unwrap(), None);
    let generation = |number, store_path: &StorePath| Generation {
        number,
        store_path: store_path.clone(),
        created: 1_000,
        created_by: "ci".to_owned(),
        present: *store_path != gone,
    };
    let made = [generation(1, &paths[0]), generation(2, &gone), generation(3, &paths[1])];
    let pin = Pin { generation: 3, keep: 5, expires: None };
    db::pins::set(tx.exec(), cache.id, &latest, &pin).await.unwrap();
    for one in &made {
        db::pins::add_generation(tx.exec(), cache.id, &latest, one).await.unwrap();
    }
    let short = Pin { generation: 1, keep: 1, expires: Some(2_000) };
    db::pins::set(tx.exec(), cache.id, &brief, &short).await.unwrap();
    db::pins::add_generation(tx.exec(), cache.id, &brief, &generation(1, &paths[0])).await.unwrap();

    assert_eq!(db::pins::lookup(tx.exec(), cache.id, &latest, 1_000).await.unwrap(), Some(pin));
    let history = db::pins::generations(tx.exec(), cache.id, &latest, u64::MAX, 10).await.unwrap();
    assert_eq!(history.iter().rev().cloned().collect::<Vec<_>>(), made, "newest first");
    let list = db::pin_pages::page(tx.exec(), cache.id, "", 1_999, 10).await.unwrap().pins;
    assert_eq!(
        list,
        [(brief.clone(), short, generation(1, &paths[0])), (latest.clone(), pin, made[2].clone())]
    );
    let resolved = db::pins::resolve(tx.exec(), cache.id, &latest, 1_000).await.unwrap().unwrap();
    assert_eq!(
        (resolved.store_path, resolved.nar_hash, resolved.generation),
        (paths[1].clone(), nar_hash(1), 3)
    );
    let kept = |now| {
        let names =
            [("brief", &paths[0]), ("latest", &paths[0]), ("latest", &paths[1]), ("latest", &gone)];
        let kept = names.into_iter().filter(move |(name, _)| now < 2_000 || *name != "brief");
        kept.map(|(name, path)| (path.hash(), name.to_owned())).collect::<Vec<_>>()
    };
    for now in [1_999, 2_000] {
        assert_eq!(db::pins::kept(tx.exec(), cache.id, now).await.unwrap(), kept(now));
    }
    // What is over is there for nobody, and in another cache there is none of it.
    assert_eq!(db::pins::lookup(tx.exec(), cache.id, &brief, 2_000).await.unwrap(), None);
    assert_eq!(db::pins::resolve(tx.exec(), cache.id, &brief, 2_000).await.unwrap(), None);
    assert_eq!(
        db::pin_pages::page(tx.exec(), cache.id, "", 2_000, 10).await.unwrap().pins.len(),
        1
    );
    assert!(db::pins::kept(tx.exec(), other.id, 0).await.unwrap().is_empty());
    assert_eq!(db::pins::remove_expired(tx.exec(), 1_999).await.unwrap(), 0);
    assert_eq!(db::pins::remove_expired(tx.exec(), 2_000).await.unwrap(), 1);
    assert_eq!(db::pins::lock(tx.exec(), cache.id, &brief).await.unwrap(), None);

    // The newest are kept, and what the name stands for; a path that is not there resolves to
    // nothing.
    let back = Pin { generation: 2, keep: 1, expires: None };
    db::pins::set(tx.exec(), cache.id, &latest, &back).await.unwrap();
    db::pins::remove_surplus(tx.exec(), cache.id, &latest, &back).await.unwrap();
    let history = db::pins::generations(tx.exec(), cache.id, &latest, u64::MAX, 10).await.unwrap();
    assert_eq!(history, [made[2].clone(), made[1].clone()]);
    assert_eq!(db::pins::resolve(tx.exec(), cache.id, &latest, 1_000).await.unwrap(), None);
    assert!(db::pins::remove(tx.exec(), cache.id, &latest).await.unwrap());
    assert!(!db::pins::remove(tx.exec(), cache.id, &latest).await.unwrap());

    db::pins::set(tx.exec(), other.id, &latest, &pin).await.unwrap();
    db::pins::add_generation(tx.exec(), other.id, &latest, &made[2]).await.unwrap();
    db::caches::remove_some_paths(tx.exec(), other.id, 10).await.unwrap();
    db::caches::remove(tx.exec(), other.id).await.unwrap();
}
