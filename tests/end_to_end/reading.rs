//! What any Nix, proxy or CDN asks of a cache: addresses, headers, parts, and what is not there.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use snowbank_core::wire::{CommitLine, PathCommit};
use snowbank_harness::{
    Api, Client, NixStore, Random, Server, craft,
    craft::{Deposit, Node},
    oracle::Oracle,
    trees,
};

fn pushed() -> (Server, NixStore, String) {
    let (server, store) = (Server::start(), NixStore::new());
    let path =
        trees::add_files(&store, "readable", &[("text", b"a line of text\n".repeat(20_000))]);
    let _ = Client::of(&server, &store).push(&[&path]).success();
    (server, store, path)
}

#[test]
fn nix_cache_info_says_what_nix_wants_to_know() {
    let server = Server::start();
    let text = Api::anonymous(&server).get("/main/nix-cache-info").text();
    for line in ["StoreDir: /nix/store", "WantMassQuery: 1", "Priority: 41"] {
        assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
    }
}

#[test]
fn a_path_that_is_not_there_is_a_404_that_nobody_keeps() {
    let (server, _, _) = pushed();
    let api = Api::anonymous(&server);
    for address in [
        format!("/main/{}.narinfo", "0".repeat(32)),
        format!("/main/nar/{}.nar.zst", "0".repeat(52)),
        "/main/hello.narinfo".to_owned(),
        "/main/nar/hello.nar.zst".to_owned(),
        "/main/favicon.ico".to_owned(),
        "/nothing".to_owned(),
    ] {
        for answer in [api.get(&address), api.head(&address)] {
            assert_eq!(answer.status.as_u16(), 404, "{address}: {}", answer.text());
            assert_eq!(answer.header("cache-control"), "no-store", "{address}");
        }
    }
}

#[test]
fn narinfo_and_nar_have_the_headers_that_caches_need() {
    let (server, _, path) = pushed();
    let api = Api::anonymous(&server);
    let narinfo = api.get(&craft::narinfo("main", &path));
    assert_eq!(narinfo.header("content-type"), "text/x-nix-narinfo");
    assert!(!narinfo.header("cache-control").contains("private"), "{:?}", narinfo.headers);
    let info = Oracle::main(&server).narinfo(&path).unwrap();
    assert!(!info.url.contains("://") && !info.url.starts_with('/'), "relative: {}", info.url);
    assert!(info.url.starts_with(&format!("nar/{}.nar", info.nar_hash.to_nix32())), "{}", info.url);

    let address = format!("/main/{}", info.url);
    let nar = api.get(&address);
    assert_eq!(nar.header("content-length"), info.file_size.unwrap().to_string());
    assert_eq!(nar.header("accept-ranges"), "bytes");
    assert!(nar.header("cache-control").contains("immutable"), "{:?}", nar.headers);
    assert_eq!(nar.header("content-encoding"), "", "never a compression layer over NARs");
    assert_eq!(nar.header("etag"), format!("\"{}\"", info.file_hash.unwrap().to_nix32()));
    let head = api.head(&address);
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(
        (head.header("content-length"), head.header("etag")),
        (nar.header("content-length"), nar.header("etag"))
    );
    let head = api.head(&craft::narinfo("main", &path));
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));

    let unchanged = api.get_with(&address, &[("If-None-Match", &nar.header("etag"))]);
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));
    let compressed = api.get_with(&address, &[("Accept-Encoding", "gzip, br, zstd")]);
    assert!(compressed.body == nar.body && compressed.header("content-encoding").is_empty());
}

#[test]
fn ranges_beyond_the_end_backwards_and_malformed() {
    let (server, _, path) = pushed();
    let api = Api::anonymous(&server);
    let info = Oracle::main(&server).narinfo(&path).unwrap();
    let address = format!("/main/{}", info.url);
    let whole = api.get(&address).body;
    let len = whole.len();
    let part = |range: &str| api.get_with(&address, &[("Range", range)]);
    assert!(part("bytes=-100").body == whole[len - 100..]);
    assert!(part("bytes=10-").body == whole[10..]);
    assert!(part(&format!("bytes=10-{}", len + 1_000)).body == whole[10..]);
    for range in [format!("bytes={len}-"), format!("bytes={}-{}", len + 5, len + 9)] {
        let beyond = part(&range);
        assert_eq!(
            (beyond.status.as_u16(), beyond.header("content-range")),
            (416, format!("bytes */{len}")),
            "{range}"
        );
    }
    // What a server does not understand it ignores (RFC 9110, 14.2).
    for range in ["lines=1-2", "bytes=9-3", "bytes=a-b", "bytes=", "bytes=0-1,5-6"] {
        let ignored = part(range);
        assert!([200, 206, 416].contains(&ignored.status.as_u16()), "{range}: {}", ignored.status);
        assert!(ignored.status.as_u16() != 200 || ignored.body == whole, "{range}");
    }
    let stale = api.get_with(&address, &[("Range", "bytes=0-9"), ("If-Range", "\"another\"")]);
    assert!(
        stale.status.as_u16() == 200 && stale.body == whole,
        "If-Range that names something else"
    );
}

#[test]
fn a_signature_of_a_kind_that_nobody_here_knows_is_served_and_disturbs_no_nix() {
    let server = Server::start();
    let deposit =
        Deposit::of(&mut Random::fixed(63), "signed", &Node::folder(&[("file", "contents")]));
    let api = Api::root(&server);
    assert!(api.send_bundle(deposit.bundle()).status.is_success());
    // As long as one of ML-DSA-65.
    let foreign = format!("pq.example.org-1:{}", STANDARD.encode(vec![7; 3_309]));
    let commit = PathCommit { signatures: vec![foreign.clone()], ..deposit.commit() };
    let lines = api.commit(vec![commit]).commit_lines();
    assert!(matches!(lines.as_slice(), [CommitLine::Receipt(_)]), "{lines:?}");

    let oracle = Oracle::main(&server);
    let info = oracle.assert_whole(&deposit.store_path);
    assert!(info.signatures.iter().any(|one| one.to_string() == foreign), "{info:?}");
    let store = NixStore::new();
    let url = format!("{}/main", server.url());
    store.substitute(&url, &oracle.public_key(), &[&deposit.store_path]).succeeds();
    assert!(store.has(&deposit.store_path));

    // The client hands on what Nix has kept of it.
    let other = Server::start();
    assert_eq!(Client::of(&other, &store).push(&[&deposit.store_path]).success().uploaded(), 1);
    let info = Oracle::main(&other).assert_whole(&deposit.store_path);
    assert!(info.signatures.iter().any(|one| one.to_string() == foreign), "{info:?}");
}

#[test]
fn health_and_readiness_need_no_token() {
    let server = Server::start();
    let api = Api::anonymous(&server);
    for address in ["/healthz", "/readyz"] {
        assert_eq!(api.get(address).status.as_u16(), 200, "{address}");
    }
    assert_eq!(api.get("/api/v1/whoami").status.as_u16(), 401);
    let answer = Api::root(&server).get("/api/v1/whoami");
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    assert!(answer.json::<snowbank_core::wire::WhoAmI>().admin);
}
