//! The refusal table of attic's tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tempfile::TempDir;

use super::super::keys::Ring;
use super::super::permission::Permission;
use super::super::revocations::Revocations;
use super::super::{TokenKey, signed_id};
use super::*;
use crate::db::revocations::{RevokedSubject, RevokedToken};
use snowbank_core::attic::Right;

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8] = b"attic's secret, which is long enough";

fn claims() -> Value {
    json!({
        "sub": "meow", "exp": NOW + 100, "nbf": NOW - 100,
        CLAIM: {"caches": {"team-*": {"r": 1, "w": 1}, "all": {
            "r": 1, "w": 1, "d": 1, "cc": 1, "cr": 1, "cq": 1, "cd": 1}}},
        // Nobody but this server's own keys gives these.
        "snowbank": {"caches": {"*": ["push"]}, "admin": true},
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn write(folder: &TempDir, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn entry(file: std::path::PathBuf, algorithm: TokenAlgorithm) -> LegacyKeyFile {
    let name = format!("attic-{algorithm}");
    LegacyKeyFile { name, algorithm, file, issuer: None, audiences: Vec::new() }
}

fn hs256(change: impl FnOnce(&mut LegacyKeyFile)) -> LegacyKeys {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "secret", &format!("{}\n", BASE64_STANDARD.encode(SECRET)));
    let mut entry = entry(file, TokenAlgorithm::Hs256);
    change(&mut entry);
    LegacyKeys::from_config(&[entry]).unwrap()
}

fn ring(legacy: LegacyKeys) -> Ring {
    Ring::new(&[], Revocations::default()).with_legacy(legacy)
}

fn signed(claims: &Value, secret: &[u8]) -> String {
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

fn pem(kind: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

#[test]
fn a_token_of_attic_allows_what_it_says_and_never_administrates() {
    let token = signed(&claims(), SECRET);
    let found = ring(hs256(|_| {})).verify(&token, NOW).unwrap();
    assert_eq!((found.sub.as_str(), found.iat, found.exp), ("meow", NOW - 100, NOW + 100));
    assert!(!found.grants.admin);
    let permissions = |name: &str| found.permissions(&name.parse().unwrap());
    assert_eq!(permissions("team-a"), [Permission::Pull, Permission::Push]);
    assert_eq!(permissions("all"), Permission::ALL);
    assert_eq!(permissions("other"), []);
    assert!(found.has_right(&"all".parse().unwrap(), Right::Destroy));
    assert!(!found.has_right(&"team-a".parse().unwrap(), Right::Destroy));
}

#[test]
fn configure_takes_every_right_that_it_covers() {
    for rights in [&["cr"][..], &["cq"], &["cd"], &["cr", "cq"], &["cr", "cd"], &["cq", "cd"]] {
        let map: Map<String, Value> =
            rights.iter().map(|right| ((*right).to_owned(), json!(1))).collect();
        let token = signed(&with(CLAIM, json!({"caches": {"a": map}})), SECRET);
        let found = ring(hs256(|_| {})).verify(&token, NOW).unwrap();
        assert_eq!(found.permissions(&"a".parse().unwrap()), [], "{rights:?}");
    }
}

#[test]
fn a_token_that_is_not_as_attic_makes_it_is_refused() {
    let ring = ring(hs256(|_| {}));
    for (claims, wanted) in [
        (with("exp", json!(NOW)), "expired"),
        (with("exp", json!("soon")), "malformed"),
        (with("exp", json!(1.5)), "malformed"),
        (with("nbf", json!(NOW + 61)), "not-yet-valid"),
        (with("iat", json!(NOW + 61)), "not-yet-valid"),
        (with("sub", json!(7)), "malformed"),
        (with("sub", json!("")), "malformed"),
        (with("sub", json!("a\nb")), "malformed"),
        (without(CLAIM), "malformed"),
        (with(CLAIM, json!({"caches": {"a": {"r": 7}}})), "malformed"),
        (with(CLAIM, json!({"caches": {"a b": {"r": 1}}})), "malformed"),
    ] {
        let error = ring.verify(&signed(&claims, SECRET), NOW).unwrap_err();
        assert_eq!(error.reason(), Some(wanted), "{claims}");
    }
    let error = ring.verify(&signed(&claims(), b"another secret of the same kind"), NOW);
    assert!(matches!(error, Err(AuthError::BadSignature)));
}

#[test]
fn a_token_without_end_beginning_or_subject_is_taken_as_attic_takes_it() {
    let ring = ring(hs256(|_| {}));
    let token = ring.verify(&signed(&without("exp"), SECRET), NOW).unwrap();
    assert_eq!((token.exp, token.expires()), (NEVER, None));
    let token = ring.verify(&signed(&without("nbf"), SECRET), NOW).unwrap();
    assert_eq!(token.iat, 0);
    assert_eq!(ring.verify(&signed(&without("sub"), SECRET), NOW).unwrap().sub, "attic");
}

#[test]
fn a_token_is_revoked_by_its_hash_and_by_its_subject() {
    let legacy = hs256(|_| {});
    let token = signed(&claims(), SECRET);
    let id = ring(legacy.clone()).verify(&token, NOW).unwrap().jti;
    assert_eq!(id, derived_token_id(&token));
    assert_eq!(signed_id([], &legacy, &token).unwrap(), id);
    let by_id = Revocations::new((vec![RevokedToken { jti: id, from: NOW }], Vec::new()));
    let rule = RevokedSubject { subject: "meow".to_owned(), issued_until: NOW };
    let by_subject = Revocations::new((Vec::new(), vec![rule]));
    for revoked in [by_id, by_subject] {
        let ring = Ring::new(&[], revoked).with_legacy(legacy.clone());
        assert!(matches!(ring.verify(&token, NOW), Err(AuthError::Revoked)));
    }
}

#[test]
fn issuer_and_audience_are_asked_for_where_the_settings_name_them() {
    let ring = ring(hs256(|entry| {
        entry.issuer = Some("https://attic.example.org".to_owned());
        entry.audiences = vec!["one".to_owned(), "two".to_owned()];
    }));
    let verify = |iss: Value, aud: Value| {
        let mut claims = with("iss", iss);
        claims["aud"] = aud;
        ring.verify(&signed(&claims, SECRET), NOW)
    };
    let iss = || json!("https://attic.example.org");
    verify(iss(), json!("two")).unwrap();
    verify(iss(), json!(["three", "one"])).unwrap();
    for aud in [json!("three"), json!([]), json!(null), json!({"one": 1})] {
        assert!(matches!(verify(iss(), aud), Err(AuthError::WrongAudience { .. })));
    }
    for other in [json!("https://attic.example.org/"), json!(null), json!([iss()])] {
        assert!(matches!(verify(other, json!("one")), Err(AuthError::IssuerClaim { .. })));
    }
}

#[test]
fn keys_of_the_ring_and_legacy_keys_are_two_worlds() {
    // The same secret in both: still, the header decides for which of them a token is.
    let native = TokenKey::generate_for(TokenAlgorithm::Hs256, Some("k".to_owned())).unwrap();
    let ring = Ring::new([&native], Revocations::default()).with_legacy(hs256(|_| {}));
    let own = json!({
        "sub": "ci", "jti": "1", "iat": NOW, "exp": NOW + 9,
        "snowbank": {"caches": {"*": ["push"]}, "admin": true},
    });
    // This server's claims under attic's key.
    assert!(matches!(ring.verify(&signed(&own, SECRET), NOW), Err(AuthError::Malformed)));
    // attic's claims under a key of the ring, and attic's key under the id of one.
    let foreign = native.sign(&claims()).unwrap();
    assert!(matches!(ring.verify(foreign.expose(), NOW), Err(AuthError::Malformed)));
    for kid in ["k", "attic-HS256", "legacy:attic-HS256"] {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(SECRET);
        let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
        let error = ring.verify(&token, NOW).unwrap_err();
        assert!(matches!(error, AuthError::BadSignature | AuthError::UnknownKey), "{error}");
    }
    // A token of the ring without its id.
    let token = native.sign(&own).unwrap();
    let rest = token.expose().split_once('.').unwrap().1.to_owned();
    let header = BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": "HS256"}).to_string());
    let error = ring.verify(&format!("{header}.{rest}"), NOW).unwrap_err();
    assert!(matches!(error, AuthError::BadSignature), "{error}");
}

#[test]
fn an_rsa_key_in_each_of_its_forms_verifies_rs256_alone() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let private = pem("PRIVATE KEY", pkcs8.as_ref());
    // RSAPrivateKey stands at the end of its PKCS #8 wrapping, after 26 bytes for this size.
    let pkcs1 = pem("RSA PRIVATE KEY", &pkcs8.as_ref()[26..]);
    let public = pem("PUBLIC KEY", spki.as_ref());
    let pkcs1_public = pem("RSA PUBLIC KEY", pair.public_key().as_ref());
    let signing = EncodingKey::from_rsa_pem(private.as_bytes()).unwrap();
    let token =
        |algorithm| jsonwebtoken::encode(&Header::new(algorithm), &claims(), &signing).unwrap();
    for text in [&private, &pkcs1, &public, &pkcs1_public] {
        for text in [text.clone(), BASE64_STANDARD.encode(text)] {
            let file = write(&folder, "key", &text);
            let key = LegacyKeys::from_config(&[entry(file.clone(), TokenAlgorithm::Rs256)]);
            let ring = ring(key.unwrap());
            assert_eq!(ring.verify(&token(Algorithm::RS256), NOW).unwrap().sub, "meow");
            for other in [Algorithm::RS384, Algorithm::PS256] {
                let error = ring.verify(&token(other), NOW).unwrap_err();
                assert!(matches!(error, AuthError::WrongAlgorithm), "{error}");
            }
            // What everybody may know of the key is no secret to sign with.
            for secret in [text.as_bytes(), public.as_bytes(), spki.as_ref(), &[]] {
                let error = ring.verify(&signed(&claims(), secret), NOW).unwrap_err();
                assert!(matches!(error, AuthError::WrongAlgorithm), "{error}");
            }
            // Nor does it become one when it is called so.
            let wrong = LegacyKeys::from_config(&[entry(file, TokenAlgorithm::Hs256)]);
            assert!(matches!(
                wrong.unwrap_err(),
                AuthError::KeyFile(KeyFileError::OtherAlgorithm { .. })
            ));
        }
    }
    // A secret verifies nothing of RSA.
    let error = ring(hs256(|_| {})).verify(&token(Algorithm::RS256), NOW).unwrap_err();
    assert!(matches!(error, AuthError::WrongAlgorithm), "{error}");
}

#[test]
fn a_file_that_holds_no_key_of_attic_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (text, part) in [
        ("", "is empty"),
        ("no base64 at all, and yet long enough", "base64"),
        (&BASE64_STANDARD.encode([7; 31]), "base64"),
    ] {
        let file = write(&folder, "key", text);
        let error = LegacyKeys::from_config(&[entry(file, TokenAlgorithm::Hs256)]).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}
