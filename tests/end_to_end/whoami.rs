//! `snowbank whoami`: who, where, with which token, for how long; and the system-wide login beneath
//! the user's.

use std::{fs, os::unix::fs::PermissionsExt as _};

use snowbank_harness::{Client, NixStore, Server, process, trees};

#[test]
fn it_says_server_token_source_rights_and_end() {
    let (server, store) = (Server::start(), NixStore::new());
    let token = server.token("ci-blog", &["*"], &["blog-*"]);
    let client = Client::at(&server.url(), &token, &store);
    let text = client.run(&["whoami"]).success().stdout;
    let file = client.home().join(".config/snowbank/tokens/test");
    for want in [
        "test",
        &server.url(),
        "ci-blog",
        file.to_str().unwrap(),
        "*: pull",
        "blog-*: push",
        "UTC, in 2",
    ] {
        assert!(text.contains(want), "`{want}` in:\n{text}");
    }
    assert!(!text.contains(&token), "no secret");

    let json: serde_json::Value =
        serde_json::from_str(&client.run(&["whoami", "test", "--json"]).success().stdout).unwrap();
    assert_eq!(json["token"]["subject"], "ci-blog");
    assert!(json["token"]["expires_in_days"].as_i64().is_some_and(|days| days < 2), "{json}");
    assert_eq!(json["admin"], false);
    assert_eq!(json["caches"]["blog-*"], serde_json::json!(["push"]));
}

#[test]
fn what_is_wrong_has_its_exit_code() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    assert_eq!(client.run(&["whoami", "nosuch"]).code(), Some(3));
    let with = |url: &str, token: &str| {
        let mut command = client.command(&["whoami"]);
        command.env("SNOWBANK_URL", url).env("SNOWBANK_TOKEN", token);
        process::run(command)
    };
    assert_eq!(with(&server.url(), "not.a.token").code(), Some(9));
    assert_eq!(with(&server.url().replace("http:", "https:"), "not.a.token").code(), Some(6));
    let none = client.run(&["whoami", "--config", "/nothing/here.toml"]);
    assert!(none.code() == Some(3) && none.stderr.contains("/nothing/here.toml"), "{none}");
}

#[test]
fn a_system_wide_login_serves_whoever_has_none_of_their_own() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::new(&store);
    let system = client.home().join("etc/snowbank/client.toml");
    let run = |args: &[&str], input: &str| {
        let mut command = client.command(args);
        command.env("SNOWBANK_SYSTEM_CONFIG", &system);
        process::Running::start(command, input.as_bytes()).wait()
    };
    let _ = run(&["login", "work", &server.url(), "--system"], &server.root_token()).success();
    let mode = |path: &str| {
        fs::metadata(client.home().join("etc/snowbank").join(path)).unwrap().permissions().mode()
            & 0o777
    };
    assert_eq!((mode("client.toml"), mode("tokens/work")), (0o644, 0o600));
    assert!(!client.home().join(".config/snowbank").exists(), "nothing of the user's is written");
    assert!(run(&["whoami"], "").success().stdout.contains(&server.url()));
    let path = trees::add_tiny(&store, 1, "system").remove(0);
    let _ = run(&["push", "work:main", &path], "").success();

    // The user's own entry goes before it, and the environment before both.
    let token = server.token("own", &["main"], &[]);
    let _ = run(&["login", "work", &server.url()], &token).success();
    assert!(run(&["whoami"], "").success().stdout.contains("own"));
    let mut command = client.command(&["whoami"]);
    command
        .env("SNOWBANK_SYSTEM_CONFIG", &system)
        .env("SNOWBANK_TOKEN", server.token("variable", &["main"], &[]));
    assert!(process::run(command).success().stdout.contains("variable"));

    let both = run(&["login", "x", &server.url(), "--system", "--config", "/x"], "t");
    assert_eq!(both.code(), Some(2), "{both}");
}
