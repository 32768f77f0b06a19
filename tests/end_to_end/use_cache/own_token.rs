//! A token that may administrate the server stays out of netrc: Nix gets one of its own, which may
//! only pull.

use serde_json::Value;

use super::*;

/// The token in netrc, as the server shows it.
fn own(client: &Client) -> Value {
    let id = snowbank_core::token::token_id(&password(client)).unwrap();
    serde_json::from_str(&client.run(&["token", "show", &id, "--json"]).success().stdout).unwrap()
}

/// The tokens that the server knows.
fn tokens(client: &Client) -> Vec<Value> {
    let list: Value =
        serde_json::from_str(&client.run(&["token", "list", "--json"]).success().stdout).unwrap();
    list["tokens"].as_array().unwrap().clone()
}

fn password(client: &Client) -> String {
    let netrc = read(&client.home().join(".config/nix/netrc"));
    netrc.split_whitespace().last().unwrap_or_default().to_owned()
}

#[test]
fn nix_gets_a_token_of_its_own_that_may_only_pull() {
    let (server, store) = (Server::start(), NixStore::new());
    for cache in ["one", "two"] {
        let _ = server.command(&["cache", "create", cache, "--private"]).success();
    }
    let client = Client::of(&server, &store);
    let shown = client.run(&["use", "one", "--print"]).success();
    assert!(shown.stdout.contains("may pull from one and do nothing else"), "{shown}");
    assert_eq!(tokens(&client).len(), 1, "--print makes none");

    let output = client.run(&["use", "one"]).success();
    let first = password(&client);
    assert!(!output.said().contains(&first) && first != server.root_token());
    let newest = own(&client);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(newest["subject"], format!("nix-{}", host.trim()));
    assert_eq!(
        (&newest["admin"], &newest["caches"]),
        (&false.into(), &serde_json::json!({ "one": ["pull"] }))
    );
    let id = newest["id"].as_str().unwrap();
    assert!(output.stderr.contains(&format!("snowbank token revoke {id}")), "{output}");

    // Once more makes no other, and another cache one for both.
    let _ = client.run(&["use", "one"]).success();
    assert_eq!(password(&client), first);
    let _ = client.run(&["use", "two"]).success();
    assert_ne!(password(&client), first);
    assert_eq!(own(&client)["caches"], serde_json::json!({ "one": ["pull"], "two": ["pull"] }));

    // One that was taken back is replaced.
    let revoked = own(&client)["id"].as_str().unwrap().to_owned();
    let second = password(&client);
    let _ = client.run(&["token", "revoke", &revoked]).success();
    process::wait_until("the token is refused", Duration::from_mins(1), || {
        !Api::new(&server.url(), Some(&second)).get("/api/v1/whoami").status.is_success()
    });
    let _ = client.run(&["use", "two"]).success();
    assert_ne!(password(&client), second);

    let kept = own(&client)["id"].as_str().unwrap().to_owned();
    let _ = client.run(&["use", "one", "--remove"]).success();
    let removed = client.run(&["use", "two", "--remove"]).success();
    assert!(removed.stderr.contains(&format!("snowbank token revoke {kept}")), "{removed}");
}

#[test]
fn the_token_of_the_login_is_taken_where_that_is_said_or_where_it_may_not_make_others() {
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "team", "--private"]).success();
    let root = Client::of(&server, &store);
    let output = root.run(&["use", "team", "--this-token"]).success();
    assert_eq!(password(&root), server.root_token());
    assert!(output.stderr.contains("administrate the server"), "{output}");
    let _ = root.run(&["use", "team", "--this-token"]).success();
    assert_eq!((password(&root), tokens(&root).len()), (server.root_token(), 1));
    // Without the flag, root's gives way.
    let _ = root.run(&["use", "team"]).success();
    assert_ne!(password(&root), server.root_token());

    let token = server.token("ci", &["team"], &["team"]);
    let ci = Client::at(&server.url(), &token, &store);
    let output = ci.run(&["use", "team"]).success();
    assert_eq!(password(&ci), token);
    assert!(output.stderr.contains("may also push"), "{output}");

    let token = server.token("reader", &["team"], &[]);
    let reader = Client::at(&server.url(), &token, &store);
    let output = reader.run(&["use", "team"]).success();
    assert_eq!(password(&reader), token);
    assert!(!output.stderr.contains("may also"), "{output}");
}

#[test]
fn a_token_given_as_an_argument_is_refused_and_never_shown() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::new(&store);
    let token = server.root_token();
    let part = token[..token.len() / 2].to_owned();
    for given in [token.as_str(), &part, "opaque-s3cret"] {
        let output = client.run(&["login", "local", &server.url(), given]).ended_with(2);
        assert!(!output.said().contains(given), "{output}");
        for word in ["standard input", "--token-file", "SNOWBANK_TOKEN"] {
            assert!(output.stderr.contains(word), "`{word}` in {output}");
        }
    }
    let url = server.url();
    for args in [
        vec!["login", &token, &url],
        vec!["login", "local", &token],
        vec!["login", "local", &url, "--token", &token],
        vec!["use", &token],
        vec!["push", &token, "./result"],
        vec!["doctor", &token],
        vec!["whoami", &token],
        vec!["login", "local", &url, "--token-file", &token],
        vec![token.as_str()],
        vec!["-vv", "cache", "info", &token],
    ] {
        let output = client.run(&args);
        assert!(!output.status.success(), "{output}");
        let signature = token.rsplit('.').next().unwrap();
        assert!(!output.said().contains(&token) && !output.said().contains(signature), "{output}");
    }
    assert!(!client.home().join(".config/snowbank").exists());
}
