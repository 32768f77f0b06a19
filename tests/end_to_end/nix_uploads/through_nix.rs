//! With the real Nix.

use snowbank_harness::{Api, Client, NixStore, Random, Server, oracle, oracle::Oracle, trees};

use super::copy;

/// What Nix writes by itself, or with the library that it links.
const COMPRESSIONS: [&str; 7] = ["xz", "bzip2", "zstd", "br", "gzip", "lz4", "none"];

#[test]
fn every_compression_arrives_and_is_substituted() {
    let (server, store) = (Server::start(), NixStore::new());
    let oracle = Oracle::main(&server);
    let mut all = Vec::new();
    for compression in COMPRESSIONS {
        let paths = trees::build_graph(&store, 5, 200, compression);
        let _ = copy(&server, &store, &format!("main?compression={compression}"), &paths).success();
        let closure = store.closure(&paths);
        assert!(closure.len() >= 5);
        for path in &closure {
            let _ = oracle.assert_whole(path);
        }
        all.extend(closure);
    }
    oracle.assert_mirrors(&store, &all);
    let other = NixStore::new();
    let url = format!("{}/main", server.url());
    let _ = other.substitute(&url, &oracle.public_key(), &all).success();
    other.verify();
    let third = NixStore::new();
    let _ = third.copy_from(&url, &oracle.public_key(), &all).success();
    assert_eq!(third.hashes(&all), store.hashes(&all));
    oracle::assert_check_is_clean(&server);
}

#[test]
fn what_came_by_one_door_is_there_for_the_others() {
    let (server, store) = (Server::start(), NixStore::new());
    let paths = trees::build_graph(&store, 6, 400, "doors");
    let _ = copy(&server, &store, "main", &paths).success();
    let stored = server.stored_bytes();
    // By our own client: all of it is present.
    let pushed = Client::of(&server, &store).push(&paths).success();
    assert!(pushed.receipts().iter().all(|one| one.status.to_string() == "present"));
    // By Nix to another cache, in another compression: no new chunk.
    let _ = server.command(&["cache", "create", "other"]).success();
    let _ = copy(&server, &store, "other?compression=zstd", &paths).success();
    // By Nix once more, and listings and debug info with it.
    let all = "other?compression=zstd&parallel-compression=true&write-nar-listing=1\
               &index-debug-info=1";
    let _ = copy(&server, &store, all, &paths).success();
    assert_eq!(server.stored_bytes(), stored, "chunks were stored again");
    let closure = store.closure(&paths);
    Oracle::new(&server, "other", Api::root(&server)).assert_mirrors(&store, &closure);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_private_cache_is_pushed_to_by_whoever_may_push_alone() {
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "secret", "--private"]).success();
    let paths = trees::add_tiny(&store, 4, "secret");
    let url = format!("{}/secret", server.url());
    let cases: [(&[&str], &[&str], bool); 3] =
        [(&[], &["secret"], true), (&["secret"], &[], false), (&["*"], &["main"], false)];
    for ((pull, push, works), path) in cases.into_iter().zip(&paths) {
        let token = server.token("nix", pull, push);
        let netrc = store.root().with_file_name("netrc-one");
        let line = format!("machine {} login nix password {token}\n", server.address().ip());
        snowbank_harness::process::write(&netrc, line);
        let netrc = netrc.display().to_string();
        let args = ["copy", "--to", &url, "--option", "netrc-file", &netrc, path];
        let copied = store.run("nix", &args);
        assert_eq!(copied.status.success(), works, "{copied}");
        let oracle = Oracle::new(&server, "secret", Api::root(&server));
        if works {
            let _ = oracle.assert_whole(path);
        } else {
            assert!(!oracle.visible(path));
        }
    }
    let anonymous = store.run("nix", &["copy", "--to", &url, &paths[3]]);
    assert!(!anonymous.status.success(), "{anonymous}");
}

#[test]
fn signatures_that_are_added_later_are_served() {
    let (server, store) = (Server::start(), NixStore::new());
    let path = trees::add_noise(&store, &mut Random::fixed(5), "signed", 1 << 20);
    let paths = [path.clone()];
    let _ = copy(&server, &store, "main", &paths).success();
    let (secret, public) = store.make_key("later-1");
    let sign = ["store", "sign", "--key-file", &secret.display().to_string(), &path];
    let _ = store.run("nix", &sign).success();
    // Nix sends a narinfo again where it brings signatures to a cache.
    let url = format!("{}/main", server.url());
    let mut command = store.command("nix");
    command
        .args(["store", "copy-sigs", "--store", &url, "--substituter", &store.uri(), &path])
        .args(super::netrc(&server, &store));
    let _ = snowbank_harness::process::run(command).success();
    let info = Oracle::main(&server).assert_whole(&path);
    assert!(info.signatures.iter().any(|one| one.name() == "later-1"), "{info:?}");
    let _ = NixStore::new().substitute(&url, &public, &[&path]).success();
}

#[test]
fn a_large_nar_is_uploaded_in_bounded_memory() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let path = trees::add_noise(&store, &mut Random::fixed(9), "large", 300 << 20);
    let _ = copy(&server, &store, "main?compression=none", &[path.clone()]).success();
    let _ = Oracle::main(&server).assert_whole(&path);
    let peak = server.peak_rss_bytes() >> 20;
    assert!(peak < 192, "{peak} MiB");
}
