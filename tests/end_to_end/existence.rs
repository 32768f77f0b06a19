//! Whether a private cache exists is nobody's business who may not see it: the server does the same
//! for one that does and for one that does not, down to the statements that it makes.

use reqwest::{Method, blocking::Body};
use snowbank_harness::{Api, Server};

const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

/// Every address that names a cache.
fn addresses(cache: &str) -> Vec<(Method, String)> {
    let (get, post) = (Method::GET, Method::POST);
    let nar = "0".repeat(52);
    let below =
        |method: &Method, rest: &str| (method.clone(), format!("/api/v1/caches/{cache}{rest}"));
    vec![
        (get.clone(), format!("/{cache}/nix-cache-info")),
        (get.clone(), format!("/{cache}/{HASH}.narinfo")),
        (Method::HEAD, format!("/{cache}/{HASH}.narinfo")),
        (get.clone(), format!("/{cache}/nar/{nar}.nar.zst")),
        (get.clone(), format!("/{cache}/nar/{nar}.nar")),
        (get.clone(), format!("/{cache}/pins/latest")),
        below(&get, ""),
        below(&get, "/details"),
        below(&get, "/paths"),
        below(&get, "/paths?pattern=a*"),
        below(&get, &format!("/paths/{HASH}")),
        below(&get, "/withdrawn"),
        below(&get, "/pins"),
        below(&get, "/pins/latest"),
        below(&Method::PUT, "/pins/latest"),
        below(&Method::DELETE, "/pins/latest"),
        below(&post, "/pins/latest/rollback"),
        below(&post, "/missing-paths"),
        below(&post, "/missing-chunks"),
        below(&post, "/chunks"),
        below(&post, "/paths"),
        below(&post, "/delete"),
        below(&post, "/copy"),
        below(&Method::PATCH, ""),
        below(&Method::DELETE, ""),
        below(&post, "/restore"),
        below(&post, "/rename"),
        below(&post, "/rotate-key"),
    ]
}

/// What a request is answered, and the statements about caches that it takes, but for what differs
/// from one to the next.
fn seen(
    server: &Server,
    api: &Api,
    (method, address): (Method, String),
    cache: &str,
) -> (String, Vec<String>) {
    let before = server.log().len();
    let answer = api.try_send(method, &address, &[], Body::from("{}")).unwrap();
    let mut headers: Vec<String> =
        answer.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    headers.retain(|line| !line.starts_with("x-request-id") && !line.starts_with("date"));
    headers.sort();
    let mut body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if let Some(error) = body.get_mut("error") {
        error["request_id"].take();
    }
    let said = format!("{} {headers:?} {body}", answer.status).replace(cache, "NAME");
    let statements = server.log()[before..]
        .lines()
        .filter(|line| line.contains("caches"))
        .map(|line| {
            // The number of rows too, and no time.
            let words = line.split_whitespace().skip_while(|word| !word.contains("sqlx"));
            words.filter(|word| !word.contains("elapsed")).collect::<Vec<_>>().join(" ")
        })
        .collect();
    (said, statements)
}

#[test]
fn a_private_cache_takes_the_same_work_as_none() {
    let server = Server::options().env("RUST_LOG", "warn,sqlx::query=debug").start();
    for cache in ["secret", "zzzzzz"] {
        server.command(&["cache", "create", cache, "--private"]).succeeds();
    }
    let other = server.token("other", &["other"], &["other"]);
    let owner = Api::new(&server.url(), Some(&server.token("owner", &["*"], &["*"])));
    for (who, token) in [("nobody", None), ("a token for another cache", Some(other.as_str()))] {
        let api = Api::new(&server.url(), token);
        for (there, absent) in addresses("secret").into_iter().zip(addresses("absent")) {
            // Somebody else is at work in it, so that the server has it in memory.
            assert_eq!(owner.get("/secret/nix-cache-info").status, 200);
            let what = format!("{who}: {} {}", there.0, there.1);
            let (of_there, of_absent) =
                (seen(&server, &api, there, "secret"), seen(&server, &api, absent, "absent"));
            assert_eq!(of_there, of_absent, "{what}");
        }
    }
    // The test would see a difference: the owner's requests differ.
    let of_name = |cache: &str| {
        seen(&server, &owner, (Method::GET, format!("/{cache}/nix-cache-info")), cache)
    };
    assert_ne!(of_name("secret").1, of_name("absent").1);
    // A public one is there at once for everybody, whatever was asked before.
    let stranger = Api::anonymous(&server);
    assert_eq!(stranger.get("/public/nix-cache-info").status, 401);
    server.command(&["cache", "create", "public", "--public"]).succeeds();
    assert_eq!(stranger.get("/public/nix-cache-info").status, 200);
}
