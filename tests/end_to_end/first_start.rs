//! The first start makes everything, says what to do next, and later starts make nothing anew.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use snowbank_harness::{Api, Client, NixStore, Scratch, Server, process, trees};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode()
        & 0o777
}

#[test]
fn the_first_start_says_where_things_are_and_what_to_do_next() {
    let server = Server::start();
    let banner = server.banner();
    let key = Api::anonymous(&server).cache_info("main").public_keys.remove(0);
    for part in [
        server.data_dir().to_str().unwrap(),
        server.data_dir().join("root-token").to_str().unwrap(),
        "snowbank login",
        "snowbank push main",
        "substituters = ",
        "Substitute on this machine",
        "trusted-public-keys = ",
        &format!("{}/main", server.url()),
        &key,
    ] {
        assert!(banner.contains(part), "`{part}` is not in the banner:\n{banner}");
    }
    assert!(!banner.contains(&server.root_token()), "no secret is printed");
    assert!(!server.log().contains(&server.root_token()), "no secret is logged");
    assert!(banner.lines().count() <= 25, "a few lines:\n{banner}");
    assert!(key.split(':').next().unwrap().ends_with("-main-1"), "{key}");

    assert_eq!(mode(server.data_dir()), 0o700);
    for secret in ["root-token", "server-key"] {
        assert_eq!(mode(&server.data_dir().join(secret)), 0o600, "{secret}");
    }
}

#[test]
fn the_readme_shows_this_first_screen() {
    let scratch = Scratch::new("readme");
    let data = scratch.join("home/.local/share/snowbank");
    let server = Server::options().data_dir(&data).start();
    let key = Api::anonymous(&server).cache_info("main").public_keys.remove(0);
    let name = key.split(':').next().unwrap();
    let shown = server
        .banner()
        .replace(&server.url(), "http://127.0.0.1:8080")
        .replace(&format!("0.0.0.0:{}", server.address().port()), "0.0.0.0:8080")
        .replace(data.to_str().unwrap(), "DATA");
    let shown = shown.replace(&key, "KEY");
    let readme = fs::read_to_string(format!(
        "{}/../README.md",
        std::env::var("CARGO_MANIFEST_DIR").unwrap()
    ))
    .unwrap();
    let screen = readme
        .split("```")
        .map(|block| block.trim_start_matches("text\n"))
        .find(|block| block.starts_with("Snowbank is listening"))
        .unwrap();
    let screen = screen
        .replace("/home/me/.local/share/snowbank", "DATA")
        .replace("snowbank-0123456789-main-1:…", "KEY");
    assert_eq!(shown, screen, "{name}");
}

#[test]
fn a_second_start_makes_nothing_anew() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let paths = trees::add_tiny(&store, 3, "kept");
    let client = Client::of(&server, &store);
    let push = client.push(&paths).success();
    let before = (server.root_token(), Api::root(&server).cache_info("main").public_keys);
    server.restart();
    assert_eq!((server.root_token(), Api::root(&server).cache_info("main").public_keys), before);
    assert!(server.banner().contains("snowbank push main"), "{}", server.banner());
    assert_eq!(client.push(&paths).success().present(), 3);
    let oracle = snowbank_harness::oracle::Oracle::main(&server);
    oracle.assert_receipts(&push.receipts());
}

#[test]
fn two_servers_have_two_key_names() {
    let names = [Server::start(), Server::start()].map(|server| {
        let key = Api::anonymous(&server).cache_info("main").public_keys.remove(0);
        key.split(':').next().unwrap().to_owned()
    });
    assert_ne!(names[0], names[1], "Nix keeps one key per name");
}

#[test]
fn a_server_for_all_addresses_names_the_machine_for_others() {
    let scratch = Scratch::new("everywhere");
    let mut command = process::command(process::binary("snowbankd"), scratch.path());
    // Tests that run beside this one hold ports on addresses of their own.
    command.args(["--listen", "0.0.0.0:0", "--data-dir"]).arg(scratch.join("data"));
    let out = scratch.join("out");
    command.stdout(fs::File::create(&out).unwrap());
    let mut child = command.spawn().unwrap();
    let banner = || fs::read_to_string(&out).unwrap();
    let is_shown = || banner().contains("trusted-public-keys");
    process::wait_until("the banner", Duration::from_mins(1), || {
        is_shown() || child.try_wait().unwrap().is_some()
    });
    process::send(&child, rustix::process::Signal::TERM);
    let _ = child.wait().unwrap();
    let banner = banner();
    let base = banner
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("Snowbank is listening on ")
        .to_owned();
    let port = base.strip_prefix("http://127.0.0.1:").unwrap_or_else(|| panic!("{banner}"));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(
        banner.contains(&format!("extra-substituters = http://{}:{port}/main", host.trim())),
        "{banner}"
    );
    assert!(
        banner.contains(&format!("login local {base} <")) && !banner.contains("any machine"),
        "{banner}"
    );
}

/// Runs `snowbankd ARGS` in a home of its own until it ends.
fn snowbankd(scratch: &Scratch, args: &[&str]) -> process::Output {
    let mut command = process::command(process::binary("snowbankd"), scratch.path());
    command.args(args);
    process::Running::start(command, &[]).wait_for(Duration::from_secs(20))
}

#[test]
fn a_config_that_is_wrong_is_named_by_key_line_and_allowed_values() {
    let scratch = Scratch::new("config");
    let file = scratch.join("config.toml");
    let cases = [
        ("listen = \"127.0.0.1:0\"\nlissten = 1\n", vec!["lissten", ":2:"]),
        ("listen = \"somewhere\"\n", vec!["listen", ":1:"]),
        ("\n[log]\nformat = \"xml\"\n", vec!["format", ":3:", "text", "json"]),
        ("[limits]\nmemory = \"lots\"\n", vec!["memory", ":2:"]),
        ("[limits]\nmemory = \"1MiB\"\n", vec!["limits.memory", "64MiB"]),
        ("[limits]\nbundle-size = \"17MiB\"\n", vec!["bundle-size", "16MiB"]),
        ("[compression]\nlevel = 99\n", vec!["compression.level"]),
        ("[storage]\ntype = \"tape\"\n", vec!["tape", "local"]),
        ("[unknown]\nkey = 1\n", vec!["unknown"]),
    ];
    for (toml, words) in cases {
        process::write(&file, toml);
        let output = snowbankd(
            &scratch,
            &[
                "--config",
                file.to_str().unwrap(),
                "--data-dir",
                scratch.join("data").to_str().unwrap(),
            ],
        );
        assert!(!output.status.success(), "{toml}: {output}");
        for word in words.into_iter().chain(["config.toml"]) {
            assert!(output.stderr.contains(word), "`{word}` is not said of:\n{toml}\n{output}");
        }
        assert!(!scratch.join("data").exists(), "nothing is made with a wrong config: {toml}");
    }
}

#[test]
fn global_options_stand_before_or_after_the_subcommand() {
    let (server, scratch) = (Server::start(), Scratch::new("options"));
    let data = server.data_dir();
    let data = data.to_str().unwrap();
    for args in [
        ["--data-dir", data, "cache", "create", "before", "--public"],
        ["cache", "create", "after", "--public", "--data-dir", data],
    ] {
        let _ = snowbankd(&scratch, &args).success();
    }
    let again = snowbankd(&scratch, &["--data-dir", data, "cache", "create", "before"]);
    assert!(!again.status.success() && again.stderr.contains("before"), "{again}");
    for name in ["api", "with space", "-dash", "", "nix-cache-info", &"x".repeat(51)] {
        let output = snowbankd(&scratch, &["--data-dir", data, "cache", "create", name]);
        assert!(!output.status.success(), "{name}: {output}");
    }
}

#[test]
fn secrets_that_are_empty_or_gone_are_named() {
    let mut server = Server::start();
    server.terminate();
    let key = server.data_dir().join("server-key");
    let kept = fs::read(&key).unwrap();
    let data = server.data_dir().to_str().unwrap().to_owned();
    let scratch = Scratch::new("secrets");
    for contents in [&b""[..], b"  \n", b"not a key"] {
        fs::write(&key, contents).unwrap();
        let output = snowbankd(&scratch, &["--data-dir", &data, "--listen", "127.0.0.1:0"]);
        assert!(
            !output.status.success() && output.stderr.contains("server-key"),
            "{contents:?}: {output}"
        );
    }
    fs::remove_file(&key).unwrap();
    let output = snowbankd(&scratch, &["--data-dir", &data, "--listen", "127.0.0.1:0"]);
    assert!(!output.status.success() && output.stderr.contains("server-key"), "gone: {output}");
    // White space around a secret is no part of it.
    fs::write(&key, [b"\n ".as_slice(), kept.trim_ascii(), b" \n\n"].concat()).unwrap();
    server.start_again();
}

#[test]
fn two_servers_on_one_address_or_data_folder_say_so() {
    let server = Server::start();
    let scratch = Scratch::new("second");
    let address = server.address().to_string();
    let output = snowbankd(
        &scratch,
        &["--data-dir", scratch.join("data").to_str().unwrap(), "--listen", &address],
    );
    assert!(!output.status.success() && output.stderr.contains(&address), "{output}");
}
