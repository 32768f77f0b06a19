//! Where a push may come from: a daemon's socket, a single-user store, a store at another root or
//! with another name.

use snowbank_harness::{
    Client, NixStore, Server, database, nix::NixDaemon, oracle::Oracle, process, trees,
};

#[test]
fn a_push_through_a_daemons_socket() {
    let (server, store) = (Server::start(), NixStore::new());
    let closure = trees::build_graph(&store, 20, 4, "daemon");
    let daemon = NixDaemon::of(&store);
    let push = Client::of(&server, &store)
        .push_to("main", &closure, &["--store", &daemon.uri(&store)])
        .success();
    assert_eq!(push.uploaded(), closure.len());
    Oracle::main(&server).assert_mirrors(&store, &closure);
}

#[test]
fn a_push_from_a_store_named_by_its_folder() {
    let (server, store) = (Server::start(), NixStore::new());
    let path = trees::add_tiny(&store, 1, "folder").remove(0);
    let client = Client::of(&server, &store);
    let mut command = client.command(&["push", "main", &path, "--store"]);
    command.arg(store.root()).env_remove("NIX_REMOTE");
    let _ = process::run(command).success();
    Oracle::main(&server).assert_mirrors(&store, &[path]);
}

#[test]
fn a_store_in_another_directory_is_told_where_it_does_not_fit() {
    let (server, store) = (Server::start(), NixStore::new());
    let elsewhere = store.root().join("elsewhere");
    let client = Client::of(&server, &store);
    let file = client.home().join("file");
    process::write(&file, "a path that is not in /nix/store");
    let with = |mut command: std::process::Command| {
        command
            .env("NIX_REMOTE", "local")
            .env("NIX_STORE_DIR", elsewhere.join("store"))
            .env("NIX_STATE_DIR", elsewhere.join("state"))
            .env("NIX_LOG_DIR", elsewhere.join("log"));
        process::run(command)
    };
    let mut add = store.command("nix-store");
    add.arg("--add").arg(&file);
    let path = with(add).success().stdout.trim().to_owned();
    assert!(path.starts_with(elsewhere.to_str().unwrap()), "{path}");

    let output = with(client.command(&["push", "main", &path]));
    assert!(!output.status.success() && output.code() != Some(1), "{output}");
    assert!(output.stderr.contains("/nix/store"), "names the cache's store directory: {output}");
    assert_eq!(database::paths(&server), 0);
}

#[test]
fn a_store_that_cannot_be_asked_is_named() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = "/nix/store/00000000000000000000000000000000-any";
    for uri in ["unix:///no/such/socket", "ssh://elsewhere", "nonsense"] {
        let output = process::run(client.command(&["push", "main", path, "--store", uri]));
        assert_eq!(output.code(), Some(4), "{uri}: {output}");
        assert!(output.stderr.contains(uri.trim_start_matches("unix://")), "{uri}: {output}");
    }
}
