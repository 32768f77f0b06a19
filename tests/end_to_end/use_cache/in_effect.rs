//! `snowbank use` says that Nix fetches from a cache only where Nix itself says so, and else what
//! prevents it.

use std::process::Command;

use super::*;

struct Place {
    server: Server,
    store: NixStore,
    client: Client,
}

impl Place {
    fn new() -> Self {
        let (server, store) = (Server::start(), NixStore::new());
        let client = Client::of(&server, &store);
        Self { server, store, client }
    }

    fn nix_conf(&self) -> PathBuf {
        self.client.home().join(".config/nix/nix.conf")
    }
}

#[track_caller]
fn assert_prevented(command: Command, words: &[&str]) {
    let output = process::run(command).ended_with(3);
    assert!(!output.stderr.contains("fetches from"), "{output}");
    for word in words {
        assert!(output.stderr.contains(word), "`{word}` in {output}");
    }
}

#[test]
fn what_prevents_a_cache_from_being_used_is_named() {
    let place = Place::new();
    let command = || place.client.command(&["use", "main"]);
    let nix_conf = place.nix_conf();
    let shown = nix_conf.to_str().unwrap();

    let mut elsewhere = command();
    elsewhere.env("NIX_USER_CONF_FILES", "");
    assert_prevented(elsewhere, &[shown, "does not read", "NIX_USER_CONF_FILES"]);
    // The file is written, and counts for a Nix that reads it.
    assert!(process::run(command()).success().stderr.contains("Nix already fetches from"));

    let mut variable = command();
    variable.env("NIX_CONFIG", "substituters = https://cache.example.org");
    assert_prevented(variable, &["NIX_CONFIG", "sets `substituters` anew", "extra-substituters"]);
    let mut keys = command();
    keys.env("NIX_CONFIG", "trusted-public-keys = other:1");
    assert_prevented(keys, &["no key of", "NIX_CONFIG", "trusted-public-keys"]);

    let text = read(&nix_conf);
    process::write(&nix_conf, format!("{text}substituters = https://cache.example.org\n"));
    let line = text.lines().count() + 1;
    assert_prevented(
        command(),
        &[&format!("{shown}:{line} sets `substituters` anew"), "above the block"],
    );

    process::write(&nix_conf, format!("{text}include more.conf\n"));
    let more = nix_conf.with_file_name("more.conf");
    process::write(&more, "# mine\nsubstituters =\n");
    assert_prevented(command(), &[&format!("{}:2 sets", more.display())]);
}

#[test]
fn without_a_nix_to_ask_that_is_said() {
    let place = Place::new();
    if Path::new("/nix/var/nix/profiles/default/bin/nix").exists() {
        eprintln!("SKIPPED: Nix is where it is found without PATH");
        return;
    }
    let mut command = place.client.command(&["use", "main"]);
    command.env("PATH", "/nowhere");
    let output = process::run(command).success();
    assert!(output.stderr.contains("is not known: there is no `nix` in PATH"), "{output}");
    assert!(read(&place.nix_conf()).contains("extra-substituters"));
}

#[test]
fn the_file_is_the_one_that_this_version_of_nix_reads() {
    let place = Place::new();
    let folder = place.client.home().join("nix-config");
    for (args, expected) in [(&["use", "main"][..], 1), (&["use", "main", "--remove"], 0)] {
        let mut command = place.client.command(args);
        command.env("NIX_CONFIG_HOME", &folder);
        let _ = process::run(command).success();
        let texts = [read(&folder.join("nix.conf")), read(&place.nix_conf())];
        let named = texts.iter().filter(|text| text.contains("extra-substituters")).count();
        assert_eq!(named, expected, "{texts:?}");
    }
}

#[test]
fn a_netrc_file_that_an_included_file_names_is_the_one() {
    let place = Place::new();
    let _ = place.server.command(&["cache", "create", "team", "--private"]).success();
    let path = trees::add_tiny(&place.store, 1, "included").remove(0);
    let _ = place.client.push_to("team", &[&path], &[]).success();
    let nix_conf = place.nix_conf();
    let netrc = nix_conf.with_file_name("tokens.netrc");
    process::write(&nix_conf, "!include more.conf\n");
    process::write(
        &nix_conf.with_file_name("more.conf"),
        format!("netrc-file = {}\n", netrc.display()),
    );
    let _ = place.client.run(&["use", "team"]).success();
    assert!(read(&netrc).contains("password ey") && !nix_conf.with_file_name("netrc").exists());

    let other = NixStore::new();
    let mut command = other.command("nix-store");
    command
        .env("XDG_CONFIG_HOME", place.client.home().join(".config"))
        .env_remove("NIX_USER_CONF_FILES");
    let _ = process::run({
        command.args(["--realise", &path]);
        command
    })
    .success();

    let mut elsewhere = place.client.command(&["use", "team"]);
    elsewhere.env("NIX_CONFIG", "netrc-file = /elsewhere/netrc");
    assert_prevented(elsewhere, &["/elsewhere/netrc", "NIX_CONFIG", netrc.to_str().unwrap()]);
}

#[test]
fn a_nix_conf_that_a_program_replaces_is_left_alone() {
    let place = Place::new();
    let conf = place.store.root().with_file_name("conf");
    let (main, custom) = (conf.join("nix.conf"), conf.join("nix.custom.conf"));
    let before = format!("# this file will be replaced\n!include nix.custom.conf\n{}", read(&main));
    // The rest of the file sets the substituters anew, as the one that Determinate Nix makes does
    // not.
    let before = before.replace("substituters =\n", "").replace("trusted-public-keys =\n", "");
    process::write(&main, &before);
    let output = place.client.run(&["use", "main", "--system"]).success();
    assert!(
        output.stderr.contains(custom.to_str().unwrap()) && output.stderr.contains("includes"),
        "{output}"
    );
    assert_eq!(read(&main), before);
    assert!(read(&custom).contains("extra-substituters = "), "{}", read(&custom));
    let _ = place.client.run(&["use", "main", "--system", "--remove"]).success();
    assert_eq!((read(&main), read(&custom)), (before.clone(), String::new()));

    // Its netrc is made from others.
    let _ = place.server.command(&["cache", "create", "team", "--private"]).success();
    process::write(&main, format!("{before}netrc-file = /nix/var/determinate/netrc\n"));
    let command = place.client.command(&["use", "team", "--system"]);
    assert_prevented(command, &["additionalNetrcSources", conf.join("netrc").to_str().unwrap()]);
    assert!(read(&conf.join("netrc")).contains("password ey"));
}

#[test]
fn hints_name_the_command_that_was_run_and_copies_are_from_before() {
    let place = Place::new();
    let conf = place.store.root().with_file_name("conf");
    let output = place.client.run(&["use", "main", "--system"]).success();
    assert!(output.stderr.contains("`snowbank use main --system --recommended`"), "{output}");
    assert!(!read(&conf.join("nix.conf.before-snowbank")).contains("snowbank"));

    // No file was there before the first change: there is nothing to keep a copy of.
    let _ = place.client.run(&["use", "main"]).success();
    let _ = place.client.run(&["use", "main", "--priority", "3"]).success();
    assert!(!place.nix_conf().with_file_name("nix.conf.before-snowbank").exists());
}
