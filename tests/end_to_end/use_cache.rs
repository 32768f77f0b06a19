//! `snowbank login` and `snowbank use`: files that keep what is in them, and secrets that stay
//! secret.

mod at_once;
mod in_effect;
mod netrc;
mod own_token;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

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
    let output = client
        .run(&["login", "second", &other.url(), "--token-file", file.to_str().unwrap()])
        .success();
    assert!(!output.said().contains(&other.root_token()), "no secret is printed: {output}");

    let config = client.home().join(".config/snowbank");
    for entry in fs::read_dir(&config).unwrap().map(Result::unwrap) {
        let text = read(&entry.path());
        if text.contains(&one.root_token()) || text.contains(&other.root_token()) {
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o077,
                0,
                "{}",
                entry.path().display()
            );
        }
    }
    let path = trees::add_tiny(&store, 1, "default").remove(0);
    let _ = client.push(&[&path]).success();
    assert!(
        Api::root(&one).get(&snowbank_harness::craft::narinfo("main", &path)).status.is_success()
    );
    let _ = client.push_to("second:main", &[&path], &[]).success();
    assert!(
        Api::root(&other).get(&snowbank_harness::craft::narinfo("main", &path)).status.is_success()
    );
}

#[test]
fn login_with_a_wrong_token_or_none_says_so() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::new(&store);
    let login = |token: &str| {
        process::Running::start(client.command(&["login", "x", &server.url()]), token.as_bytes())
            .wait()
    };
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

#[test]
fn a_second_private_cache_of_a_host_needs_a_token_for_both() {
    let (server, store) = (Server::start(), NixStore::new());
    for cache in ["one", "two"] {
        let _ = server.command(&["cache", "create", cache, "--private"]).success();
    }
    let paths = trees::add_tiny(&store, 2, "both");
    let root = Client::of(&server, &store);
    let _ = root.push_to("one", &[&paths[0]], &[]).success();
    let _ = root.push_to("two", &[&paths[1]], &[]).success();

    let other = NixStore::new();
    let client = Client::at(&server.url(), &server.token("first", &["one"], &[]), &other);
    let _ = client.run(&["use", "one"]).success();
    let files = || {
        [
            read(&client.home().join(".config/nix/netrc")),
            read(&client.home().join(".config/nix/nix.conf")),
        ]
    };
    let before = files();
    let login = |pull: &[&str]| {
        let token = server.token("next", pull, &[]);
        let command = client.command(&["login", "test", &server.url()]);
        let _ = process::Running::start(command, token.as_bytes()).wait().success();
    };
    login(&["two"]);
    let refused = client.run(&["use", "two"]);
    assert_eq!(refused.code(), Some(10), "{refused}");
    for want in ["one entry per host", "/one", "--pull two --pull one"] {
        assert!(refused.stderr.contains(want), "`{want}` in {refused}");
    }
    assert_eq!(files(), before, "nothing is written");

    login(&["one", "two"]);
    let _ = client.run(&["use", "two", "--priority", "30"]).success();
    let mut command = other.command("nix-store");
    command.env("XDG_CONFIG_HOME", client.home().join(".config")).env_remove("NIX_USER_CONF_FILES");
    command.arg("--realise").args(&paths);
    let _ = process::run(command).success();
    assert_eq!(other.hashes(&paths), store.hashes(&paths));

    // A token for one of them later does not take the place of the one for both.
    let netrc = files();
    login(&["two"]);
    let _ = client.run(&["use", "two"]).success();
    assert_eq!(files(), netrc);
}

#[test]
fn the_whole_machine_is_configured_and_restored() {
    let (server, store, other) = (Server::start(), NixStore::new(), NixStore::new());
    let _ = server.command(&["cache", "create", "team", "--private"]).success();
    let (public, private) = (
        trees::add_tiny(&store, 1, "public").remove(0),
        trees::add_tiny(&store, 1, "private").remove(0),
    );
    let pusher = Client::of(&server, &store);
    let _ = pusher.push(&[&public]).success();
    let _ = pusher.push_to("team", &[&private], &[]).success();

    let client = Client::of(&server, &other);
    let conf = other.root().with_file_name("conf");
    let file = conf.join("nix.conf");
    let before = read(&file);
    let args = ["use", "main", "test:team", "--system", "--recommended", "--priority", "12"];
    for _ in 0..2 {
        let _ = client.run(&args).success();
        let text = read(&file);
        assert!(text.starts_with(&before), "{text}");
        for part in [
            "/main?priority=12\n",
            "/team?priority=12\n",
            "narinfo-cache-negative-ttl = 60\n",
            "fallback = true\n",
        ] {
            assert_eq!(text.matches(part).count(), 1, "`{part}` once in:\n{text}");
        }
    }
    assert_eq!(read(&conf.join("nix.conf.before-snowbank")), before);
    assert_eq!(fs::metadata(conf.join("netrc")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!client.home().join(".config/nix").exists(), "nothing of the user's is written");

    let _ = other.run("nix-store", &["--realise", &public, &private]).success();
    assert_eq!(other.hashes(&[&public, &private]), store.hashes(&[&public, &private]));
    let settings = other.run("nix", &["show-config"]).success().stdout;
    assert!(
        settings.contains("connect-timeout = 5\n") && settings.contains("fallback = true\n"),
        "{settings}"
    );

    let _ = client.run(&["use", "main", "team", "--system", "--remove"]).success();
    assert_eq!((read(&file), read(&conf.join("netrc"))), (before, String::new()));
}

#[test]
fn the_settings_are_hinted_at_once() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let first = client.run(&["use", "main"]).success();
    assert!(
        first.stderr.contains("use main --recommended") && first.stderr.contains("not an hour"),
        "{first}"
    );
    let second = client.run(&["use", "main"]).success();
    assert!(!second.stderr.contains("--recommended"), "{second}");
    let set = client
        .run(&["use", "main", "--negative-ttl", "30", "--fallback", "--connect-timeout", "3"])
        .success();
    assert!(!set.stderr.contains("--recommended"), "{set}");
    let text = read(&client.home().join(".config/nix/nix.conf"));
    assert!(
        text.contains("connect-timeout = 3\nfallback = true\nnarinfo-cache-negative-ttl = 30\n"),
        "{text}"
    );
    assert_eq!(client.run(&["use", "main", "--remove", "--fallback"]).code(), Some(2));
    assert_eq!(client.run(&["use"]).code(), Some(2));
}
