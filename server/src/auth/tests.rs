//! The refusal table: every way in which a token is not to be believed, and that the one good token
//! is.

mod algorithms;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use snowbank_core::cache_name::CacheName;
use snowbank_core::store_path::StoreDir;
use snowbank_core::units::Limit;

use super::keys::Ring;
use super::revocations::Revocations;
use super::*;
use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::db::caches::{Cache, CacheId, DomainId};
use crate::db::revocations::RevokedToken;
use crate::db::{self, Db};
use crate::directory::OpenCache;
use crate::secrets::{Sealer, SecretString};

const NOW: i64 = 1_800_000_000;

fn claims() -> Claims {
    let caches = BTreeMap::from([
        ("team-*".parse().unwrap(), vec![Permission::Pull, Permission::Push]),
        ("books".parse().unwrap(), vec![Permission::Pull]),
    ]);
    Claims {
        sub: "ci".to_owned(),
        jti: "token-1".to_owned(),
        iat: NOW - 100,
        exp: NOW + 100,
        nbf: None,
        snowbank: Grants { caches, admin: false },
    }
}

/// A key whose secret the tests know.
fn known_key() -> (TokenKey, &'static [u8]) {
    let secret: &[u8] = b"an HMAC secret of 32 bytes.......";
    let sealer = Sealer::new(&[1; 32]);
    let row = db::keys::SealedTokenKey {
        kid: "k1".to_owned(),
        algorithm: "HS256".to_owned(),
        sealed_secret: sealer.seal("token key k1", secret).unwrap(),
        created: 0,
    };
    (TokenKey::open(&row, &sealer).unwrap(), secret)
}

fn ring() -> Ring {
    Ring::new(
        &[known_key().0],
        Revocations::new((vec![RevokedToken { jti: "revoked-1".to_owned(), from: 0 }], Vec::new())),
    )
}

fn signed(header: &Header, claims: &Value, secret: &[u8]) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn header(kid: Option<&str>, alg: Algorithm) -> Header {
    Header { kid: kid.map(str::to_owned), ..Header::new(alg) }
}

/// A token of these parts with an empty signature.
fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(header), part(claims))
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = serde_json::to_value(claims()).unwrap();
    claims[key] = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = serde_json::to_value(claims()).unwrap();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

#[test]
fn a_good_token_says_who_and_what() {
    let token = known_key().0.issue(&claims()).unwrap();
    let token = ring().verify(token.expose(), NOW).unwrap();
    assert_eq!((token.sub.as_str(), token.jti.as_str(), token.exp), ("ci", "token-1", NOW + 100));
    let allowed = |cache: &str| token.permissions(&cache.parse().unwrap());
    assert_eq!(allowed("team-a"), [Permission::Pull, Permission::Push]);
    assert_eq!(allowed("books"), [Permission::Pull]);
    assert_eq!(allowed("Books"), []);
    assert_eq!(allowed("other"), []);
}

/// What is wrong with it, the token, and the error that says so.
type Refused = (&'static str, String, fn(&AuthError) -> bool);

#[test]
fn every_other_token_is_refused() {
    let (_, secret) = known_key();
    let good = header(Some("k1"), Algorithm::HS256);
    let plain = serde_json::to_value(claims()).unwrap();
    let token = signed(&good, &plain, secret);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let table: Vec<Refused> = vec![
        ("nothing", String::new(), |e| matches!(e, AuthError::Malformed)),
        ("no token", "hello".into(), |e| matches!(e, AuthError::Malformed)),
        ("dots", "..".into(), |e| matches!(e, AuthError::Malformed)),
        ("too long", "a".repeat(20_000), |e| matches!(e, AuthError::Malformed)),
        ("cut short", token[..token.len() - 1].into(), |e| {
            matches!(e, AuthError::BadSignature | AuthError::Malformed)
        }),
        ("no signature", format!("{message}."), |e| matches!(e, AuthError::BadSignature)),
        ("another signature", signed(&good, &plain, b"another secret"), |e| {
            matches!(e, AuthError::BadSignature)
        }),
        (
            "other claims under this signature",
            {
                let other = signed(&good, &with("sub", json!("root")), secret);
                format!("{}.{signature}", other.rsplit_once('.').unwrap().0)
            },
            |e| matches!(e, AuthError::BadSignature),
        ),
        ("alg none", unsigned(&json!({"alg": "none", "kid": "k1"}), &plain), |e| {
            matches!(e, AuthError::Malformed)
        }),
        ("alg None", unsigned(&json!({"alg": "None", "kid": "k1"}), &plain), |e| {
            matches!(e, AuthError::Malformed)
        }),
        ("no alg", unsigned(&json!({"kid": "k1"}), &plain), |e| matches!(e, AuthError::Malformed)),
        ("another HMAC", signed(&header(Some("k1"), Algorithm::HS512), &plain, secret), |e| {
            matches!(e, AuthError::WrongAlgorithm)
        }),
        ("a public-key algorithm", unsigned(&json!({"alg": "RS256", "kid": "k1"}), &plain), |e| {
            matches!(e, AuthError::WrongAlgorithm)
        }),
        ("no kid", signed(&header(None, Algorithm::HS256), &plain, secret), |e| {
            matches!(e, AuthError::UnknownKey)
        }),
        ("a foreign kid", signed(&header(Some("k2"), Algorithm::HS256), &plain, secret), |e| {
            matches!(e, AuthError::UnknownKey)
        }),
        (
            "an extension that must be understood",
            {
                let crit = Header { crit: Some(vec!["b64".into()]), ..good.clone() };
                signed(&crit, &plain, secret)
            },
            |e| matches!(e, AuthError::Malformed),
        ),
        ("expired", signed(&good, &with("exp", json!(NOW)), secret), |e| {
            matches!(e, AuthError::Expired)
        }),
        ("no exp", signed(&good, &without("exp"), secret), |e| matches!(e, AuthError::Malformed)),
        ("exp in words", signed(&good, &with("exp", json!("never")), secret), |e| {
            matches!(e, AuthError::Malformed)
        }),
        ("no iat", signed(&good, &without("iat"), secret), |e| matches!(e, AuthError::Malformed)),
        ("no jti", signed(&good, &without("jti"), secret), |e| matches!(e, AuthError::Malformed)),
        ("no sub", signed(&good, &without("sub"), secret), |e| matches!(e, AuthError::Malformed)),
        ("nothing of ours", signed(&good, &without("snowbank"), secret), |e| {
            matches!(e, AuthError::Malformed)
        }),
        (
            "a bad pattern",
            signed(&good, &with("snowbank", json!({"caches": {"a/b": ["pull"]}})), secret),
            |e| matches!(e, AuthError::Malformed),
        ),
        ("issued in the future", signed(&good, &with("iat", json!(NOW + 61)), secret), |e| {
            matches!(e, AuthError::NotYetValid)
        }),
        ("not yet valid", signed(&good, &with("nbf", json!(NOW + 61)), secret), |e| {
            matches!(e, AuthError::NotYetValid)
        }),
        ("revoked", signed(&good, &with("jti", json!("revoked-1")), secret), |e| {
            matches!(e, AuthError::Revoked)
        }),
    ];
    let ring = ring();
    ring.verify(&token, NOW).unwrap();
    for (what, token, expected) in table {
        let error = ring.verify(&token, NOW).expect_err(what);
        assert!(expected(&error), "{what}: {error:?}");
        assert!(
            token.is_empty() || !error.to_string().contains(&token),
            "{what}: the token is in the message"
        );
    }
}

#[test]
fn clocks_may_differ_a_little_when_a_token_is_new_and_not_when_it_is_old() {
    let (key, _) = known_key();
    let issued_ahead = key.issue(&Claims { iat: NOW + 60, ..claims() }).unwrap();
    ring().verify(issued_ahead.expose(), NOW).unwrap();
    let last_second = key.issue(&Claims { exp: NOW + 1, ..claims() }).unwrap();
    ring().verify(last_second.expose(), NOW).unwrap();
    assert!(matches!(ring().verify(last_second.expose(), NOW + 1), Err(AuthError::Expired)));
}

#[test]
fn permissions_of_a_later_version_allow_nothing_here() {
    let (_, secret) = known_key();
    let later = with("snowbank", json!({"caches": {"*": ["pull", "fly"]}, "quota": 5}));
    let token =
        ring().verify(&signed(&header(Some("k1"), Algorithm::HS256), &later, secret), NOW).unwrap();
    assert_eq!(token.permissions(&"any".parse().unwrap()), [Permission::Pull]);
    assert!(!token.grants.admin);
}

fn open(name: &str, public: bool) -> Arc<OpenCache> {
    Arc::new(OpenCache { cache: cache(name, public), keys: Vec::new(), retired_keys: Vec::new() })
}

fn cache(name: &str, public: bool) -> Cache {
    Cache {
        id: CacheId(1),
        name: name.parse().unwrap(),
        domain: DomainId::SHARED,
        public,
        store_dir: StoreDir::default(),
        priority: 41,
        want_mass_query: true,
        upstream_keys: Vec::new(),
        compression_level: 3,
        created: 0,
        description: String::new(),
        retention: Limit::Default,
        max_size: Limit::Default,
        destroyed: None,
    }
}

#[test]
fn proofs_exist_only_for_what_is_allowed() {
    let (key, _) = known_key();
    let token = ring().verify(key.issue(&claims()).unwrap().expose(), NOW).unwrap();
    let token = Some(&token);
    let name = |name: &str| name.parse::<CacheName>().unwrap();
    let push = |cache: &str, target, token| authorize_push(&name(cache), target, token);
    let pull = |cache: &str, target, token| authorize_pull(&name(cache), target, token);
    // A cache that is not there is answered as one that is not the caller's.
    for absent in [false, true] {
        let target = |name: &str, public| (!absent).then(|| open(name, public));
        assert!(matches!(push("team-a", target("team-a", true), None), Err(AuthError::Missing)));
        let refused = push("books", target("books", true), token).unwrap_err();
        assert!(
            matches!(refused, AuthError::Forbidden { permission: Permission::Push, .. }),
            "{refused}"
        );
        assert!(matches!(pull("books", target("books", false), None), Err(AuthError::Missing)));
        assert!(matches!(
            pull("other", target("other", false), token),
            Err(AuthError::NotHere { .. })
        ));
    }
    assert_eq!(push("team-a", Some(open("team-a", false)), token).unwrap().subject, "ci");
    assert!(matches!(push("team-a", None, token), Err(AuthError::NotHere { .. })));
    pull("anything", Some(open("anything", true)), None).unwrap();
    pull("books", Some(open("books", false)), token).unwrap();
}

#[test]
fn a_token_is_found_in_bearer_and_basic_and_nowhere_else() {
    let extract = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        extract_token(&headers).map(|token| token.expose().to_owned())
    };
    let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
    for value in ["Bearer abc", "bearer  abc ", "BEARER abc"] {
        assert_eq!(extract(value).as_deref(), Some("abc"), "{value}");
    }
    assert_eq!(extract(&basic("user:abc")).as_deref(), Some("abc"));
    assert_eq!(extract(&basic(":abc")).as_deref(), Some("abc"));
    for value in
        ["Bearer", "Bearer ", "abc", "Digest abc", "Basic !!", &basic("abc"), &basic("user:")]
    {
        assert_eq!(extract(value), None, "{value}");
    }
    assert!(extract_token(&HeaderMap::new()).is_none());
}

#[tokio::test]
async fn a_running_verifier_follows_new_keys_and_revocations() {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("db")));
    let db = Db::open(&config).await.unwrap();
    let sealer = Sealer::new(&[1; 32]);
    let verifier = Verifier::open(db.clone(), sealer.clone()).await.unwrap();

    let key = TokenKey::generate().unwrap();
    let token: SecretString = key.issue(&claims()).unwrap();
    let began = std::time::Instant::now();
    for _ in 0..5 {
        assert!(matches!(verifier.verify(&token, NOW).await, Err(AuthError::UnknownKey)));
    }
    assert!(
        began.elapsed() >= std::time::Duration::from_millis(200),
        "an unknown key causes few reads"
    );
    assert!(matches!(verifier.verify_at_hand(&token, NOW).await, Err(AuthError::UnknownKey)));
    let mut tx = db.commit_tx().await.unwrap();
    db::keys::add_token_key(tx.exec(), &key.seal(&sealer, NOW).unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    verifier.verify(&token, NOW).await.expect("a key that was just made is looked for");

    let mut tx = db.commit_tx().await.unwrap();
    db::revocations::add_token(tx.exec(), "token-1", NOW).await.unwrap();
    tx.commit().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(3_200)).await;
    assert!(matches!(verifier.verify(&token, NOW).await, Err(AuthError::Revoked)), "within 5 s");

    // A key under another server key is an error at the start, since every token of it would fail.
    let opened = Verifier::open(db, Sealer::new(&[2; 32])).await;
    assert!(matches!(opened, Err(AuthError::Secret(_))));
}

#[tokio::test]
async fn a_key_is_believed_from_the_moment_on_in_which_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("db")));
    let db = Db::open(&config).await.unwrap();
    let sealer = Sealer::new(&[1; 32]);
    let verifier = Verifier::open(db.clone(), sealer.clone()).await.unwrap();
    // Each comes while the load for the one before, and loads for keys that nobody has, are under
    // way or just done.
    for _ in 0..10 {
        let strangers = (0..8).map(|_| {
            let token: SecretString = TokenKey::generate().unwrap().issue(&claims()).unwrap();
            let verifier = verifier.clone();
            tokio::spawn(async move { verifier.verify(&token, NOW).await })
        });
        let strangers: Vec<_> = strangers.collect();
        tokio::task::yield_now().await;
        let key = TokenKey::generate().unwrap();
        let mut tx = db.commit_tx().await.unwrap();
        db::keys::add_token_key(tx.exec(), &key.seal(&sealer, NOW).unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        verifier
            .verify(&key.issue(&claims()).unwrap(), NOW)
            .await
            .expect("the key was made before the question");
        for stranger in strangers {
            assert!(matches!(stranger.await.unwrap(), Err(AuthError::UnknownKey)));
        }
    }
}
