//! The first start and every other, caches and tokens.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::auth::{Grants, Permission, Verifier};
use crate::config::{DatabaseConfig, DatabaseUrl, Seconds};
use crate::db::caches::DomainId;
use crate::db::{self, Db};
use crate::secrets::{DataDir, Sealer, SecretString, read_secret_file};

const NOW: i64 = 1_800_000_000;
const SET_UP: SetUp<'static> = SetUp { compression_level: 3, host: None };

struct Place {
    _folder: tempfile::TempDir,
    data_dir: DataDir,
    sealer: Sealer,
    db: Db,
}

async fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = DataDir::create(folder.path()).unwrap();
    let sealer = Sealer::load_or_create(&data_dir).unwrap();
    let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("snowbank.db")));
    let db = Db::open(&config).await.unwrap();
    Place { _folder: folder, data_dir, sealer, db }
}

impl Place {
    async fn start(&self, now: i64) -> FirstStart {
        first_start(&self.db, &self.sealer, &self.data_dir, &SET_UP, now).await.unwrap()
    }

    async fn verify(&self, token: &SecretString, now: i64) -> crate::auth::Token {
        let verifier = Verifier::open(self.db.clone(), self.sealer.clone()).await.unwrap();
        verifier.verify(token, now).await.unwrap()
    }
}

#[tokio::test]
async fn the_first_start_makes_everything_and_the_next_nothing() {
    let place = place().await;
    let first = place.start(NOW).await;
    let token = first.root_token.expect("a root token");
    assert_eq!(read_secret_file(&place.data_dir.root_token()).unwrap(), token);
    let (name, key) = first.main.expect("the cache main");
    assert_eq!(name.as_str(), "main");
    let (origin, rest) = key.name().split_at(key.name().len() - "-main-1".len());
    assert_eq!(rest, "-main-1");
    assert!(origin.starts_with("snowbank-") && origin.len() > "snowbank-".len() + 8, "{origin} is not unique");

    let root = place.verify(&token, NOW).await;
    assert!(root.grants.admin);
    assert_eq!(root.permissions(&"any".parse().unwrap()), [Permission::Pull, Permission::Push]);

    let again = place.start(NOW + 10).await;
    assert!(again.root_token.is_none());
    assert_eq!(again.instance, first.instance);
    assert_eq!(again.main.unwrap().1.to_string(), key.to_string());
    assert_eq!(read_secret_file(&place.data_dir.root_token()).unwrap(), token);
    let mut conn = place.db.reader().await.unwrap();
    assert_eq!(db::keys::token_keys(conn.exec()).await.unwrap().len(), 1);
    assert_eq!(db::caches::list(conn.exec()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_root_token_that_was_removed_stays_removed() {
    let place = place().await;
    place.start(NOW).await;
    fs::remove_file(place.data_dir.root_token()).unwrap();
    assert!(place.start(NOW).await.root_token.is_none());
    assert!(!place.data_dir.root_token().exists());
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_made_whole_by_the_next() {
    let place = place().await;
    // The token's file was written, the transaction was not committed.
    crate::secrets::write_secret_file(&place.data_dir.root_token(), &SecretString::new("stale")).unwrap();
    let token = place.start(NOW).await.root_token.unwrap();
    assert_eq!(read_secret_file(&place.data_dir.root_token()).unwrap(), token);
    place.verify(&token, NOW).await;
}

#[tokio::test]
async fn a_first_start_that_cannot_write_the_token_makes_nothing() {
    let place = place().await;
    fs::create_dir(place.data_dir.root_token()).unwrap();
    let failed = first_start(&place.db, &place.sealer, &place.data_dir, &SET_UP, NOW).await;
    assert!(matches!(failed, Err(AdminError::Secret(_))));
    let mut conn = place.db.reader().await.unwrap();
    assert!(db::caches::list(conn.exec()).await.unwrap().is_empty());
    assert!(db::keys::token_keys(conn.exec()).await.unwrap().is_empty());
    drop(conn);
    fs::remove_dir(place.data_dir.root_token()).unwrap();
    assert!(place.start(NOW).await.root_token.is_some());
}

#[tokio::test]
async fn two_servers_that_start_together_agree() {
    let place = place().await;
    let (a, b) = tokio::join!(place.start(NOW), place.start(NOW));
    assert_eq!(a.instance, b.instance);
    assert_ne!(a.root_token.is_some(), b.root_token.is_some());
}

#[tokio::test]
async fn a_server_with_another_key_is_refused() {
    let place = place().await;
    place.start(NOW).await;
    check_server_key(&place.db, &place.sealer).await.unwrap();
    let other = Sealer::new(&[9; 32]);
    for refused in [
        check_server_key(&place.db, &other).await,
        first_start(&place.db, &other, &place.data_dir, &SET_UP, NOW).await.map(|_| ()),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, AdminError::OtherServerKey), "{error}");
        assert!(error.to_string().contains("server-key-file"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_replicas_that_start_together_on_postgresql_make_one_of_each() {
    let server = crate::db::tests::postgres::Server::start();
    let config = server.config("shared").await;
    let folder = tempfile::tempdir().unwrap();
    let mut starts = tokio::task::JoinSet::new();
    for replica in 0..10 {
        let (config, path) = (config.clone(), folder.path().join(replica.to_string()));
        starts.spawn(async move {
            let data_dir = DataDir::create(&path).unwrap();
            let db = Db::open(&config).await.unwrap();
            let started = first_start(&db, &Sealer::new(&[7; 32]), &data_dir, &SET_UP, NOW).await.unwrap();
            assert_eq!(data_dir.root_token().exists(), started.root_token.is_some());
            (db, started)
        });
    }
    let started = starts.join_all().await;
    let (db, first) = &started[0];
    assert_eq!(started.iter().filter(|(_, start)| start.root_token.is_some()).count(), 1);
    for (_, start) in &started {
        assert_eq!(start.instance, first.instance);
        assert_eq!(start.main.as_ref().unwrap().1.to_string(), first.main.as_ref().unwrap().1.to_string());
    }
    let mut conn = db.reader().await.unwrap();
    assert_eq!(db::keys::token_keys(conn.exec()).await.unwrap().len(), 1);
    assert_eq!(db::caches::list(conn.exec()).await.unwrap().len(), 1);
}

fn spec(name: &str) -> CacheSpec<'_> {
    CacheSpec { name: name.parse().unwrap(), public: false, isolated: false, compression_level: 3, host: None }
}

#[tokio::test]
async fn a_cache_has_a_key_that_opens_and_a_name_of_its_own() {
    let place = place().await;
    let host = Some("Cache.Example.org");
    let made = create_cache(&place.db, &place.sealer, &CacheSpec { host, ..spec("team") }, NOW).await.unwrap();
    assert_eq!(made.public_key.name(), "cache.example.org-team-1");
    assert!(!made.cache.public);
    let sealed = db::keys::active_signing_keys(place.db.reader().await.unwrap().exec(), made.cache.id).await.unwrap();
    let key = place.sealer.open_signing_key(&sealed[0]).unwrap();
    assert!(made.public_key.verify(b"text", &key.sign(b"text")));
    let again = create_cache(&place.db, &place.sealer, &spec("team"), NOW).await.unwrap_err();
    assert!(matches!(again, AdminError::NameTaken(_)), "{again}");
    let others = ["a", "b"].map(|name| CacheSpec { isolated: name == "b", ..spec(name) });
    let a = create_cache(&place.db, &place.sealer, &others[0], NOW).await.unwrap();
    let b = create_cache(&place.db, &place.sealer, &others[1], NOW).await.unwrap();
    assert_eq!((made.cache.domain, a.cache.domain), (DomainId::SHARED, DomainId::SHARED));
    assert_ne!(b.cache.domain, DomainId::SHARED);
}

fn token(sub: &str, pull: &[&str], days: u64) -> TokenSpec {
    let caches: BTreeMap<_, _> = pull.iter().map(|name| (name.parse().unwrap(), vec![Permission::Pull])).collect();
    TokenSpec {
        subject: sub.to_owned(),
        grants: Grants { caches, admin: false },
        lifetime: Seconds::new(days * 86_400),
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_it_says() {
    let place = place().await;
    let early = create_token(&place.db, &place.sealer, token("ci", &["a"], 1), NOW).await.unwrap_err();
    assert!(matches!(early, AdminError::NoTokenKey));
    place.start(NOW).await;
    let made = create_token(&place.db, &place.sealer, token("ci", &["a", "b-*"], 90), NOW).await.unwrap();
    let verified = place.verify(&made, NOW).await;
    assert_eq!((verified.sub.as_str(), verified.exp), ("ci", NOW + 90 * 86_400));
    assert_eq!(verified.permissions(&"b-1".parse().unwrap()), [Permission::Pull]);
    let other = create_token(&place.db, &place.sealer, token("ci", &["a"], 90), NOW).await.unwrap();
    assert_ne!(place.verify(&other, NOW).await.jti, verified.jti, "each can be revoked alone");
}

#[tokio::test]
async fn a_token_of_no_use_is_refused() {
    let place = place().await;
    place.start(NOW).await;
    for spec in [token(" ", &["a"], 1), token("ci", &[], 1), token("ci", &["a"], 0), token("ci", &["a"], 3_651)] {
        let refused = create_token(&place.db, &place.sealer, spec.clone(), NOW).await;
        assert!(matches!(refused, Err(AdminError::BadToken(_))), "{spec:?}");
    }
}
