//! `snowbank doctor`: tells apart what looks the same from afar.

mod through_nix;

use std::process::Command;

use serde_json::Value;
use snowbank_harness::{Client, NixStore, Server, process, trees};

/// The client with the user's own Nix files, as `snowbank use` writes them.
fn command(client: &Client, args: &[&str]) -> Command {
    let mut command = client.command(args);
    command.env_remove("NIX_USER_CONF_FILES");
    command
}

/// Runs `snowbank doctor --json`; the exit code, and the checks by name.
fn doctor(command: Command) -> (i32, Vec<Value>) {
    let output = process::run(command);
    let report: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"));
    assert_eq!(report["exit_code"], output.code().unwrap(), "{output}");
    (output.code().unwrap(), report["checks"].as_array().unwrap().clone())
}

fn examined(client: &Client, args: &[&str]) -> (i32, Vec<Value>) {
    doctor(command(client, &[&["doctor", "--json"], args].concat()))
}

#[track_caller]
fn status<'c>(checks: &'c [Value], name: &str) -> &'c str {
    let check = checks.iter().find(|check| check["check"] == name);
    check.unwrap_or_else(|| panic!("no check {name} in {checks:#?}"))["status"].as_str().unwrap()
}

#[track_caller]
fn assert_problem(checks: &[Value], name: &str, words: &str) {
    assert_eq!(status(checks, name), "problem", "{checks:#?}");
    let check = checks.iter().find(|check| check["check"] == name).unwrap().to_string();
    assert!(check.contains(words), "`{words}` in {check}");
}

#[test]
fn all_is_well_where_a_path_was_pushed_and_the_cache_is_used() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let paths = trees::add_tiny(&store, 3, "well");
    let _ = client.push(&paths).success();
    let _ = process::run(command(&client, &["use", "main"])).success();

    let (code, checks) = examined(&client, &[]);
    assert_eq!(code, 0, "{checks:#?}");
    for check in [
        "configuration",
        "server",
        "token",
        "connection",
        "clock",
        "version",
        "cache",
        "nix.conf",
        "keys",
        "store",
    ] {
        assert_eq!(status(&checks, check), "ok", "{check} in {checks:#?}");
    }
    for check in ["signature", "fetch", "misses"] {
        assert_eq!(status(&checks, check), "ok", "{check} in {checks:#?}");
    }
    let plain =
        process::run(command(&client, &["doctor", "test:main", "--path", &paths[0]])).success();
    assert!(
        plain.stdout.contains("ok       signature")
            && plain.stdout.contains("Problems: 0, warnings: "),
        "{plain}"
    );
    assert!(!plain.said().contains(&server.root_token()), "no secret");
    assert_eq!(process::run(command(&client, &["doctor", "main", "--quiet"])).success().stdout, "");
}

#[test]
fn a_private_cache_is_looked_at_through_netrc_too() {
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "team", "--private"]).success();
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "team").remove(0);
    let _ = client.push_to("team", &[&path], &[]).success();
    let _ = process::run(command(&client, &["use", "team"])).success();
    let (code, checks) = examined(&client, &["team"]);
    assert_eq!(
        (code, status(&checks, "netrc"), status(&checks, "fetch")),
        (0, "ok", "ok"),
        "{checks:#?}"
    );

    let netrc = client.home().join(".config/nix/netrc");
    process::write(
        &netrc,
        format!("machine {} login snowbank password stale.t0ken.x\n", server.address().ip()),
    );
    let (code, checks) = examined(&client, &["team"]);
    assert_eq!(code, 9);
    assert_problem(&checks, "netrc", "snowbank use");
    assert_problem(&checks, "fetch", "netrc");
    let fetch =
        checks.iter().find(|check| check["check"] == "fetch").unwrap()["message"].as_str().unwrap();
    // Some versions take 401 for an absence.
    let is_quoted = fetch.contains("error: ") || fetch.contains("no such path");
    assert!(
        is_quoted && !fetch.contains('{'),
        "the error is quoted, and no body of an answer: {fetch}"
    );

    let reader = Client::at(&server.url(), &server.token("reader", &["team"], &[]), &store);
    let (code, checks) = examined(&reader, &["team"]);
    assert_eq!(
        (code, status(&checks, "token's end"), status(&checks, "nix.conf")),
        (0, "warn", "warn"),
        "{checks:#?}"
    );
}

#[test]
fn what_stands_between_is_told_apart() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::new(&store);
    let at = |url: &str, token: Option<&str>, cache: &str| {
        let mut command = command(&client, &["doctor", "--json", cache]);
        command.env("SNOWBANK_URL", url);
        if let Some(token) = token {
            command.env("SNOWBANK_TOKEN", token);
        }
        doctor(command)
    };
    let (code, checks) = examined(&client, &["main"]);
    assert_eq!(code, 3, "nothing is configured");
    assert_problem(&checks, "server", "snowbank login");

    let (code, checks) = at(&format!("http://{}", process::own_address()), None, "main");
    assert_eq!((code, status(&checks, "cache")), (6, "skipped"));
    assert_problem(&checks, "connection", "connection refused");
    let (code, checks) = at(&server.url().replace("http:", "https:"), None, "main");
    assert_eq!(code, 6);
    assert_problem(&checks, "connection", "securely");
    let (code, checks) = at("http://no-such-host.invalid", None, "main");
    assert_eq!(code, 6);
    assert_problem(&checks, "name", "no-such-host.invalid");

    let (code, checks) = at(&server.url(), Some("not.a.token"), "main");
    assert_eq!(code, 9);
    assert_problem(&checks, "token's rights", "does not accept");
    let (code, checks) = at(&server.url(), Some(&server.root_token()), "absent");
    assert_eq!(code, 11);
    assert_problem(&checks, "cache", "absent");
    let (code, checks) = at(&server.url(), None, "absent");
    assert_eq!(code, 9);
    assert_problem(&checks, "cache", "without a token");
}

#[test]
fn a_key_that_nix_conf_lacks_is_a_problem() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "keyless").remove(0);
    let _ = client.push(&[&path]).success();
    let file = client.home().join(".config/nix/nix.conf");
    process::write(&file, format!("extra-substituters = {}/main?priority=10\n", server.url()));
    let (code, checks) = examined(&client, &["main"]);
    assert_eq!(code, 3, "{checks:#?}");
    assert_problem(&checks, "keys", "snowbank use test:main");
    assert_problem(&checks, "signature", "does not trust");
}

#[test]
fn a_miss_that_nix_remembers_is_found_and_explained() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let _ = process::run(command(&client, &["use", "main"])).success();
    let path = trees::add_tiny(&store, 1, "missed").remove(0);
    let url = format!("{}/main", server.url());
    let mut ask = store.command("nix");
    ask.args(["path-info", "--store", &url, &path])
        .env("HOME", client.home())
        .env("XDG_CACHE_HOME", client.home().join(".cache"));
    assert!(!process::run(ask).status.success(), "not there yet");
    let _ = client.push(&[&path]).success();

    let (code, checks) = examined(&client, &["main", "--path", &path]);
    assert_eq!(
        (code, status(&checks, "fetch"), status(&checks, "misses")),
        (0, "ok", "warn"),
        "{checks:#?}"
    );
    let (_, checks) = examined(&client, &["main", "--path", &path]);
    assert_eq!(status(&checks, "misses"), "ok", "mended: {checks:#?}");

    let other = trees::add_tiny(&store, 1, "never-pushed").remove(0);
    let (code, checks) = examined(&client, &["main", "--path", &other]);
    assert_eq!(code, 11);
    assert_problem(&checks, "path", "snowbank push");
}
