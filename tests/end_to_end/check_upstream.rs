//! `snowbank push --check-upstream`: what another binary cache has is not pushed, and named as that
//! cache's.

use snowbank_core::receipt::{ReceiptLine, UpstreamReason};
use snowbank_harness::{Client, NixStore, Server, oracle::Oracle, process, trees};

/// A server whose cache `main` has these paths.
fn upstream_with(store: &NixStore, paths: &[&String]) -> (Server, String) {
    let server = Server::start();
    let _ = Client::of(&server, store).push(paths).success();
    let url = format!("{}/main", server.url());
    (server, url)
}

/// What was skipped, and where it was found.
fn found(lines: &[ReceiptLine]) -> Vec<(&str, &str)> {
    let found = lines.iter().filter_map(|line| match line {
        ReceiptLine::SkippedUpstream {
            store_path, reason: UpstreamReason::FoundAt(url), ..
        } => Some((store_path.as_str(), url.as_str())),
        _ => None,
    });
    found.collect()
}

#[test]
fn what_the_other_cache_has_is_left_to_it_and_the_rest_is_pushed() {
    let store = NixStore::new();
    let closure = trees::build_graph(&store, 4, 2, "beneath");
    let lowest = closure.iter().find(|path| path.ends_with("beneath-0")).unwrap();
    let (upstream, url) = upstream_with(&store, &[lowest]);

    let server = Server::start();
    let client = Client::of(&server, &store);
    let push = client.push_to("main", &closure, &["--check-upstream", &url]).success();
    assert_eq!(found(&push.lines), [(lowest.as_str(), url.as_str())]);
    assert_eq!(push.uploaded(), closure.len() - 1, "{}", push.output);
    assert!(push.output.stderr.contains("1 left to upstream"), "{}", push.output);
    let oracle = Oracle::main(&server);
    assert!(!oracle.visible(lowest));

    // A machine with both caches gets the whole closure.
    let keys: Vec<String> = [&upstream, &server]
        .map(|one| snowbank_harness::Api::root(one).cache_info("main").public_keys.join(" "))
        .to_vec();
    let other = NixStore::new();
    let _ = other
        .substitute(&format!("{url} {}/main", server.url()), &keys.join(" "), &closure)
        .success();
    assert_eq!(other.hashes(&closure), store.hashes(&closure));

    // Without the check all of it is there afterwards; then nothing is missing, and nobody is
    // asked.
    let _ = client.push(&closure).success();
    assert!(oracle.visible(lowest));
    let again =
        client.push_to("main", &closure, &["--check-upstream", "http://127.0.0.1:9"]).success();
    assert_eq!(again.present(), closure.len());
}

#[test]
fn references_may_be_the_other_caches_where_only_the_roots_are_pushed() {
    let store = NixStore::new();
    let closure = trees::build_graph(&store, 3, 2, "roots");
    let root = closure.iter().find(|path| path.ends_with("roots-2")).unwrap();
    let rest: Vec<&String> = closure.iter().filter(|path| *path != root).collect();
    let (_upstream, url) = upstream_with(&store, &rest);
    let server = Server::start();
    let client = Client::of(&server, &store);
    let alone = client.push_to("main", &[root], &["--no-closure"]);
    assert_eq!(alone.output.code(), Some(12), "its references are nowhere: {}", alone.output);
    let push =
        client.push_to("main", &[root], &["--no-closure", "--check-upstream", &url]).success();
    assert_eq!(push.uploaded(), 1, "{}", push.output);
}

#[test]
fn other_contents_are_pushed() {
    let derivation = r#"derivation {
      name = "unreproducible"; system = builtins.currentSystem;
      builder = "/bin/sh"; PATH = "/usr/bin:/bin";
      args = [ "-ec" "head -c 3000 /dev/urandom > $out" ];
    }"#;
    let (one, other) = (NixStore::new(), NixStore::new());
    let path = one.build(derivation).remove(0);
    assert_eq!(other.build(derivation), [path.as_str()]);
    let (_upstream, url) = upstream_with(&one, &[&path]);
    let server = Server::start();
    let push = Client::of(&server, &other)
        .push_to("main", &[&path], &["--check-upstream", &url])
        .success();
    assert_eq!((push.uploaded(), found(&push.lines).len()), (1, 0));
    Oracle::main(&server).assert_mirrors(&other, &[path]);
}

#[test]
fn a_cache_that_does_not_answer_costs_a_warning_and_no_path() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let paths = trees::add_tiny(&store, 30, "unanswered");
    let nobody = format!("http://{}", process::own_address());
    let push = client.push_to("main", &paths, &["--check-upstream", &nobody]).success();
    assert_eq!(push.uploaded(), paths.len());
    assert_eq!(push.output.stderr.matches("may have is pushed").count(), 1, "{}", push.output);

    let both =
        client.push_to("main", &paths, &["--check-upstream", &nobody, "--no-upstream-filter"]);
    assert_eq!(both.output.code(), Some(2), "{}", both.output);
    let bad = client.push_to("main", &paths, &["--check-upstream", "s3://bucket"]);
    assert_eq!(bad.output.code(), Some(2), "{}", bad.output);
}
