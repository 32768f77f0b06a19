//! What only Nix can tell, and what it cannot tell this user.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use snowbank_harness::{nix::NixDaemon, nobody::Nobody};

use super::*;

/// The same derivation and so the same store path, whatever its builder makes of the day.
const UNREPRODUCIBLE: &str = r#"derivation {
  name = "unreproducible"; system = builtins.currentSystem;
  builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  args = [ "-ec" "head -c 3000 /dev/urandom > $out" ];
}"#;

#[test]
fn a_netrc_for_root_alone_is_no_problem_where_a_daemon_fetches() {
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "team", "--private"]).success();
    let root = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "daemon").remove(0);
    let _ = root.push_to("team", &[&path], &[]).success();
    let _ = root.run(&["use", "team", "--system"]).success();
    let conf = store.root().with_file_name("conf");
    assert_eq!(fs::metadata(conf.join("netrc")).unwrap().permissions().mode() & 0o777, 0o600);
    let daemon = NixDaemon::of(&store);
    let Some(nobody) = Nobody::of(&daemon, &store) else { return };
    let as_nobody = |args: &[&str]| {
        let mut command = nobody.command(process::binary("snowbank"));
        command.args(args).env("SNOWBANK_URL", server.url());
        command
    };
    let mut command = as_nobody(&["doctor", "team", "--json", "--path", &path]);
    command.env("SNOWBANK_TOKEN", server.token("reader", &["team"], &[]));
    let (code, checks) = doctor(command);
    let found =
        ["netrc", "daemon", "signature", "fetch", "misses"].map(|check| status(&checks, check));
    assert_eq!((code, found), (0, ["skipped", "ok", "ok", "skipped", "skipped"]), "{checks:#?}");
    let fetch =
        checks.iter().find(|check| check["check"] == "fetch").unwrap()["message"].as_str().unwrap();
    assert!(fetch.contains("daemon fetches") && fetch.contains("sudo snowbank doctor"), "{fetch}");

    // An address that differs from the one the daemon allows is ignored, and that is said.
    let text = fs::read_to_string(conf.join("nix.conf")).unwrap();
    let main = format!("{}/main", server.url());
    let key = snowbank_harness::Api::anonymous(&server).cache_info("main").public_keys.remove(0);
    let allowed =
        format!("{text}trusted-substituters = {main}/\nextra-trusted-public-keys = {key}\n");
    fs::write(conf.join("nix.conf"), &allowed).unwrap();
    let _ = process::run(as_nobody(&["use", "main"])).success();
    fs::write(
        conf.join("nix.conf"),
        allowed.replace(&format!("{main}/\n"), &format!("{main}?priority=30\n")),
    )
    .unwrap();
    let refused = process::run(as_nobody(&["use", "main"])).ended_with(3);
    for word in ["trusted-users", "compares whole addresses", "?priority=30"] {
        assert!(refused.stderr.contains(word), "`{word}` in {refused}");
    }
}

#[test]
fn a_narinfo_that_nix_remembers_with_another_hash_is_found() {
    let (server, one, other) = (Server::start(), NixStore::new(), NixStore::new());
    let path = one.build(UNREPRODUCIBLE).remove(0);
    assert_eq!(other.build(UNREPRODUCIBLE), [path.as_str()]);
    let (first, client) = (Client::of(&server, &one), Client::of(&server, &other));
    let _ = first.push(&[&path]).success();
    let _ = process::run(command(&client, &["use", "main"])).success();
    let mut ask = other.command("nix");
    ask.args(["path-info", "--store", &format!("{}/main", server.url()), &path])
        .env("HOME", client.home())
        .env("XDG_CACHE_HOME", client.home().join(".cache"));
    let _ = process::run(ask).success();

    let _ = first.run(&["delete", "main", &path, "--yes"]).success();
    let _ = client.push(&[&path]).success();
    let (token, second) = (server.root_token(), other.hashes(&[&path]).remove(0));
    process::wait_until("every replica serves the second", Duration::from_mins(1), || {
        server.replicas().iter().all(|replica| {
            let api = snowbank_harness::Api::new(&replica.url(), Some(&token));
            api.get(&snowbank_harness::craft::narinfo("main", &path)).text().contains(&second)
        })
    });
    let (code, checks) = examined(&client, &["main", "--path", &path]);
    assert_eq!(
        (code, status(&checks, "fetch"), status(&checks, "misses")),
        (0, "ok", "warn"),
        "{checks:#?}"
    );
    let check = checks.iter().find(|check| check["check"] == "misses").unwrap().to_string();
    assert!(check.contains("another NAR hash"), "{check}");
    let (_, checks) = examined(&client, &["main", "--path", &path]);
    assert_eq!(status(&checks, "misses"), "ok", "mended: {checks:#?}");
}

#[test]
fn messages_in_a_file_have_no_colors_and_a_failure_is_said_once() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let token = client.home().join(".config/snowbank/tokens/test");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let warned = client.run(&["whoami"]).success();
    assert!(warned.stderr.contains("WARN") && !warned.stderr.contains('\u{1b}'), "{warned:?}");

    let mut tls = client.command(&["whoami"]);
    tls.env("SNOWBANK_URL", server.url().replace("http:", "https:"));
    let failed = process::run(tls).ended_with(6);
    assert_eq!(failed.stderr.lines().count(), 1, "{failed}");
}

#[test]
fn an_address_that_no_proxy_covers_is_reached_without_one() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let dead = format!("http://{}", process::own_address());
    for (exceptions, code) in [("*", 0), ("127.0.0.0/8", 0), ("localhost", 6)] {
        let mut command = client.command(&["whoami"]);
        command.env("http_proxy", &dead).env("NO_PROXY", exceptions);
        let _ = process::run(command).ended_with(code);
    }
}
