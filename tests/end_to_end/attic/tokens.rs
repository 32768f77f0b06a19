//! attic's tokens at this server's own endpoints: what they open, and how they end.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use snowbank_harness::{Api, Scratch, Server, issuer::SigningKey, process};

use super::{ALL, claims, server, sign};

fn whoami(server: &Server, token: &str) -> (u16, Value) {
    let answer = Api::new(&server.url(), Some(token)).get("/api/v1/whoami");
    (answer.status.as_u16(), answer.json())
}

#[test]
fn a_token_of_attic_is_known_and_never_administrates() {
    let (server, _scratch) = server();
    let mut wide = claims("meow", &[("*", &ALL), ("team-a", &["r", "cr"])]);
    wide["snowbank"] = json!({"caches": {"*": ["pull"]}, "admin": true});
    let token = sign(&wide);
    let (status, found) = whoami(&server, &token);
    assert_eq!(status, 200, "{found}");
    assert_eq!((&found["subject"], &found["admin"]), (&json!("meow"), &json!(false)));
    let all = json!({
        "*": ["pull", "push", "delete", "configure", "create"], "team-a": ["pull"],
    });
    assert_eq!(found["caches"], all);
    let api = Api::new(&server.url(), Some(&token));
    for path in ["/api/v1/tokens", "/api/v1/audit"] {
        let _ = api.get(path).refused(403, "forbidden");
    }
    // `cr` alone does not configure here, where that would destroy too.
    let _ = api
        .json(reqwest::Method::DELETE, "/api/v1/caches/team-a", &json!({}))
        .refused(403, "forbidden");
    // Nix sends it as a password.
    server.command(&["cache", "create", "secret", "--private"]).succeeds();
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("any:{token}"));
    let headers = [("Authorization", &*format!("Basic {basic}"))];
    let read = Api::anonymous(&server).get_with("/secret/nix-cache-info", &headers);
    assert_eq!((read.status.as_u16(), read.header("x-attic-cache-visibility").as_str()), (200, ""));
}

#[test]
fn a_token_without_an_end_is_taken_and_a_bad_one_is_not() {
    let (server, _scratch) = server();
    let mut endless = claims("meow", &[("*", &["r"])]);
    endless.as_object_mut().unwrap().remove("exp");
    let (status, found) = whoami(&server, &sign(&endless));
    assert_eq!((status, &found["expires"]), (200, &json!(null)), "{found}");
    let mut over = claims("meow", &[("*", &["r"])]);
    over["exp"] = json!(1_700_000_001);
    let key = EncodingKey::from_secret(b"the secret of another attic altogether");
    let good = claims("meow", &[("*", &["r"])]);
    let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good, &key).unwrap();
    let mut other = good.clone();
    other.as_object_mut().unwrap().remove("https://jwt.attic.rs/v1");
    for token in [sign(&over), forged, sign(&other)] {
        assert_eq!(whoami(&server, &token).0, 401);
    }
}

#[test]
fn a_token_is_taken_back_by_itself_or_by_its_subject() {
    let (server, _scratch) = server();
    let first = sign(&claims("one", &[("*", &["r"])]));
    let second = sign(&claims("two", &[("*", &["r"])]));
    let third = sign(&claims("three", &[("*", &["r"])]));
    server.command(&["token", "revoke", &first]).succeeds();
    server.command(&["token", "revoke", "--force", "--subject", "two"]).succeeds();
    for token in [&first, &second] {
        process::wait_until("it is refused", Duration::from_secs(10), || {
            whoami(&server, token).0 == 401
        });
    }
    assert_eq!(whoami(&server, &third).0, 200);
}

#[test]
fn an_rsa_key_of_attic_verifies_its_tokens() {
    let scratch = Scratch::new("attic-rsa");
    let key = SigningKey::new("unused", Algorithm::RS256);
    let file = scratch.join("key");
    let pem = key.private_pem();
    fs::write(&file, base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &pem)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let section = format!(
        "[[auth.legacy-key]]\nname = \"attic\"\nalgorithm = \"RS256\"\nfile = \"{}\"\naudiences = \
         [\"caches\"]\n",
        file.display()
    );
    let server = Server::options().config(&section).start();
    let signing = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
    let sign = |claims: &Value| {
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, &signing).unwrap()
    };
    let mut good = claims("meow", &[("*", &["r"])]);
    assert_eq!(whoami(&server, &sign(&good)).0, 401);
    good["aud"] = json!(["caches", "others"]);
    assert_eq!(whoami(&server, &sign(&good)).0, 200);
    // The key's text is no secret of HS256.
    let key = EncodingKey::from_secret(pem.as_bytes());
    let confused = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good, &key).unwrap();
    assert_eq!(whoami(&server, &confused).0, 401);
}
