//! The main job: a closure goes from one Nix store through Snowbank to another, signatures checked
//! on the way.

use snowbank_harness::{Client, NixStore, Server, count, oracle, oracle::Oracle, trees};

const MIB: u64 = 1 << 20;

#[test]
fn a_built_closure_reaches_an_empty_store_signed_and_identical() {
    let (server, store) = (Server::start(), NixStore::new());
    let closure = trees::build_graph(&store, 300, 8, "deposit");

    let push = Client::of(&server, &store).push(&closure).success();
    assert_eq!(
        (push.uploaded(), push.receipts().len()),
        (closure.len(), closure.len()),
        "{}",
        push.output
    );

    let oracle = Oracle::main(&server);
    oracle.assert_receipts(&push.receipts());
    oracle.assert_mirrors(&store, &closure);
    oracle::assert_check_is_clean(&server);

    assert_substitutes(&server, &oracle, &store, &closure);
}

#[test]
fn real_trees_reach_an_empty_store_signed_and_identical() {
    let (server, store) = (Server::start(), NixStore::new());
    let trees = trees::of_this_machine(count(4, 12), 10 * MIB, 300 * MIB);
    let add = |(number, tree): (usize, &std::path::PathBuf)| {
        trees::add_copy(&store, tree, &format!("tree-{number}"))
    };
    let paths: Vec<String> = trees.iter().enumerate().map(add).collect();

    let push = Client::of(&server, &store).push(&paths).success();
    let oracle = Oracle::main(&server);
    oracle.assert_receipts(&push.receipts());
    oracle::assert_check_is_clean(&server);

    assert_substitutes(&server, &oracle, &store, &paths);
}

#[test]
fn nix_copy_takes_a_closure_and_wants_the_key() {
    let (server, store) = (Server::start(), NixStore::new());
    let closure = trees::build_graph(&store, 12, 4, "copied");
    let _ = Client::of(&server, &store).push(&closure).success();
    let url = format!("{}/main", server.url());

    let stranger = NixStore::new();
    let refused = stranger.run("nix", &["copy", "--from", &url, &closure[0]]);
    assert!(
        !refused.status.success() && refused.stderr.contains("signature"),
        "without the key: {refused}"
    );

    let other = NixStore::new();
    let key = Oracle::main(&server).public_key();
    let mut args =
        vec!["copy", "--from", url.as_str(), "--option", "trusted-public-keys", key.as_str()];
    args.extend(closure.iter().map(String::as_str));
    let _ = other.run("nix", &args).success();
    other.verify();
    assert_eq!(other.hashes(&closure), store.hashes(&closure));
}

/// Nix fetches `paths` into a new store, with signatures required, and finds them identical.
fn assert_substitutes(server: &Server, oracle: &Oracle, store: &NixStore, paths: &[String]) {
    let other = NixStore::new();
    let _ =
        other.substitute(&format!("{}/main", server.url()), &oracle.public_key(), paths).success();
    other.verify();
    assert_eq!(other.hashes(paths), store.hashes(paths));
    assert_eq!(other.closure(paths), store.closure(paths));
}
