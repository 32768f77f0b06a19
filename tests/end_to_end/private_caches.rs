//! Private caches: Basic and Bearer, netrc, and nothing learnt by those who may not read.

use std::time::Duration;

use snowbank_harness::{
    Api, Client, NixStore, Server, craft, oracle::Oracle, process, token, trees,
};

/// A server with a private cache `secret` that holds one path.
fn pushed() -> (Server, NixStore, String) {
    let (server, store) = (Server::options().metrics().start(), NixStore::new());
    let _ = server.command(&["cache", "create", "secret", "--private"]).success();
    let path = trees::add_tiny(&store, 1, "secret").remove(0);
    let token = server.token("pusher", &["secret"], &["secret"]);
    let client = Client::at(&server.url(), &token, &store);
    let _ = client.push_to("secret", &[&path], &[]).success();
    (server, store, path)
}

fn basic(token: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("anyone:{token}")))
}

#[test]
fn a_token_reads_by_bearer_and_as_basic_password() {
    let (server, _, path) = pushed();
    let token = server.token("reader", &["sec*"], &[]);
    let address = craft::narinfo("secret", &path);
    assert_eq!(Api::new(&server.url(), Some(&token)).get(&address).status.as_u16(), 200);
    let answer = Api::anonymous(&server).get_with(&address, &[("Authorization", &basic(&token))]);
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    assert!(answer.header("cache-control").contains("private"), "{:?}", answer.headers);
    Oracle::new(&server, "secret", Api::new(&server.url(), Some(&token))).assert_whole(&path);
}

#[test]
fn nix_substitutes_with_a_netrc() {
    let (server, store, path) = pushed();
    let token = server.token("machine", &["secret"], &[]);
    let key = Api::root(&server).cache_info("secret").public_keys.join(" ");
    let url = format!("{}/secret", server.url());

    let without = NixStore::new();
    assert!(!without.substitute(&url, &key, &[&path]).status.success());

    let with = NixStore::new();
    let netrc = with.root().with_file_name("netrc");
    process::write(
        &netrc,
        format!("machine {} login snowbank password {token}\n", server.address().ip()),
    );
    let _ = with
        .substitute_with(
            &url,
            &key,
            &[&path],
            &["--option", "netrc-file", &netrc.to_string_lossy()],
        )
        .success();
    assert_eq!(with.hashes(&[&path]), store.hashes(&[&path]));
}

/// Tokens that are not believed, each with what the server says of it.
fn useless(server: &Server) -> Vec<(&'static str, String)> {
    let good = server.token("machine", &["*"], &[]);
    let expired = server
        .command(&["token", "create", "--sub", "brief", "--pull", "*", "--expires", "1s"])
        .success();
    let revoked = server.token("gone", &["*"], &[]);
    let _ = server.command(&["token", "revoke", "--subject", "gone"]).success();
    // On every replica: each asks the database again within some seconds, and takes its turn.
    let is_over = || {
        let api = Api::new(&server.url(), Some(&revoked));
        (0..6).all(|_| api.get("/api/v1/whoami").status.as_u16() == 401)
    };
    process::wait_until("the token is revoked", Duration::from_secs(20), is_over);
    let expired = expired.stdout.trim().to_owned();
    let is_over =
        || Api::new(&server.url(), Some(&expired)).get("/api/v1/whoami").status.as_u16() == 401;
    process::wait_until("the token has expired", Duration::from_secs(20), is_over);
    vec![
        ("expired", expired),
        ("revoked", revoked),
        ("unknown-key", Server::start().token("machine", &["*"], &[])),
        ("bad-signature", token::forged(&good, jsonwebtoken::Algorithm::HS256, None)),
        ("malformed", "a-password-of-another-service".to_owned()),
    ]
}

#[test]
fn a_public_cache_is_read_whatever_token_comes_along() {
    let (server, store, _) = pushed();
    let path = trees::add_tiny(&store, 1, "public").remove(0);
    let _ = Client::of(&server, &store).push_to("main", &[&path], &["--pin", "public"]).success();
    let info = Oracle::new(&server, "main", Api::anonymous(&server)).narinfo(&path).unwrap();
    let key = Api::anonymous(&server).cache_info("main").public_keys.join(" ");
    let reads = |cache: &str| {
        [
            "nix-cache-info",
            &format!("{}.narinfo", &path["/nix/store/".len()..][..32]),
            &info.url,
            "pins/public",
        ]
        .map(|file| format!("/{cache}/{file}"))
    };
    for (reason, token) in useless(&server) {
        let api = Api::new(&server.url(), Some(&token));
        for address in reads("main") {
            for answer in [api.get(&address), api.head(&address)] {
                assert_eq!(answer.status.as_u16(), 200, "{reason} {address}: {}", answer.text());
                assert_eq!(answer.header("x-snowbank-ignored-token"), reason, "{address}");
            }
        }
        for address in reads("secret").into_iter().chain(reads("absent")) {
            let said = api.get(&address).refused(401, "unauthenticated");
            assert!(!said.contains(&token), "{said}");
        }
        // Whoever uses the API is told at once.
        api.get("/api/v1/caches/main").refused(401, "unauthenticated");
        let counted = server.counted("snowbank_ignored_tokens_total", &[("reason", reason)]);
        assert!(counted >= 8.0, "{reason}: {counted}");

        let machine = NixStore::new();
        let netrc = machine.root().with_file_name("netrc");
        process::write(
            &netrc,
            format!("machine {} login snowbank password {token}\n", server.address().ip()),
        );
        let url = format!("{}/main", server.url());
        let options = ["--option", "netrc-file", &netrc.to_string_lossy()];
        let _ = machine.substitute_with(&url, &key, &[&path], &options).success();
        assert_eq!(machine.hashes(&[&path]), store.hashes(&[&path]), "{reason}");
    }
    let good = Api::new(&server.url(), Some(&server.token("machine", &["secret"], &[])));
    for address in reads("main") {
        assert_eq!(good.get(&address).header("x-snowbank-ignored-token"), "", "{address}");
    }
}

#[test]
fn an_anonymous_client_learns_nothing_of_names_that_exist() {
    let (server, _, path) = pushed();
    let api = Api::anonymous(&server);
    let addresses = |cache: &str| {
        [
            format!("/{cache}/nix-cache-info"),
            craft::narinfo(cache, &path),
            format!("/{cache}/nar/{}.nar.zst", "0".repeat(52)),
            format!("/api/v1/caches/{cache}"),
        ]
    };
    for (there, absent) in addresses("secret").into_iter().zip(addresses("absent")) {
        let (there, absent) = (api.get(&there), api.get(&absent));
        assert_eq!((there.status.as_u16(), absent.status.as_u16()), (401, 401));
        assert!(there.header("www-authenticate").starts_with("Basic "), "{:?}", there.headers);
        let without = |text: String| {
            let mut error: serde_json::Value = serde_json::from_str(&text).unwrap();
            error["error"]["request_id"].take();
            error.to_string().replace("secret", "NAME").replace("absent", "NAME")
        };
        assert_eq!(without(there.text()), without(absent.text()));
        assert_eq!(there.header("www-authenticate"), absent.header("www-authenticate"));
    }
}

#[test]
fn a_token_without_the_permission_sees_no_cache_and_may_not_push() {
    let (server, _, path) = pushed();
    let other = Api::new(&server.url(), Some(&server.token("other", &["other"], &["other"])));
    for cache in ["secret", "absent"] {
        assert_eq!(other.get(&craft::narinfo(cache, &path)).status.as_u16(), 404, "{cache}");
        assert_eq!(other.get(&format!("/api/v1/caches/{cache}")).status.as_u16(), 404, "{cache}");
        other
            .post_bytes(&format!("/api/v1/caches/{cache}/missing-chunks"), vec![0; 32])
            .refused(403, "forbidden");
    }
    // A path of one cache is not in another, though they share chunks.
    assert_eq!(Api::root(&server).get(&craft::narinfo("main", &path)).status.as_u16(), 404);
    let info = Oracle::new(&server, "secret", Api::root(&server)).narinfo(&path).unwrap();
    assert_eq!(Api::root(&server).get(&format!("/main/{}", info.url)).status.as_u16(), 404);
}

#[test]
fn one_that_may_only_push_is_not_told_what_it_did_not_bring() {
    let (server, _, path) = pushed();
    let pusher = Api::new(&server.url(), Some(&server.token("blind", &[], &["secret"])));
    assert_eq!(pusher.get(&craft::narinfo("secret", &path)).status.as_u16(), 404);
    let wrong = snowbank_core::hash::NarHash::from_bytes([3; 32]);
    let body = serde_json::json!({"paths": [{"store_path": path, "nar_hash": wrong}]});
    let answer = pusher.post_json("/api/v1/caches/secret/missing-paths", &body);
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let answer: snowbank_core::wire::MissingPathsResponse = answer.json();
    assert_eq!(answer.different.len(), 1);
    assert_eq!(
        answer.different[0].nar_hash, None,
        "the hash in the cache is not the pusher's to see"
    );
}
