//! attic's clients as they are: conversations written from its protocol, with its tokens.

mod caches;
mod closures;
mod tokens;
mod uploads;

use std::{fs, io::Cursor, os::unix::fs::PermissionsExt as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, blocking::Body};
use serde_json::{Value, json};
use snowbank_core::hash::NarHash;
use snowbank_harness::{Api, Scratch, Server, craft::Deposit, protocol::Answer};

/// The secret of the attic that was there before.
const SECRET: &[u8] = b"a secret of an attic that was there before";
/// A token's rights on a cache, all of them.
const ALL: [&str; 7] = ["r", "w", "d", "cc", "cr", "cq", "cd"];

/// A server that believes tokens of attic.
fn server() -> (Server, Scratch) {
    let scratch = Scratch::new("attic");
    let file = scratch.join("secret");
    fs::write(&file, BASE64_STANDARD.encode(SECRET)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let key = format!(
        "[[auth.legacy-key]]\nname = \"attic\"\nalgorithm = \"HS256\"\nfile = \"{}\"\n",
        file.display()
    );
    (Server::options().config(&key).start(), scratch)
}

fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

/// The claims of a token that attic has made, for ten years.
fn claims(subject: &str, caches: &[(&str, &[&str])]) -> Value {
    let entry = |(pattern, rights): &(&str, &[&str])| {
        let rights: serde_json::Map<String, Value> =
            rights.iter().map(|right| ((*right).to_owned(), json!(1))).collect();
        ((*pattern).to_owned(), Value::Object(rights))
    };
    let caches: serde_json::Map<String, Value> = caches.iter().map(entry).collect();
    json!({
        "sub": subject, "nbf": 1_700_000_000, "exp": 4_102_324_986_u64,
        "https://jwt.attic.rs/v1": {"caches": caches},
    })
}

fn api(server: &Server, caches: &[(&str, &[&str])]) -> Api {
    Api::new(&server.url(), Some(&sign(&claims("meow", caches))))
}

/// What attic's client says of a path of `main`.
fn info(deposit: &Deposit) -> Value {
    let hash: String = deposit.base_name().chars().take(32).collect();
    json!({
        "cache": "main", "store_path_hash": hash, "store_path": deposit.store_path,
        "references": deposit.references, "system": "x86_64-linux", "deriver": null,
        "sigs": [], "ca": null,
        "nar_hash": hex(&deposit.nar_hash()), "nar_size": deposit.nar.len(),
    })
}

/// A hash as attic writes it.
fn hex(hash: &NarHash) -> String {
    format!("sha256:{}", hash.sha256().to_hex())
}

/// Sends a NAR as attic's client does: in chunks, its info in a header.
fn upload(api: &Api, info: &Value, nar: Vec<u8>) -> Answer {
    send(api, &[("X-Attic-Nar-Info", &info.to_string())], nar)
}

fn send(api: &Api, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let body = Body::new(Cursor::new(body));
    api.try_send(Method::PUT, "/_api/v1/upload-path", headers, body).unwrap()
}

fn upload_deposit(api: &Api, deposit: &Deposit) -> Value {
    let answer = upload(api, &info(deposit), deposit.nar.clone());
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    answer.json()
}

/// Asserts that this is a refusal in attic's form; gives its message.
#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str) -> String {
    let body: Value = answer.json();
    assert_eq!(answer.status.as_u16(), status, "{body}");
    assert_eq!((body["code"].as_u64(), body["error"].as_str()), (Some(status.into()), Some(error)));
    let message = body["message"].as_str().unwrap();
    assert!(!message.is_empty());
    message.to_owned()
}

/// Those of these paths that the server names as missing in `main`.
fn missing(api: &Api, deposits: &[&Deposit]) -> Vec<String> {
    let hashes: Vec<Value> =
        deposits.iter().map(|one| info(one)["store_path_hash"].clone()).collect();
    let question = json!({"cache": "main", "store_path_hashes": hashes});
    let answer = api.json(Method::POST, "/_api/v1/get-missing-paths", &question);
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let body: Value = answer.json();
    body["missing_paths"].as_array().unwrap().iter().map(text).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
