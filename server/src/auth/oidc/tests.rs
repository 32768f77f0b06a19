//! Tokens of an issuer that the test itself is: which are believed, which are not, and what an
//! issuer that does not answer costs.

mod issuer;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::Algorithm;
use serde_json::json;

use self::issuer::{Answer, Signer, TestIssuer};
use super::super::{Claims, TokenKey, Trust, Verifier};
use super::*;
use crate::config::{AuthConfig, DatabaseConfig, DatabaseUrl, OidcGrant};
use crate::db::{self, Db};
use crate::secrets::{Sealer, SecretString};

const NOW: i64 = 1_800_000_000;
const AUDIENCE: &str = "https://cache.example.org";

fn entry(issuer: &str, claims: &[(&str, &str)], caches: &str, permissions: &[&str]) -> OidcConfig {
    OidcConfig {
        issuer: issuer.to_owned(),
        audience: AUDIENCE.to_owned(),
        name: "forge".to_owned(),
        claims: claims
            .iter()
            .map(|(name, pattern)| ((*name).to_owned(), vec![(*pattern).to_owned()]))
            .collect(),
        permissions: vec![OidcGrant {
            caches: caches.parse().unwrap(),
            permissions: permissions.iter().map(|word| (*word).to_owned()).collect(),
            place: "snowbankd.toml:7".to_owned(),
        }],
    }
}

fn trust(entries: &[OidcConfig]) -> Trust {
    Trust::from_config(&AuthConfig { oidc: entries.to_vec(), ..AuthConfig::default() }).unwrap()
}

/// What a job of `team/app` on its main branch has.
fn job(issuer: &str) -> Value {
    json!({
        "iss": issuer, "aud": AUDIENCE, "sub": "repo:team/app:ref:refs/heads/main", "jti": "job-1",
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300,
        "repository": "team/app", "ref": "refs/heads/main", "run_id": 42,
    })
}

fn with(issuer: &TestIssuer, key: &str, value: Value) -> Value {
    let mut claims = job(&issuer.url);
    claims[key] = value;
    claims
}

fn without(issuer: &TestIssuer, key: &str) -> Value {
    let mut claims = job(&issuer.url);
    claims.as_object_mut().unwrap().remove(key);
    claims
}

/// A verifier on an empty database, which it shares.
async fn verifier(entries: &[OidcConfig]) -> (tempfile::TempDir, Db, Verifier) {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("db")));
    let db = Db::open(&config).await.unwrap();
    let verifier =
        Verifier::open_with(db.clone(), Sealer::new(&[1; 32]), trust(entries)).await.unwrap();
    (folder, db, verifier)
}

async fn verify(verifier: &Verifier, token: &str) -> Result<Token, AuthError> {
    verifier.verify(&SecretString::new(token), NOW).await
}

#[tokio::test]
async fn every_asymmetric_algorithm_is_believed_and_rules_add_up() {
    let signers = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(Signer::new);
    let issuer = TestIssuer::start(&signers).await;
    let entries = [
        entry(&issuer.url, &[("repository", "team/*")], "app-*", &["pull"]),
        entry(
            &issuer.url,
            &[("repository", "team/app"), ("ref", "refs/heads/main")],
            "app-*",
            &["push", "pull"],
        ),
        entry(&issuer.url, &[("run_id", "42")], "main", &["pull"]),
        entry(&issuer.url, &[("repository", "other/*")], "*", &["push"]),
    ];
    let (_folder, _db, verifier) = verifier(&entries).await;
    for signer in &signers {
        let token = verify(&verifier, &signer.sign(&job(&issuer.url))).await.unwrap();
        assert_eq!(
            (token.sub.as_str(), token.jti.as_str()),
            ("forge:repo:team/app:ref:refs/heads/main", "job-1")
        );
        assert_eq!(token.exp, NOW + 300);
        assert_eq!(
            token.permissions(&"app-x".parse().unwrap()),
            [Permission::Pull, Permission::Push]
        );
        assert_eq!(token.permissions(&"main".parse().unwrap()), [Permission::Pull]);
        assert_eq!(token.permissions(&"other".parse().unwrap()), []);
        assert!(!token.grants.admin);
        let several = with(&issuer, "aud", json!(["https://other.example", AUDIENCE]));
        verify(&verifier, &signer.sign(&several)).await.unwrap();
    }
    assert_eq!(issuer.asked(), 2, "one discovery and one key set for all of them");
}

/// The error that a token is to meet.
type Expected = fn(&AuthError) -> bool;

#[tokio::test]
async fn every_other_token_is_refused() {
    let signers = [Algorithm::RS256, Algorithm::EdDSA].map(Signer::new);
    let [rsa, ed25519] = &signers;
    let stranger = Signer::new(Algorithm::EdDSA).named(&ed25519.kid);
    let issuer = TestIssuer::start(&signers).await;
    let rules = [("repository", "team/*"), ("ref", "refs/heads/main")];
    let (_folder, _db, verifier) = verifier(&[entry(&issuer.url, &rules, "*", &["pull"])]).await;
    let good = job(&issuer.url);
    verify(&verifier, &ed25519.sign(&good)).await.unwrap();
    let unsigned = |header: Value| {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&header), part(&good))
    };
    let changed = |change: &dyn Fn(&mut jsonwebtoken::Header)| ed25519.sign_with(&good, change);
    let hmac = |secret: &[u8]| {
        let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
        header.kid = Some(rsa.kid.clone());
        jsonwebtoken::encode(&header, &good, &jsonwebtoken::EncodingKey::from_secret(secret))
            .unwrap()
    };
    let (message, signature) = {
        let token = ed25519.sign(&good);
        let (message, signature) = token.rsplit_once('.').unwrap();
        (message.to_owned(), signature.to_owned())
    };
    let table: Vec<(&str, String, Expected)> = vec![
        ("another issuer", ed25519.sign(&with(&issuer, "iss", json!("https://x.example"))), |e| {
            matches!(e, AuthError::UnknownKey)
        }),
        (
            "nearly this issuer",
            ed25519.sign(&with(&issuer, "iss", json!(format!("{}/", issuer.url)))),
            |e| matches!(e, AuthError::UnknownKey),
        ),
        (
            "another audience",
            ed25519.sign(&with(&issuer, "aud", json!("https://cache.example.org/"))),
            |e| matches!(e, AuthError::WrongAudience { .. }),
        ),
        ("no audience", ed25519.sign(&without(&issuer, "aud")), |e| {
            matches!(e, AuthError::WrongAudience { .. })
        }),
        (
            "another repository",
            ed25519.sign(&with(&issuer, "repository", json!("evil/team/app"))),
            |e| matches!(e, AuthError::ClaimMismatch { claims, .. } if claims == &["repository"]),
        ),
        (
            "no branch",
            ed25519.sign(&without(&issuer, "ref")),
            |e| matches!(e, AuthError::ClaimMismatch { claims, .. } if claims == &["ref"]),
        ),
        ("expired", ed25519.sign(&with(&issuer, "exp", json!(NOW))), |e| {
            matches!(e, AuthError::Expired)
        }),
        ("no end", ed25519.sign(&without(&issuer, "exp")), |e| {
            matches!(e, AuthError::IssuerClaim { claim: "exp", .. })
        }),
        ("an end in words", ed25519.sign(&with(&issuer, "exp", json!("2099"))), |e| {
            matches!(e, AuthError::IssuerClaim { claim: "exp", .. } | AuthError::Malformed)
        }),
        ("no beginning", ed25519.sign(&without(&issuer, "iat")), |e| {
            matches!(e, AuthError::IssuerClaim { claim: "iat", .. })
        }),
        ("no subject", ed25519.sign(&without(&issuer, "sub")), |e| {
            matches!(e, AuthError::IssuerClaim { claim: "sub", .. })
        }),
        ("issued in the future", ed25519.sign(&with(&issuer, "iat", json!(NOW + 61))), |e| {
            matches!(e, AuthError::NotYetValid)
        }),
        ("not yet valid", ed25519.sign(&with(&issuer, "nbf", json!(NOW + 61))), |e| {
            matches!(e, AuthError::NotYetValid)
        }),
        ("too long a life", ed25519.sign(&with(&issuer, "exp", json!(NOW + 86_400))), |e| {
            matches!(e, AuthError::TooLongLived { .. })
        }),
        ("a key of somebody else's", stranger.sign(&good), |e| {
            matches!(e, AuthError::BadSignature)
        }),
        ("another signature", format!("{message}.{}", "A".repeat(signature.len())), |e| {
            matches!(e, AuthError::BadSignature | AuthError::Malformed)
        }),
        ("no signature", format!("{message}."), |e| matches!(e, AuthError::BadSignature)),
        ("no kid", changed(&|header| header.kid = None), |e| {
            matches!(e, AuthError::UnknownIssuerKey { .. })
        }),
        ("an unknown kid", changed(&|header| header.kid = Some("new".into())), |e| {
            matches!(e, AuthError::UnknownIssuerKey { .. })
        }),
        ("another key's kid", changed(&|header| header.kid = Some(rsa.kid.clone())), |e| {
            matches!(e, AuthError::WrongAlgorithm)
        }),
        ("crit", changed(&|header| header.crit = Some(vec!["exp".into()])), |e| {
            matches!(e, AuthError::Malformed)
        }),
        ("alg none", unsigned(json!({"alg": "none", "kid": ed25519.kid})), |e| {
            matches!(e, AuthError::Malformed)
        }),
        ("HMAC with the public key", hmac(rsa.jwk()["n"].as_str().unwrap().as_bytes()), |e| {
            matches!(e, AuthError::WrongAlgorithm)
        }),
        (
            "an algorithm that is not the key's",
            unsigned(json!({"alg": "PS256", "kid": rsa.kid})),
            |e| matches!(e, AuthError::WrongAlgorithm),
        ),
    ];
    for (what, token, expected) in table {
        let error = verify(&verifier, &token).await.expect_err(what);
        assert!(expected(&error), "{what}: {error:?}");
        let message = error.to_string();
        assert!(!message.contains(&token) && !message.contains("evil"), "{what}: {message}");
    }
    let ahead = with(&issuer, "iat", json!(NOW + 60));
    verify(&verifier, &ed25519.sign(&ahead)).await.expect("clocks may differ a little");
    let day = with(&issuer, "exp", json!(NOW - 10 + 86_400));
    verify(&verifier, &ed25519.sign(&day)).await.expect("a day is not too long");
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_refused_with_and_without_an_id() {
    let signers = [Signer::new(Algorithm::ES256)];
    let issuer = TestIssuer::start(&signers).await;
    let (_folder, db, verifier) =
        verifier(&[entry(&issuer.url, &[("ref", "refs/*")], "*", &["pull"])]).await;
    let nameless = without(&issuer, "jti");
    let tokens = [signers[0].sign(&job(&issuer.url)), signers[0].sign(&nameless)];
    let mut tx = db.commit_tx().await.unwrap();
    for token in &tokens {
        let jti = verify(&verifier, token).await.unwrap().jti;
        db::revocations::add_token(tx.exec(), &jti, NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    for token in &tokens {
        assert!(matches!(verify(&verifier, token).await, Err(AuthError::Revoked)));
    }
    // ECDSA signs anew each time: another signature under the same claims is no other token.
    let again = signers[0].sign(&nameless);
    assert_ne!(again, tokens[1]);
    assert!(matches!(verify(&verifier, &again).await, Err(AuthError::Revoked)));
    let other = with(&issuer, "jti", json!("job-2"));
    verify(&verifier, &signers[0].sign(&other)).await.expect("others stay valid");
}

#[tokio::test]
async fn an_issuer_that_cannot_be_believed_gives_no_keys() {
    let signers = [Signer::new(Algorithm::EdDSA)];
    let huge = format!("{{\"keys\": [], \"more\": \"{}\"}}", "x".repeat(300 << 10));
    for (what, path, answer) in [
        (
            "another issuer's document",
            issuer::DISCOVERY,
            Answer::ok(r#"{"issuer": "https://x", "jwks_uri": "https://x"}"#),
        ),
        ("no document", issuer::DISCOVERY, Answer::ok("hello")),
        ("no such address", issuer::DISCOVERY, Answer::status(404)),
        ("a redirect", issuer::DISCOVERY, Answer::redirect("/elsewhere")),
        ("a fault", issuer::KEYS, Answer::status(500)),
        ("a redirect of the keys", issuer::KEYS, Answer::redirect("/elsewhere")),
        ("a huge key set", issuer::KEYS, Answer::ok(&huge)),
        ("no keys", issuer::KEYS, Answer::ok(r#"{"keys": []}"#)),
        (
            "a secret for a key",
            issuer::KEYS,
            Answer::ok(r#"{"keys": [{"kid": "k", "kty": "oct", "k": "c2VjcmV0"}]}"#),
        ),
    ] {
        let issuer = TestIssuer::start(&signers).await;
        issuer.set(path, answer);
        let (_folder, _db, verifier) =
            verifier(&[entry(&issuer.url, &[("ref", "refs/*")], "*", &["pull"])]).await;
        let error = verify(&verifier, &signers[0].sign(&job(&issuer.url))).await.expect_err(what);
        assert!(
            matches!(error, AuthError::IssuerUnavailable { retry_after_seconds: 1..=11, .. }),
            "{what}: {error:?}"
        );
    }
    // Keys may not come from an address in the clear that is not this machine's.
    let issuer = TestIssuer::start(&signers).await;
    let document =
        json!({"issuer": issuer.url, "jwks_uri": "http://keys.example/jwks"}).to_string();
    issuer.set(issuer::DISCOVERY, Answer::ok(&document));
    let (_folder, _db, verifier) =
        verifier(&[entry(&issuer.url, &[("ref", "refs/*")], "*", &["pull"])]).await;
    let error = verify(&verifier, &signers[0].sign(&job(&issuer.url))).await.unwrap_err();
    assert!(matches!(error, AuthError::IssuerUnavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn who_waits_for_a_silent_issuer_waits_together_and_nobody_else_does() {
    let signers = [Signer::new(Algorithm::EdDSA)];
    let issuer = TestIssuer::start(&signers).await;
    issuer.set(issuer::DISCOVERY, Answer::Silence);
    let (_folder, db, verifier) =
        verifier(&[entry(&issuer.url, &[("ref", "refs/*")], "*", &["pull"])]).await;
    let key = TokenKey::generate().unwrap();
    let mut tx = db.commit_tx().await.unwrap();
    db::keys::add_token_key(tx.exec(), &key.seal(&Sealer::new(&[1; 32]), NOW).unwrap())
        .await
        .unwrap();
    tx.commit().await.unwrap();

    let token = signers[0].sign(&job(&issuer.url));
    let started = Instant::now();
    let waiting = async {
        let (one, two) = tokio::join!(verify(&verifier, &token), verify(&verifier, &token));
        for result in [one, two] {
            assert!(matches!(result, Err(AuthError::IssuerUnavailable { .. })), "{result:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    };
    let own = async {
        let grants = Grants { caches: BTreeMap::new(), admin: true };
        let claims = Claims {
            sub: "root".to_owned(),
            jti: "own".to_owned(),
            iat: NOW,
            exp: NOW + 9,
            nbf: None,
            snowbank: grants,
        };
        let own = key.issue(&claims).unwrap();
        for _ in 0..20 {
            let asked = Instant::now();
            verifier.verify(&own, NOW).await.unwrap();
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(waiting, own);
    assert_eq!(issuer.asked(), 1, "they share one request");
    // It has just not answered: the next is told at once.
    let asked = Instant::now();
    assert!(matches!(verify(&verifier, &token).await, Err(AuthError::IssuerUnavailable { .. })));
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert_eq!(issuer.asked(), 1);
}

#[test]
fn a_word_that_is_no_permission_is_named_with_its_place() {
    let entries = [entry("https://x.example", &[("ref", "main")], "*", &["pull", "pusch"])];
    let error = Trust::from_config(&AuthConfig { oidc: entries.to_vec(), ..AuthConfig::default() })
        .unwrap_err();
    let message = error.to_string();
    for part in ["snowbankd.toml:7", "`auth.oidc.permissions`", "`pusch`", "`push`"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn only_what_names_a_configured_issuer_is_taken_for_its_token() {
    let issuers = trust(&[entry("https://x.example", &[("ref", "main")], "*", &["pull"])]).issuers;
    let token = |payload: &str| format!("e30.{}.AAAA", BASE64_URL_SAFE_NO_PAD.encode(payload));
    assert!(issuers.named_by(&token(r#"{"iss": "https://x.example"}"#)).is_some());
    for other in [
        token(r#"{"iss": "https://x.example/"}"#),
        token(r#"{"iss": ["https://x.example"]}"#),
        token("{}"),
        token("nonsense"),
        BASE64_STANDARD.encode("https://x.example"),
        String::new(),
        "..".to_owned(),
    ] {
        assert!(issuers.named_by(&other).is_none(), "{other}");
    }
}
