//! The entry in netrc is one that curl, and so Nix, takes: whatever else is in the file.

use super::*;

/// A private cache with a path in it, and a client that may fetch from it.
fn place() -> (Server, NixStore, Client, String) {
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "team", "--private"]).success();
    let path = trees::add_tiny(&store, 1, "guarded").remove(0);
    let _ = Client::of(&server, &store).push_to("team", &[&path], &[]).success();
    let client = Client::at(&server.url(), &server.token("reader", &["team"], &[]), &store);
    (server, store, client, path)
}

#[test]
fn nix_fetches_whatever_else_is_in_the_file() {
    let (server, store, client, path) = place();
    let (netrc, host) = (client.home().join(".config/nix/netrc"), server.address().ip());
    for others in [
        "default login somebody password else\n".to_owned(),
        "machine a login b password \"c d\"\nmacdef init\ncd /pub\n".to_owned(),
        format!("# machine {host} login old password old\nMACHINE a LOGIN b PASSWORD default\n"),
        format!(
            "macdef x\nmachine {host} login snowbank password old\n\nmachine b login c password d"
        ),
        format!("machine a login \"machine {host}\" password x\n"),
        format!("machine {host}\n"),
    ] {
        process::write(&netrc, &others);
        let _ = client.run(&["use", "team"]).success();
        let other = NixStore::new();
        let mut command = other.command("nix-store");
        command
            .env("XDG_CONFIG_HOME", client.home().join(".config"))
            .env_remove("NIX_USER_CONF_FILES");
        command.args(["--realise", &path]);
        let _ = process::run(command).success();
        assert_eq!(other.hashes(&[&path]), store.hashes(&[&path]));
        let _ = client.run(&["use", "team", "--remove"]).success();
        assert_eq!(read(&netrc).trim_end(), others.trim_end());
    }
}

#[test]
fn an_entry_of_somebody_else_has_to_be_good() {
    let (server, _store, client, _path) = place();
    let (netrc, host) = (client.home().join(".config/nix/netrc"), server.address().ip());
    let wrong = format!("Machine {host}\n  login me\n  password wrong.t0ken.x\n");
    process::write(&netrc, &wrong);
    let output = client.run(&["use", "team"]).ended_with(3);
    for word in [netrc.to_str().unwrap(), &host.to_string(), "`snowbank use` did not make", "/team"]
    {
        assert!(output.stderr.contains(word), "`{word}` in {output}");
    }
    assert!(!output.said().contains("t0ken"), "no secret: {output}");
    assert_eq!(read(&netrc), wrong);
    assert!(!client.home().join(".config/nix/nix.conf").exists(), "nothing is written");

    let good = wrong.replace("wrong.t0ken.x", &server.token("other", &["team"], &[]));
    process::write(&netrc, &good);
    let _ = client.run(&["use", "team"]).success();
    assert_eq!(read(&netrc), good);

    process::write(&netrc, format!("{good}machine a login \"b\n"));
    let _ = client.run(&["use", "team"]).success();
    process::write(&netrc, format!("machine a login \"b\n{good}"));
    let output = client.run(&["use", "team"]).ended_with(3);
    assert!(output.stderr.contains("line 1 has a double quote"), "{output}");
}
