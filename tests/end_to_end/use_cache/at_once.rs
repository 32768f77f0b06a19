//! Several processes change the same files at once, and each change is there in the end.

use std::os::unix::fs::{MetadataExt as _, chown};

use super::*;
use snowbank_harness::process::Running;

#[test]
fn ten_caches_that_are_used_at_once_are_all_in_the_files() {
    let (server, store) = (Server::start(), NixStore::new());
    let names: Vec<String> = (0..10).map(|number| format!("p{number}")).collect();
    for name in &names {
        let private: &[&str] =
            if name.ends_with(['0', '1', '2']) { &["--private"] } else { &["--public"] };
        let _ = server.command(&[&["cache", "create", name.as_str()], private].concat()).success();
    }
    let client = Client::of(&server, &store);
    let runs: Vec<Running> =
        names.iter().map(|name| Running::start(client.command(&["use", name]), &[])).collect();
    for run in runs {
        let output = run.wait().success();
        assert!(output.stderr.contains("Nix now fetches from"), "{output}");
    }
    let text = read(&client.home().join(".config/nix/nix.conf"));
    for name in &names {
        assert_eq!(
            text.matches(&format!("extra-substituters = {}/{name}\n", server.url())).count(),
            1,
            "{text}"
        );
    }
    assert_eq!(
        read(&client.home().join(".config/nix/netrc")).lines().count(),
        1,
        "an entry per host"
    );
    // The last token that was made is for all three private caches.
    let _ = client.run(&["use", "p0", "p1", "p2"]).success();

    let runs =
        names.iter().map(|name| Running::start(client.command(&["use", name, "--remove"]), &[]));
    for run in runs.collect::<Vec<_>>() {
        let _ = run.wait().success();
    }
    assert_eq!(read(&client.home().join(".config/nix/nix.conf")), "");
    assert_eq!(read(&client.home().join(".config/nix/netrc")), "");
}

#[test]
fn ten_logins_at_once_are_all_remembered() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::new(&store);
    let login = |number: usize| {
        let command = client.command(&["login", &format!("s{number}"), &server.url()]);
        Running::start(command, server.root_token().as_bytes())
    };
    for run in (0..10).map(login).collect::<Vec<_>>() {
        let _ = run.wait().success();
    }
    let text = read(&client.home().join(".config/snowbank/client.toml"));
    for number in 0..10 {
        assert!(text.contains(&format!("[servers.s{number}]")), "{text}");
        let _ = client.run(&["whoami", &format!("s{number}")]).success();
    }
    assert_eq!(text.matches("default-server").count(), 1, "{text}");
}

#[test]
fn files_stay_their_owners_and_their_groups() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root may give files away");
        return;
    }
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "team", "--private"]).success();
    let client = Client::of(&server, &store);
    let conf = store.root().with_file_name("conf");
    let (netrc, nix_conf) = (conf.join("netrc"), conf.join("nix.conf"));
    process::write(&netrc, "# ours\n");
    for (file, mode, owner) in [(&netrc, 0o640, (0, 23_456)), (&nix_conf, 0o664, (12_345, 23_456))]
    {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        chown(file, Some(owner.0), Some(owner.1)).unwrap();
    }
    let _ = client.run(&["use", "team", "--system"]).success();
    let _ = client.run(&["use", "team", "--system", "--priority", "7"]).success();
    for (file, mode, owner) in [
        (&netrc, 0o640, (0, 23_456)),
        (&nix_conf, 0o664, (12_345, 23_456)),
        (&conf.join("nix.conf.before-snowbank"), 0o664, (12_345, 23_456)),
    ] {
        let found = fs::metadata(file).unwrap();
        assert_eq!(
            (found.mode() & 0o777, (found.uid(), found.gid())),
            (mode, owner),
            "{}",
            file.display()
        );
    }
    assert!(read(&netrc).contains("password ey") && read(&nix_conf).contains("priority=7"));

    // A login by root leaves a user's files the user's.
    let config = client.home().join(".config/snowbank");
    for file in [config.join("client.toml"), config.join("tokens/test")] {
        chown(&file, Some(12_345), Some(23_456)).unwrap();
    }
    let command = client.command(&["login", "test", &server.url(), "--default"]);
    let _ = process::Running::start(command, server.root_token().as_bytes()).wait().success();
    for file in [config.join("client.toml"), config.join("tokens/test")] {
        let found = fs::metadata(&file).unwrap();
        assert_eq!((found.uid(), found.gid()), (12_345, 23_456), "{}", file.display());
    }
}
