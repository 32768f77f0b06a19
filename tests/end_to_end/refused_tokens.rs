//! Tokens that are refused, with a clear error and nothing stored.

use jsonwebtoken::Algorithm;
use serde_json::json;
use snowbank_harness::{
    Api, Client, NixStore, Random, Server, craft, craft::Deposit, database, token, trees,
};

fn deposit() -> Deposit {
    Deposit::of(&mut Random::fixed(29), "deposit", &craft::Node::folder(&[("file", "a deposit")]))
}

/// Every request of a push is refused with this status and code, and nothing is stored. Gives the
/// messages.
#[track_caller]
fn assert_refused(
    server: &Server,
    token: Option<&str>,
    cache: &str,
    status: u16,
    code: &str,
) -> String {
    let api = Api::new(&server.url(), token);
    let deposit = deposit();
    let base = format!("/api/v1/caches/{cache}");
    let nar_hash = deposit.commit().nar_hash;
    let query = json!({"paths": [{"store_path": deposit.store_path, "nar_hash": nar_hash}]});
    let answers = [
        api.post_json(&format!("{base}/missing-paths"), &query),
        api.post_bytes(
            &format!("{base}/missing-chunks"),
            deposit.manifest.names[0].as_bytes().to_vec(),
        ),
        api.post_bytes(&format!("{base}/chunks"), deposit.bundle()),
        api.post_json(&format!("{base}/paths"), &json!({"paths": [deposit.commit()]})),
    ];
    let messages = answers.map(|answer| {
        if status == 401 {
            assert!(
                answer.header("www-authenticate").starts_with("Basic "),
                "{:?}",
                answer.headers
            );
        }
        let message = answer.refused(status, code);
        assert!(
            token.is_none_or(|secret| !answer.text().contains(secret)),
            "the token is in {message}"
        );
        message
    });
    assert_eq!(
        (database::chunks(server), database::paths(server), server.stored_bytes()),
        (0, 0, 0)
    );
    messages.join("\n")
}

#[test]
fn no_token() {
    let server = Server::start();
    assert_refused(&server, None, "main", 401, "unauthenticated");
    assert_refused(&server, None, "no-such-cache", 401, "unauthenticated");
}

#[test]
fn what_is_no_token() {
    let server = Server::start();
    for token in ["hello", "a.b.c", "eyJhbGciOiJIUzI1NiJ9.e30.", "..", &"x".repeat(5_000)] {
        assert_refused(&server, Some(token), "main", 401, "unauthenticated");
    }
}

#[test]
fn an_expired_token() {
    let server = Server::start();
    let output = server
        .command(&["token", "create", "--sub", "brief", "--push", "*", "--expires", "1s"])
        .success();
    std::thread::sleep(std::time::Duration::from_millis(2_200));
    let said = assert_refused(&server, Some(output.stdout.trim()), "main", 401, "unauthenticated");
    assert!(said.contains("expired"), "{said}");
}

#[test]
fn a_wrong_signature() {
    let server = Server::start();
    let good = server.token("alice", &["*"], &["*"]);
    let more = token::with_claims(&good, |claims| claims["exp"] = json!(4_000_000_000_u64));
    let wider = token::with_claims(&good, |claims| claims["snowbank"]["admin"] = json!(true));
    for token in [more, wider, token::forged(&good, Algorithm::HS256, None)] {
        assert_refused(&server, Some(&token), "main", 401, "unauthenticated");
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys() {
    let server = Server::start();
    let good = server.token("alice", &["*"], &["*"]);
    for token in [token::unsigned(&good), token::forged(&good, Algorithm::HS512, None)] {
        assert_refused(&server, Some(&token), "main", 401, "unauthenticated");
    }
}

#[test]
fn a_key_id_that_is_not_ours() {
    let server = Server::start();
    let good = server.token("alice", &["*"], &["*"]);
    assert_refused(
        &server,
        Some(&token::forged(&good, Algorithm::HS256, Some("another"))),
        "main",
        401,
        "unauthenticated",
    );
    let elsewhere = Server::start().token("alice", &["*"], &["*"]);
    assert_refused(&server, Some(&elsewhere), "main", 401, "unauthenticated");
}

#[test]
fn no_permission_for_that_cache() {
    let server = Server::start();
    let reader = server.token("reader", &["*"], &[]);
    assert_refused(&server, Some(&reader), "main", 403, "forbidden");
    let other = server.token("other", &[], &["team-*"]);
    assert_refused(&server, Some(&other), "main", 403, "forbidden");
    assert_refused(&server, Some(&other), "no-such-cache", 403, "forbidden");
    let near = server.token("near", &[], &["mai"]);
    assert_refused(&server, Some(&near), "main", 403, "forbidden");
}

#[test]
fn the_client_tells_a_wrong_token_from_one_without_the_permission() {
    let (server, store) = (Server::start(), NixStore::new());
    let path = trees::add_tiny(&store, 1, "path");
    let with = |token: &str| {
        let client = Client::new(&store);
        let mut command = client.command(&["push", "main", &path[0], "--best-effort"]);
        command.env("SNOWBANK_URL", server.url()).env("SNOWBANK_TOKEN", token);
        snowbank_harness::process::run(command)
    };
    let good = server.token("reader", &["*"], &[]);
    assert_eq!(with(&token::forged(&good, Algorithm::HS256, None)).code(), Some(9));
    let refused = with(&good);
    assert_eq!(refused.code(), Some(10), "{refused}");
    assert!(refused.stderr.contains("main") && !refused.said().contains(&good), "{refused}");
    assert_eq!(database::paths(&server), 0);
}
