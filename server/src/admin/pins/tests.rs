//! Pins as operators and pushes make them.

use super::*;
use crate::admin::{Admin, create_cache, delete_paths, list_audit, migrate_database};
use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::db::caches::DomainId;
use crate::db::nars::{NarId, NewNar};
use crate::db::paths::{NewPath, PathId};
use crate::secrets::Sealer;
use snowbank_core::hash::{FileHash, NarHash, Sha256};
use snowbank_core::manifest::ContentDigest;
use snowbank_core::wire::admin::{AuditQuery, CacheSettings, CreateCache, DeletePaths};

const NOW: i64 = 1_800_000_000;
const ALL: HistoryQuery = HistoryQuery { before: None };

struct Place {
    _folder: tempfile::TempDir,
    admin: Admin,
    cache: Cache,
    name: PinName,
}

/// A cache with the paths `a` to `e`, each of which refers to the one before it.
async fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("snowbank.db")));
    let db = Db::open(&config).await.unwrap();
    let sealer = Sealer::new(&[1; 32]);
    let admin = Admin {
        db: db.clone(),
        sealer,
        compression_level: 3,
        host: None,
        key_files: Vec::new(),
        legacy_keys: crate::auth::LegacyKeys::default(),
    };
    let settings = CacheSettings::default();
    let request = CreateCache {
        name: "main".to_owned(),
        isolated: false,
        store_dir: None,
        signing_key: None,
        settings,
    };
    create_cache(&admin, &Actor::host(), &request, NOW).await.unwrap();
    let mut tx = db.commit_tx().await.unwrap();
    let cache = db::caches::lookup(tx.exec(), &"main".parse().unwrap()).await.unwrap().unwrap();
    let nar = NewNar {
        id: NarId(1),
        domain: DomainId::SHARED,
        nar_hash: NarHash::from(Sha256::of(b"nar")),
        nar_size: 7,
        file_hash: FileHash::from(Sha256::of(b"file")),
        file_size: 5,
        content_digest: ContentDigest::from_bytes([7; 32]),
        chunk_count: 0,
        segments: &[],
        cut_id: 0,
        created: NOW,
    };
    db::nars::add(tx.exec(), &[nar]).await.unwrap();
    let mut references: Vec<StorePath> = Vec::new();
    for (id, letter) in (1..).zip(["a", "b", "c", "d", "f"]) {
        let store_path = path(letter);
        let new = NewPath {
            id: PathId(id),
            cache: cache.id,
            store_path: &store_path,
            nar: NarId(1),
            references: &references,
            deriver: None,
            signatures: &[],
            ca: None,
            extra: "",
            pushed_by: "ci",
            created: NOW,
            expires: None,
        };
        db::paths::add(tx.exec(), &[new]).await.unwrap();
        references = vec![store_path];
    }
    tx.commit().await.unwrap();
    Place { _folder: folder, admin, cache, name: "latest".parse().unwrap() }
}

fn path(letter: &str) -> StorePath {
    StorePath::from_base_name(&format!("{}-{letter}", letter.repeat(32))).unwrap()
}

fn request(letter: &str) -> SetPin {
    SetPin { path: path(letter).base_name(), keep: None, expires: None }
}

impl Place {
    async fn set(&self, request: &SetPin, now: i64) -> PinDetails {
        set_pin(&self.admin.db, &Actor::host(), &self.cache, &self.name, request, 10, now)
            .await
            .unwrap()
    }

    async fn roll_back(&self, to: Option<u64>) -> Result<PinDetails, AdminError> {
        rollback_pin(
            &self.admin.db,
            &Actor::host(),
            &self.cache,
            &self.name,
            &RollbackPin { to },
            NOW,
        )
        .await
    }

    async fn delete(
        &self,
        letter: &str,
        closure: bool,
        referrers: bool,
    ) -> Result<Vec<String>, AdminError> {
        let request = DeletePaths {
            paths: vec![path(letter).base_name()],
            closure,
            referrers,
            dry_run: true,
        };
        let deleted = delete_paths(&self.admin, &Actor::host(), &self.cache, &request, NOW).await?;
        let letter = |base: &String| base[33..].to_owned();
        Ok(deleted.deleted.iter().map(letter).collect())
    }
}

fn history(details: &PinDetails) -> Vec<(u64, &str)> {
    let letter = |path: &str| path.rfind('-').unwrap() + 1;
    details
        .history
        .iter()
        .map(|one| (one.generation, &one.store_path[letter(&one.store_path)..]))
        .collect()
}

#[tokio::test]
async fn a_name_counts_up_goes_back_and_keeps_the_newest() {
    let place = place().await;
    for letter in ["a", "b", "b", "c"] {
        place.set(&SetPin { keep: Some(3), ..request(letter) }, NOW).await;
    }
    let shown = show_pin(&place.admin.db, &place.cache, &place.name, &ALL, NOW).await.unwrap();
    assert_eq!((shown.pin.generation, history(&shown)), (3, vec![(3, "c"), (2, "b"), (1, "a")]));
    assert_eq!(place.set(&request("c"), NOW).await, shown, "to ask twice is to ask once");

    let back = place.roll_back(None).await.unwrap();
    assert_eq!((back.pin.generation, back.history.len()), (2, 3));
    assert!(back.pin.store_path.ends_with("-b"));
    assert_eq!(place.roll_back(None).await.unwrap().pin.generation, 1);
    let none = place.roll_back(None).await.unwrap_err();
    assert!(
        matches!(none, AdminError::NoGeneration { .. }) && none.to_string().contains("before 1"),
        "{none}"
    );
    assert_eq!(place.roll_back(Some(3)).await.unwrap().pin.generation, 3);
    assert!(place.roll_back(Some(9)).await.is_err());
    place.roll_back(Some(2)).await.unwrap();

    // The next one is new, whatever the name stood for; as many are kept as was said before.
    let next = place.set(&request("d"), NOW + 5).await;
    assert_eq!((next.pin.generation, history(&next)), (4, vec![(4, "d"), (3, "c"), (2, "b")]));
    assert_eq!(
        (next.pin.keep, next.pin.created, next.pin.created_by.as_deref()),
        (3, NOW + 5, Some("host"))
    );
    let query = AuditQuery { action: Some("pin.*".to_owned()), ..AuditQuery::default() };
    let log = list_audit(&place.admin.db, &query).await.unwrap();
    let actions: Vec<&str> = log.entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "pin.set").count(), 4, "{actions:?}");
    assert_eq!(
        actions.iter().filter(|action| **action == "pin.rollback").count(),
        4,
        "{actions:?}"
    );
}

#[tokio::test]
async fn a_pin_whose_time_is_over_is_none() {
    let place = place().await;
    let (db, cache, name) = (&place.admin.db, &place.cache, &place.name);
    place.set(&request("a"), NOW).await;
    let until = SetPin { expires: Some(Seconds::new(100)), ..request("b") };
    assert_eq!(place.set(&until, NOW).await.pin.expires, Some(NOW + 100));
    assert_eq!(
        pinned_path(db, cache, name, NOW + 99).await.unwrap().store_path,
        path("b").full(&cache.store_dir)
    );
    for gone in [
        pinned_path(db, cache, name, NOW + 100).await.map(|_| ()),
        show_pin(db, cache, name, &ALL, NOW + 100).await.map(|_| ()),
        remove_pin(db, &Actor::host(), cache, name, NOW + 100).await.map(|_| ()),
    ] {
        assert!(matches!(gone, Err(AdminError::NoPin(_))));
    }
    assert!(list_pins(db, cache, None, NOW + 100).await.unwrap().pins.is_empty());
    // What it stood for has been let go of: the name begins anew.
    let anew = place.set(&request("c"), NOW + 100).await;
    assert_eq!((history(&anew), anew.pin.expires), (vec![(1, "c")], None));
    // Said again, and without an end, it has none.
    place.set(&SetPin { expires: Some(Seconds::new(5)), ..request("c") }, NOW + 100).await;
    assert_eq!(place.set(&request("c"), NOW + 100).await.pin.expires, None);
    remove_pin(db, &Actor::host(), cache, name, NOW + 100).await.unwrap();
    assert!(list_pins(db, cache, None, NOW + 100).await.unwrap().pins.is_empty());
}

#[tokio::test]
async fn only_what_is_there_is_pinned() {
    let place = place().await;
    let set = async |request: &SetPin| {
        set_pin(&place.admin.db, &Actor::host(), &place.cache, &place.name, request, 10, NOW)
            .await
            .unwrap_err()
    };
    assert!(matches!(set(&request("z")).await, AdminError::NoPath(_)));
    assert!(matches!(
        set(&SetPin { path: "hello".to_owned(), ..request("a") }).await,
        AdminError::BadSetting(_)
    ));
    for keep in [0, 1_001] {
        assert!(matches!(
            set(&SetPin { keep: Some(keep), ..request("a") }).await,
            AdminError::BadSetting(_)
        ));
    }
    let at_once = SetPin { expires: Some(Seconds::new(0)), ..request("a") };
    assert!(matches!(set(&at_once).await, AdminError::BadSetting(_)));
    assert!(list_pins(&place.admin.db, &place.cache, None, NOW).await.unwrap().pins.is_empty());
}

#[tokio::test]
async fn what_is_pinned_is_not_deleted_nor_what_it_needs() {
    let place = place().await;
    place.set(&request("d"), NOW).await;
    place.set(&request("b"), NOW).await;
    for (letter, closure, referrers) in [("b", false, true), ("a", false, true), ("d", false, true)]
    {
        let refused = place.delete(letter, closure, referrers).await.unwrap_err();
        assert!(matches!(refused, AdminError::Pinned(_)), "{letter}: {refused}");
        assert!(refused.to_string().contains("is pinned as `latest`"), "{refused}");
    }
    // Nothing else needs `f`; what is below it is needed by the pins.
    assert_eq!(place.delete("f", true, false).await.unwrap(), ["f"]);
    remove_pin(&place.admin.db, &Actor::host(), &place.cache, &place.name, NOW).await.unwrap();
    assert_eq!(place.delete("f", true, false).await.unwrap(), ["a", "b", "c", "d", "f"]);
}

#[tokio::test]
async fn what_was_withdrawn_is_not_stood_for() {
    let place = place().await;
    place.set(&request("a"), NOW).await;
    place.set(&request("b"), NOW).await;
    let mut tx = place.admin.db.exclusive_tx().await.unwrap();
    db::paths::remove(tx.exec(), place.cache.id, &[path("a").hash()]).await.unwrap();
    tx.commit().await.unwrap();
    let refused = place.roll_back(None).await.unwrap_err();
    assert!(
        matches!(refused, AdminError::GenerationGone { .. }) && refused.to_string().contains("-a"),
        "{refused}"
    );
    let shown = show_pin(&place.admin.db, &place.cache, &place.name, &ALL, NOW).await.unwrap();
    assert_eq!(shown.history.iter().map(|one| one.present).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_pin_a_name_at_once_both_do() {
    let server = db::tests::postgres::Server::start();
    let db = Db::open(&server.config("pins").await).await.unwrap();
    let mut place = place().await;
    migrate_database::copy(&place.admin.db, &db, &mut |_| {}).await.unwrap();
    migrate_database::verify(&place.admin.db, &db, &mut |_| {}).await.unwrap();
    place.admin.db = db;
    let (a, b) = (request("a"), request("b"));
    let (one, two) = tokio::join!(place.set(&a, NOW), place.set(&b, NOW));
    let mut generations = [one.pin.generation, two.pin.generation];
    generations.sort_unstable();
    assert_eq!(generations, [1, 2]);
}

#[tokio::test]
async fn a_cache_has_so_many_pins_and_no_more() {
    let place = place().await;
    let (db, cache, actor) = (&place.admin.db, &place.cache, Actor::host());
    let set = async |name: &str, request: &SetPin, now| {
        set_pin(db, &actor, cache, &name.parse().unwrap(), request, 3, now).await
    };
    let brief = SetPin { expires: Some(Seconds::new(10)), ..request("b") };
    for (name, request) in [("one", &request("a")), ("two", &brief), ("three", &brief)] {
        set(name, request, NOW).await.unwrap();
    }
    let refused = set("four", &request("a"), NOW).await.unwrap_err();
    let message = refused.to_string();
    assert!(matches!(refused, AdminError::Pin(PinError::TooMany(3))), "{message}");
    assert!(
        message.contains("3 pins")
            && message.contains("pins-per-cache")
            && message.contains("pin rm"),
        "{message}"
    );
    set("one", &request("c"), NOW).await.unwrap();
    // Those whose time is over make room.
    for name in ["four", "five"] {
        set(name, &request("a"), NOW + 10).await.unwrap();
    }
    set("six", &request("a"), NOW + 10).await.unwrap_err();
    remove_pin(db, &actor, cache, &"four".parse().unwrap(), NOW + 10).await.unwrap();
    set("six", &request("a"), NOW + 10).await.unwrap();
    let names: Vec<String> = list_pins(db, cache, None, NOW + 10)
        .await
        .unwrap()
        .pins
        .iter()
        .map(|pin| pin.name.to_string())
        .collect();
    assert_eq!(names, ["five", "one", "six"]);
}

#[tokio::test]
async fn pins_and_histories_come_in_pages() {
    let place = place().await;
    let (db, cache) = (&place.admin.db, &place.cache);
    let generation = |number, created_by: &str| Generation {
        number,
        store_path: path("a"),
        created: NOW,
        created_by: created_by.to_owned(),
        present: true,
    };
    let mut tx = db.commit_tx().await.unwrap();
    for number in 0..1_200 {
        let name = format!("pin-{number:04}").parse().unwrap();
        let pin = Pin { generation: 1, keep: 5, expires: (number < 600).then_some(NOW) };
        db::pins::set(tx.exec(), cache.id, &name, &pin).await.unwrap();
        db::pins::add_generation(tx.exec(), cache.id, &name, &generation(1, "ci")).await.unwrap();
    }
    // A thousand generations by somebody with a long name.
    let long = "x".repeat(2_000);
    db::pins::set(
        tx.exec(),
        cache.id,
        &place.name,
        &Pin { generation: 1_000, keep: 1_000, expires: None },
    )
    .await
    .unwrap();
    for number in 1..=1_000 {
        db::pins::add_generation(tx.exec(), cache.id, &place.name, &generation(number, &long))
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();

    let (mut names, mut pages, mut after) = (Vec::new(), Vec::new(), None::<String>);
    loop {
        let page = list_pins(db, cache, after.as_deref(), NOW).await.unwrap();
        pages.push(page.pins.len());
        names.extend(page.pins.into_iter().map(|pin| pin.name.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<String> = ["latest".to_owned()]
        .into_iter()
        .chain((600..1_200).map(|number| format!("pin-{number:04}")))
        .collect();
    assert_eq!(names, expected);
    assert_eq!(pages, [1, 399, 201], "those whose time is over are looked at, and not shown");

    let (mut numbers, mut query) = (Vec::new(), ALL);
    loop {
        let page = show_pin(db, cache, &place.name, &query, NOW).await.unwrap();
        assert!(serde_json::to_vec(&page).unwrap().len() <= 1 << 20);
        assert_eq!(page.pin.generation, 1_000);
        numbers.extend(page.history.iter().map(|one| one.generation));
        query.before = page.next;
        if query.before.is_none() {
            break;
        }
    }
    assert_eq!(numbers, (1..=1_000).rev().collect::<Vec<_>>());
    assert_eq!(place.roll_back(Some(7)).await.unwrap().pin.generation, 7, "however far back");
}
