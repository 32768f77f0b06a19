//! `snowbank login` and `snowbank use`: files that keep what is in them, and secrets that stay secret.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use snowbank_harness::{Api, Client, NixStore, Server, process, trees};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn use_writes_nix_conf_keeps_what_is_there_and_remove_undoes_it() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let file = client.home().join(".config/nix/nix.conf");
    let before = "# mine\nsubstituters = https://cache.example.org\nmax-jobs = 4\n";
    process::write(&file, before);
    let key = Api::anonymous(&server).cache_info("main").public_keys.remove(0);
    let url = format!("{}/main", server.url());

    let shown = client.run(&["use", "main", "--print"]).success();
    assert!(shown.stdout.contains(&url) && shown.stdout.contains(&key), "{shown}");
    assert_eq!(read(&file), before, "--print writes nothing");

    for _ in 0..2 {
        let _ = client.run(&["use", "main"]).success();
        let text = read(&file);
        let settings: String = text.lines().filter(|line| !line.starts_with('#')).collect();
        for part in ["https://cache.example.org", "max-jobs = 4", &url, &key] {
            assert_eq!(settings.matches(part).count(), 1, "`{part}` once in:\n{text}");
        }
        assert!(text.contains("# mine"), "{text}");
    }
    let _ = client.run(&["use", "main", "--remove"]).success();
    assert_eq!(read(&file).trim_end(), before.trim_end());
}

#[test]
fn nix_fetches_with_what_use_wrote() {
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "team", "--private"]).success();
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "used").remove(0);
    let _ = client.push_to("team", &[&path], &[]).success();
    let _ = client.run(&["use", "team"]).success();

    let netrc = client.home().join(".config/nix/netrc");
    assert_eq!(fs::metadata(&netrc).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(read(&netrc).contains(&server.address().ip().to_string()), "the netrc names the host");

    let other = NixStore::new();
    let mut command = other.command("nix-store");
    // The user's own nix.conf, as `use` wrote it, and none of the harness's.
    command
        .env("HOME", client.home())
        .env("XDG_CONFIG_HOME", client.home().join(".config"))
        .env_remove("NIX_USER_CONF_FILES");
    command.args(["--realise", &path]);
    let _ = process::run(command).success();
    assert_eq!(other.hashes(&[&path]), store.hashes(&[&path]));

    let _ = client.run(&["use", "team", "--remove"]).success();
    assert!(!read(&netrc).contains("password"), "the token is taken out");
}

#[test]
fn login_keeps_the_token_secret_and_the_first_is_the_default() {
    let (one, other, store) = (Server::start(), Server::start(), NixStore::new());
    let client = Client::of(&one, &store);
    let file = client.home().join("token");
    process::write(&file, format!("\n  {}  \n", other.root_token()));
    let output = client.run(&["login", "second", &other.url(), "--token-file", file.to_str().unwrap()]).success();
    assert!(!output.said().contains(&other.root_token()), "no secret is printed: {output}");

    let config = client.home().join(".config/snowbank");
    for entry in fs::read_dir(&config).unwrap().map(Result::unwrap) {
        let text = read(&entry.path());
        if text.contains(&one.root_token()) || text.contains(&other.root_token()) {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", entry.path().display());
        }
    }
    let path = trees::add_tiny(&store, 1, "default").remove(0);
    let _ = client.push(&[&path]).success();
    assert!(Api::root(&one).get(&snowbank_harness::craft::narinfo("main", &path)).status.is_success());
    let _ = client.push_to("second:main", &[&path], &[]).success();
    assert!(Api::root(&other).get(&snowbank_harness::craft::narinfo("main", &path)).status.is_success());
}

#[test]
fn login_with_a_wrong_token_or_none_says_so() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::new(&store);
    let login =
        |token: &str| process::Running::start(client.command(&["login", "x", &server.url()]), token.as_bytes()).wait();
    assert_eq!(login("not.a.token\n").code(), Some(9));
    let empty = login(" \n");
    assert_eq!(empty.code(), Some(3), "{empty}");
    let missing = client.run(&["login", "x", &server.url(), "--token-file", "/nothing/here"]);
    assert!(missing.code() == Some(3) && missing.stderr.contains("/nothing/here"), "{missing}");
    let unknown = client.run(&["push", "elsewhere:main", "/nix/store/x"]);
    assert!(!unknown.status.success() && unknown.stderr.contains("elsewhere"), "{unknown}");
}

#[test]
fn root_uses_the_system_wide_login_through_the_environment() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::new(&store);
    let path = trees::add_tiny(&store, 1, "environment").remove(0);
    let file = client.home().join("token-file");
    process::write(&file, format!("{}\n", server.root_token()));
    let mut command = client.command(&["push", "main", &path]);
    command.env("SNOWBANK_URL", server.url()).env("SNOWBANK_TOKEN_FILE", &file);
    let _ = process::run(command).success();
}
