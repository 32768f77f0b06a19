//! The first start and every other, caches and tokens.

mod pages;

use std::collections::BTreeMap;
use std::fs;

use super::*;
use snowbank_cli::Render as _;
use snowbank_core::units::{Limit, Seconds, Size};
use snowbank_core::wire::admin::{
    AuditPage, AuditQuery, CacheKey, CacheSettings, CreateCache, CreateToken, RevokeTokens,
    RotateKey, RotateToken, SecretText, TokenGrants,
};

use crate::auth::{AuthError, Permission, Verifier};
use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::db::usage::{CacheUsage, CacheUsages, lookup_caches, store_caches};
use crate::db::{self, Db};
use crate::secrets::{DataDir, Sealer, SecretString, read_secret_file};

const NOW: i64 = 1_800_000_000;

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

fn admin(db: &Db, sealer: &Sealer) -> Admin {
    Admin {
        db: db.clone(),
        sealer: sealer.clone(),
        compression_level: 3,
        host: None,
        key_files: Vec::new(),
        legacy_keys: crate::auth::LegacyKeys::default(),
    }
}

impl Place {
    async fn start(&self, now: i64) -> FirstStart {
        first_start(&self.admin(), &self.data_dir, now).await.unwrap()
    }

    fn admin(&self) -> Admin {
        admin(&self.db, &self.sealer)
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
    assert!(
        origin.starts_with("snowbank-") && origin.len() > "snowbank-".len() + 8,
        "{origin} is not unique"
    );

    let root = place.verify(&token, NOW).await;
    assert!(root.grants.admin);
    assert_eq!(root.permissions(&"any".parse().unwrap()), Permission::ALL);

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
    crate::secrets::write_secret_file(&place.data_dir.root_token(), &SecretString::new("stale"))
        .unwrap();
    let token = place.start(NOW).await.root_token.unwrap();
    assert_eq!(read_secret_file(&place.data_dir.root_token()).unwrap(), token);
    place.verify(&token, NOW).await;
}

#[tokio::test]
async fn a_first_start_that_cannot_write_the_token_makes_nothing() {
    let place = place().await;
    fs::create_dir(place.data_dir.root_token()).unwrap();
    let failed = first_start(&place.admin(), &place.data_dir, NOW).await;
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
        first_start(&admin(&place.db, &other), &place.data_dir, NOW).await.map(|_| ()),
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
            let started =
                first_start(&admin(&db, &Sealer::new(&[7; 32])), &data_dir, NOW).await.unwrap();
            assert_eq!(data_dir.root_token().exists(), started.root_token.is_some());
            (db, started)
        });
    }
    let started = starts.join_all().await;
    let (db, first) = &started[0];
    assert_eq!(started.iter().filter(|(_, start)| start.root_token.is_some()).count(), 1);
    for (_, start) in &started {
        assert_eq!(start.instance, first.instance);
        assert_eq!(
            start.main.as_ref().unwrap().1.to_string(),
            first.main.as_ref().unwrap().1.to_string()
        );
    }
    let mut conn = db.reader().await.unwrap();
    assert_eq!(db::keys::token_keys(conn.exec()).await.unwrap().len(), 1);
    assert_eq!(db::caches::list(conn.exec()).await.unwrap().len(), 1);
}

fn spec(name: &str) -> CreateCache {
    let settings = CacheSettings::default();
    CreateCache {
        name: name.to_owned(),
        isolated: false,
        store_dir: None,
        signing_key: None,
        settings,
    }
}

#[tokio::test]
async fn a_cache_has_a_key_that_opens_and_a_name_of_its_own() {
    let place = place().await;
    let (host, actor) = (Actor::host(), Some("Cache.Example.org".to_owned()));
    let admin = Admin { host: actor, ..place.admin() };
    let made = create_cache(&admin, &host, &spec("team"), NOW).await.unwrap();
    let public: snowbank_core::signing::PublicKey = made.keys[0].public_key.parse().unwrap();
    assert_eq!(public.name(), "cache.example.org-team-1");
    assert!(!made.public && !made.isolated);
    let secret = export_signing_keys(&admin, &host, &"team".parse().unwrap(), NOW).await.unwrap();
    let secret = snowbank_core::signing::SecretKey::parse(&secret[0]).unwrap();
    assert!(public.verify(b"text", &secret.sign(b"text")));
    let again = create_cache(&admin, &host, &spec("team"), NOW).await.unwrap_err();
    assert!(matches!(again, AdminError::NameTaken(_)), "{again}");
    let alone = create_cache(&admin, &host, &CreateCache { isolated: true, ..spec("b") }, NOW)
        .await
        .unwrap();
    assert!(alone.isolated);
}

#[tokio::test]
async fn a_key_that_was_exported_can_be_imported() {
    let (old, new, actor) = (place().await, place().await, Actor::host());
    let made = create_cache(&old.admin(), &actor, &spec("team"), NOW).await.unwrap();
    let secret =
        export_signing_keys(&old.admin(), &actor, &"team".parse().unwrap(), NOW).await.unwrap();
    let request =
        CreateCache { signing_key: Some(SecretText(secret[0].to_string())), ..spec("team") };
    let moved = create_cache(&new.admin(), &actor, &request, NOW).await.unwrap();
    assert_eq!(moved.keys[0].public_key, made.keys[0].public_key);
    let bad = CreateCache { signing_key: Some(SecretText("s3cret".to_owned())), ..spec("other") };
    let error = create_cache(&new.admin(), &actor, &bad, NOW).await.unwrap_err().to_string();
    assert!(error.contains("signing key") && !error.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn settings_that_are_not_named_stay() {
    let (place, actor) = (place().await, Actor::host());
    let (admin, name) = (place.admin(), "team".parse().unwrap());
    create_cache(&admin, &actor, &spec("team"), NOW).await.unwrap();
    let one = CacheSettings { priority: Some(30), ..CacheSettings::default() };
    let two = CacheSettings {
        retention: Some(Limit::Some(Seconds::new(90 * 86_400))),
        max_size: Some(Limit::Some(Size::from_mib(5))),
        ..CacheSettings::default()
    };
    // At once: neither loses what it said.
    let (a, b) = tokio::join!(
        configure_cache(&admin, &actor, &name, &one, NOW),
        configure_cache(&admin, &actor, &name, &two, NOW)
    );
    a.unwrap();
    b.unwrap();
    let found = show_cache(&admin, &name).await.unwrap();
    assert_eq!(
        (found.priority, found.retention, found.max_size),
        (30, two.retention.unwrap(), two.max_size.unwrap())
    );
    let back = CacheSettings {
        retention: Some(Limit::None),
        max_size: Some(Limit::Default),
        ..CacheSettings::default()
    };
    let found = configure_cache(&admin, &actor, &name, &back, NOW).await.unwrap();
    assert_eq!(
        (found.priority, found.retention, found.max_size),
        (30, Limit::None, Limit::Default)
    );
    for bad in [
        CacheSettings { compression_level: Some(20), ..CacheSettings::default() },
        CacheSettings { description: Some("two\nlines".to_owned()), ..CacheSettings::default() },
        CacheSettings { upstream_keys: Some(vec!["a:b".to_owned()]), ..CacheSettings::default() },
        CacheSettings { retention: Some(Limit::Some(Seconds::new(0))), ..CacheSettings::default() },
    ] {
        let error = configure_cache(&admin, &actor, &name, &bad, NOW).await.unwrap_err();
        assert!(matches!(error, AdminError::BadSetting(_)), "{error}");
    }
    let query = AuditQuery { action: Some("cache.conf*".to_owned()), ..AuditQuery::default() };
    let log = list_audit(&place.db, &query).await.unwrap();
    assert_eq!(log.entries.len(), 3, "{log:?}");
    assert!(
        log.entries
            .iter()
            .any(|entry| entry.detail.contains("priority=30") && entry.subject == "host"),
        "{log:?}"
    );
}

#[tokio::test]
async fn ensuring_a_cache_twice_changes_nothing() {
    let (place, actor) = (place().await, Actor::host());
    let settings =
        CacheSettings { public: Some(true), priority: Some(20), ..CacheSettings::default() };
    let request = CreateCache { settings, ..spec("team") };
    let made = ensure_cache(&place.admin(), &actor, &request, NOW).await.unwrap();
    assert_eq!(ensure_cache(&place.admin(), &actor, &request, NOW).await.unwrap(), made);
    let settings = CacheSettings { priority: Some(21), ..CacheSettings::default() };
    let changed =
        ensure_cache(&place.admin(), &actor, &CreateCache { settings, ..spec("team") }, NOW)
            .await
            .unwrap();
    assert_eq!((changed.priority, changed.public), (21, true));
    let isolated =
        ensure_cache(&place.admin(), &actor, &CreateCache { isolated: true, ..spec("team") }, NOW)
            .await;
    assert!(matches!(isolated, Err(AdminError::BadSetting(_))));
    assert_eq!(list_audit(&place.db, &AuditQuery::default()).await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn a_new_name_is_free_and_the_old_one_is_again() {
    let (place, actor) = (place().await, Actor::host());
    let admin = place.admin();
    let [a, b, c] = ["a", "b", "c"].map(|name| name.parse().unwrap());
    for name in ["a", "b"] {
        create_cache(&admin, &actor, &spec(name), NOW).await.unwrap();
    }
    let taken = rename_cache(&admin, &actor, &a, &b, NOW).await.unwrap_err();
    assert!(matches!(taken, AdminError::NameTaken(_)), "{taken}");
    let before = show_cache(&admin, &a).await.unwrap();
    let renamed = rename_cache(&admin, &actor, &a, &c, NOW).await.unwrap();
    assert_eq!((renamed.name.as_str(), &renamed.keys), ("c", &before.keys));
    create_cache(&admin, &actor, &spec("a"), NOW).await.unwrap();
    destroy_cache(&admin, &actor, &c, NOW).await.unwrap();
    let gone =
        configure_cache(&admin, &actor, &c, &CacheSettings::default(), NOW).await.unwrap_err();
    assert!(matches!(gone, AdminError::NoCache(_)), "{gone}");
    let destroyed = rename_cache(&admin, &actor, &a, &c, NOW).await.unwrap_err();
    assert!(matches!(destroyed, AdminError::NameDestroyed(_)), "{destroyed}");
}

#[tokio::test]
async fn old_and_new_keys_sign_during_the_overlap() {
    let (place, actor) = (place().await, Actor::host());
    let (admin, name) = (place.admin(), "team".parse().unwrap());
    let made = create_cache(&admin, &actor, &spec("team"), NOW).await.unwrap();
    let request = RotateKey { overlap: Seconds::new(100), signing_key: None };
    let rotated = rotate_signing_key(&admin, &actor, &name, &request, NOW).await.unwrap();
    assert_eq!(rotated.keys.len(), 2);
    assert_eq!(rotated.keys[0], CacheKey { retired: Some(NOW + 100), ..made.keys[0].clone() });
    assert!(rotated.keys[1].public_key.contains("-team-2:") && rotated.keys[1].retired.is_none());
    for (at, keys) in [(NOW + 99, 2), (NOW + 100, 1)] {
        assert_eq!(export_signing_keys(&admin, &actor, &name, at).await.unwrap().len(), keys);
    }
}

fn token(sub: &str, pull: &[&str], days: u64) -> CreateToken {
    let caches = pull.iter().map(|name| ((*name).to_owned(), vec!["pull".to_owned()])).collect();
    CreateToken {
        subject: sub.to_owned(),
        label: "a label".to_owned(),
        grants: TokenGrants { caches, admin: false },
        expires: Seconds::new(days * 86_400),
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_it_says() {
    let (place, actor) = (place().await, Actor::host());
    let early =
        create_token(&place.admin(), &actor, &token("ci", &["a"], 1), NOW).await.unwrap_err();
    assert!(matches!(early, AdminError::NoTokenKey));
    place.start(NOW).await;
    let made =
        create_token(&place.admin(), &actor, &token("ci", &["a", "b-*"], 90), NOW).await.unwrap();
    let verified = place.verify(&SecretString::new(made.token.0.clone()), NOW).await;
    assert_eq!((verified.sub.as_str(), verified.exp), ("ci", NOW + 90 * 86_400));
    assert_eq!(verified.permissions(&"b-1".parse().unwrap()), [Permission::Pull]);
    let other = create_token(&place.admin(), &actor, &token("ci", &["a"], 90), NOW).await.unwrap();
    assert_ne!(other.info.id, verified.jti, "each can be revoked alone");
    assert_eq!(show_token(&place.admin(), &made.info.id).await.unwrap(), made.info);
    let list = list_tokens(&place.admin(), None).await.unwrap();
    assert_eq!(list.tokens.len(), 3, "the root token is one of them");
    assert!(
        !format!("{list:?} {} {made:?}", list.text()).contains(&made.token.0),
        "a token is never shown again"
    );
}

#[tokio::test]
async fn a_token_of_no_use_is_refused() {
    let place = place().await;
    place.start(NOW).await;
    let unknown = TokenGrants {
        caches: BTreeMap::from([("a".to_owned(), vec!["fly".to_owned()])]),
        admin: false,
    };
    for spec in [
        token(" ", &["a"], 1),
        token("ci", &[], 1),
        token("ci", &["a"], 0),
        token("ci", &["a"], 3_651),
        token("ci", &["a/b"], 1),
        CreateToken { grants: unknown, ..token("ci", &[], 1) },
    ] {
        let refused = create_token(&place.admin(), &Actor::host(), &spec, NOW).await;
        assert!(
            matches!(refused, Err(AdminError::BadToken(_) | AdminError::BadSetting(_))),
            "{spec:?}"
        );
    }
}

/// Whether a server that starts now takes the token.
async fn holds(place: &Place, token: &str, now: i64) -> bool {
    let verifier = Verifier::open(place.db.clone(), place.sealer.clone()).await.unwrap();
    match verifier.verify(&SecretString::new(token), now).await {
        Ok(_) => true,
        Err(AuthError::Revoked) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn tokens_are_taken_back_by_id_subject_and_time() {
    let (place, actor) = (place().await, Actor::host());
    place.start(NOW).await;
    let admin = place.admin();
    let make = async |sub: &str, at| {
        let made = create_token(&admin, &actor, &token(sub, &["a"], 90), at).await.unwrap();
        (made.info.id, made.token.0)
    };
    let (id, one) = make("ci", NOW).await;
    let (_, two) = make("ci", NOW + 10).await;
    let (_, other) = make("me", NOW + 10).await;
    let revoke = async |request: RevokeTokens, at| {
        revoke_tokens(&admin, &actor, &request, at).await.unwrap().tokens
    };
    assert_eq!(
        revoke(RevokeTokens { ids: vec![id.clone()], ..RevokeTokens::default() }, NOW + 20).await,
        1
    );
    assert!(!holds(&place, &one, NOW + 20).await && holds(&place, &two, NOW + 20).await);
    assert_eq!(show_token(&admin, &id).await.unwrap().revoked, Some(NOW + 20));
    let subject = RevokeTokens { subject: Some("ci".to_owned()), ..RevokeTokens::default() };
    assert_eq!(revoke(subject, NOW + 30).await, 1, "the other one was revoked already");
    assert!(!holds(&place, &two, NOW + 30).await && holds(&place, &other, NOW + 30).await);
    let (_, new) = make("ci", NOW + 30).await;
    assert!(
        holds(&place, &new, NOW + 30).await,
        "one that is made in the same second is not among those"
    );
    assert_eq!(
        revoke(RevokeTokens { before: Some(NOW + 11), ..RevokeTokens::default() }, NOW + 40).await,
        2,
        "root's"
    );
    assert!(!holds(&place, &other, NOW + 40).await && holds(&place, &new, NOW + 40).await);
    let nothing = revoke_tokens(&admin, &actor, &RevokeTokens::default(), NOW).await;
    assert!(matches!(nothing, Err(AdminError::BadToken(_))));
}

#[tokio::test]
async fn a_rotated_token_stays_valid_for_a_while() {
    let (place, actor) = (place().await, Actor::host());
    place.start(NOW).await;
    let admin = place.admin();
    let old = create_token(&admin, &actor, &token("ci", &["a"], 90), NOW).await.unwrap();
    let request = RotateToken { grace: Seconds::new(60), expires: None };
    let new = rotate_token(&admin, &actor, &old.info.id, &request, NOW + 5).await.unwrap();
    assert_eq!((&new.info.grants, new.info.expires), (&old.info.grants, NOW + 5 + 90 * 86_400));
    assert!(
        holds(&place, &old.token.0, NOW + 64).await && !holds(&place, &old.token.0, NOW + 65).await
    );
    assert!(holds(&place, &new.token.0, NOW + 65).await);
    let again = rotate_token(&admin, &actor, &old.info.id, &request, NOW + 70).await;
    assert!(matches!(again, Err(AdminError::BadToken(_))));
    let unknown = rotate_token(&admin, &actor, "unknown", &request, NOW).await;
    assert!(matches!(unknown, Err(AdminError::NoToken(_))));
}

#[tokio::test]
async fn a_cache_shows_what_it_held_when_that_was_counted_last() {
    let place = place().await;
    place.start(NOW).await;
    let main = "main".parse().unwrap();
    assert_eq!(show_cache(&place.admin(), &main).await.unwrap().usage, None);
    let id = db::caches::lookup(place.db.reader().await.unwrap().exec(), &main)
        .await
        .unwrap()
        .unwrap()
        .id;
    let usage = CacheUsage { paths: 3, logical: 3_000, stored: 1_000, own: 400 };
    let usages = CacheUsages {
        counted: NOW,
        caches: BTreeMap::from([(id.0, usage)]),
        stored: 5_000,
        dead: 7,
    };
    let mut tx = place.db.upkeep_tx().await.unwrap();
    store_caches(tx.exec(), &usages).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(lookup_caches(place.db.reader().await.unwrap().exec()).await.unwrap(), Some(usages));
    let shown = show_cache(&place.admin(), &main).await.unwrap();
    let usage = shown.usage.unwrap();
    assert_eq!((usage.stored_bytes, usage.own_bytes, usage.shared_bytes), (1_000, 400, 600));
    assert!(shown.text().to_string().contains("stored size        1000 B"), "{shown:?}");
    let listed = list_caches(&place.admin(), None, |_| true).await.unwrap().caches;
    assert_eq!(listed[0].usage, Some(usage));
}
