//! Behind a proxy with a body limit: bundles shrink until they pass.

use snowbank_harness::{Client, Nginx, NixStore, Random, Server, oracle::Oracle, trees};

fn push_through(body_limit: Option<&str>) -> Vec<snowbank_harness::nginx::Request> {
    let (server, store) = (Server::start(), NixStore::new());
    let proxy = Nginx::before(&server, body_limit);
    let mut paths = trees::build_graph(&store, 10, 16, "proxied");
    paths.push(trees::add_noise(&store, &mut Random::fixed(13), "noise", 24 << 20));
    let _ = Client::at(&proxy.url(), &server.root_token(), &store).push(&paths).success();
    Oracle::main(&server).assert_mirrors(&store, &paths);

    // And down again through the proxy, by Nix.
    let other = NixStore::new();
    let key = Oracle::main(&server).public_key();
    let _ = other.substitute(&format!("{}/main", proxy.url()), &key, &paths).success();
    assert_eq!(other.hashes(&paths), store.hashes(&paths));
    proxy.requests_to("chunks")
}

#[test]
fn a_push_gets_through_nginx_with_its_default_limit_of_one_mebibyte() {
    let bundles = push_through(None);
    let refused = bundles.iter().filter(|bundle| bundle.status == 413).count();
    assert!(refused > 0, "nginx should have refused the first bundles: {bundles:?}");
    // It learns: what is refused does not grow with what is sent.
    assert!(refused < 16, "{refused} of {} bundles were refused", bundles.len());
}

#[test]
fn a_push_gets_through_nginx_with_a_limit_of_eight_mebibytes() {
    let bundles = push_through(Some("8m"));
    assert!(bundles.len() < 30, "bundles stay large: {}", bundles.len());
}

#[test]
fn a_push_gets_through_nginx_without_a_limit() {
    let bundles = push_through(Some("0"));
    assert!(bundles.iter().all(|bundle| bundle.status == 200), "{bundles:?}");
    assert!(
        bundles.iter().all(|bundle| bundle.request_bytes < 17 << 20),
        "no body is over 16 MiB: {bundles:?}"
    );
}
