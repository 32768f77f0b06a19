//! Who uploads with Nix's own commands is told by which ones it goes here.

use snowbank_harness::{Api, NixStore, Server, trees};

#[test]
fn nix_copy_and_nix_store_sign_say_how_to_push() {
    let (server, store) = (Server::start(), NixStore::new());
    let path = trees::add_tiny(&store, 1, "upload").remove(0);
    let url = format!("{}/main", server.url());
    let copied = store.copy_to(&url, &[&path]);
    assert!(!copied.status.success(), "{copied}");
    for word in ["snowbank push main", "snowbank cache copy FROM main"] {
        assert!(copied.stderr.contains(word), "{word}: {copied}");
    }

    let root = Api::root(&server);
    for address in [
        "/main/x.narinfo",
        "/main/nar/x.nar.xz",
        "/main/x.ls",
        "/main/log/x.drv",
        "/main/realisations/x.doi",
    ] {
        let answer = root.json(reqwest::Method::PUT, address, &serde_json::json!({}));
        assert!(matches!(answer.status.as_u16(), 404 | 405), "{address}: {}", answer.text());
        assert!(answer.text().contains("snowbank push main"), "{address}: {}", answer.text());
    }
    let other = root.json(reqwest::Method::DELETE, "/main/x.narinfo", &serde_json::json!({}));
    assert!(!other.text().contains("snowbank push"), "{}", other.text());
}
