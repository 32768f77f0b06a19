//! Commits whose fields are not true or not well formed.

use serde_json::{Value, json};
use snowbank_core::{
    hash::NarHash,
    wire::{CommitLine, PathCommit},
};
use snowbank_harness::{
    Api, Random, Server,
    craft::{Deposit, Node},
    database,
};

fn deposited() -> (Server, Deposit) {
    let server = Server::start();
    let deposit =
        Deposit::of(&mut Random::fixed(61), "honest", &Node::folder(&[("file", "contents")]));
    assert!(Api::root(&server).send_bundle(deposit.bundle()).status.is_success());
    (server, deposit)
}

#[track_caller]
fn assert_refused(server: &Server, code: &str, path: PathCommit) -> String {
    let lines = Api::root(server).commit(vec![path]).commit_lines();
    let [CommitLine::Error { code: actual, message, .. }] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(actual, code, "{message}");
    assert_eq!((database::paths(server), database::nars(server)), (0, 0), "nothing is visible");
    message.clone()
}

#[test]
fn what_is_honest_is_taken() {
    let (server, deposit) = deposited();
    let lines = Api::root(&server).commit(vec![deposit.commit()]).commit_lines();
    assert!(matches!(lines.as_slice(), [CommitLine::Receipt(_)]), "{lines:?}");
}

#[test]
fn another_nar_hash_or_size() {
    let (server, deposit) = deposited();
    let honest = deposit.commit();
    let real = honest.nar_hash.to_string();
    let mut hash = honest.clone();
    hash.nar_hash = NarHash::from_bytes([7; 32]);
    let message = assert_refused(&server, "nar-mismatch", hash);
    assert!(!message.contains(&real), "a refusal never says what the server computed: {message}");
    for size in [honest.nar_size + 1, honest.nar_size - 1, honest.nar_size + 8, 0, 1 << 33] {
        let path = PathCommit { nar_size: size, ..honest.clone() };
        let message = assert_refused(&server, "nar-mismatch", path);
        assert!(
            !message.contains(&honest.nar_size.to_string()) || size / 10 == honest.nar_size,
            "{message}"
        );
    }
}

#[test]
fn a_name_that_no_store_path_has() {
    let (server, deposit) = deposited();
    let hash = &deposit.store_path["/nix/store/".len()..][..32];
    let long = "x".repeat(212);
    for name in ["", "a b", "a/b", "ä", ".", "..", "a\n", "a!", ".-x", long.as_str()] {
        let path =
            PathCommit { store_path: format!("/nix/store/{hash}-{name}"), ..deposit.commit() };
        assert_refused(&server, "narinfo-invalid", path);
    }
    for hash in ["", "short", &"e".repeat(32), &hash.to_uppercase(), &hash[..31]] {
        let path = PathCommit { store_path: format!("/nix/store/{hash}-name"), ..deposit.commit() };
        assert_refused(&server, "narinfo-invalid", path);
    }
}

#[test]
fn a_path_in_another_store_directory() {
    let (server, deposit) = deposited();
    let base = &deposit.store_path["/nix/store/".len()..];
    for path in [
        format!("/gnu/store/{base}"),
        format!("/nix/store2/{base}"),
        base.to_owned(),
        String::new(),
    ] {
        assert_refused(
            &server,
            "store-dir-mismatch",
            PathCommit { store_path: path, ..deposit.commit() },
        );
    }
}

#[test]
fn a_reference_or_deriver_that_is_no_store_path() {
    let (server, deposit) = deposited();
    for name in ["", "hello", "../../etc/passwd", &deposit.store_path] {
        let path = PathCommit { references: vec![name.to_owned()], ..deposit.commit() };
        assert_refused(&server, "narinfo-invalid", path);
        let path = PathCommit { deriver: Some(name.to_owned()), ..deposit.commit() };
        assert_refused(&server, "narinfo-invalid", path);
    }
}

#[test]
fn a_signature_or_content_address_that_would_break_the_narinfo() {
    let (server, deposit) = deposited();
    for text in ["", "name", "name:notbase64", "a:b\nSig: c", ":AAAA"] {
        assert_refused(
            &server,
            "narinfo-invalid",
            PathCommit { signatures: vec![text.to_owned()], ..deposit.commit() },
        );
    }
    for text in ["", "text:sha256:x\nSig: evil:AAAA", "with space"] {
        assert_refused(
            &server,
            "narinfo-invalid",
            PathCommit { ca: Some(text.to_owned()), ..deposit.commit() },
        );
    }
}

#[test]
fn a_reference_that_is_not_visible() {
    let (server, deposit) = deposited();
    let absent = format!("{}-absent", Random::fixed(67).hash_chars());
    let path = PathCommit { references: vec![absent.clone()], ..deposit.commit() };
    let message = assert_refused(&server, "references-missing", path);
    assert!(message.contains(&absent), "{message}");
    // Named as upstream's, it is taken.
    let path =
        PathCommit { references: vec![absent.clone()], upstream: vec![absent], ..deposit.commit() };
    let lines = Api::root(&server).commit(vec![path]).commit_lines();
    assert!(matches!(lines.as_slice(), [CommitLine::Receipt(_)]), "{lines:?}");
}

#[test]
fn a_commit_that_is_not_the_json_it_should_be() {
    let (server, deposit) = deposited();
    let api = Api::root(&server);
    let good = json!({"paths": [deposit.commit()]});
    let with = |change: &dyn Fn(&mut Value)| {
        let mut bent = good.clone();
        change(&mut bent);
        bent
    };
    let bent = [
        json!({}),
        json!([]),
        json!({"paths": "all"}),
        with(&|body| body["paths"][0]["nar_hash"] = json!("sha256:short")),
        with(&|body| body["paths"][0]["nar_hash"] = json!("md5:00000000000000000000000000000000")),
        with(&|body| body["paths"][0]["nar_size"] = json!(-1)),
        with(&|body| body["paths"][0]["manifest"] = json!({"elsewhere": "x"})),
    ];
    for body in bent {
        let answer = api.post_json("/api/v1/caches/main/paths", &body);
        assert!(!answer.refused(400, "bad-request").is_empty(), "{body}");
    }
    api.post_bytes("/api/v1/caches/main/paths", b"{".to_vec()).refused(400, "bad-request");
    api.post_bytes("/api/v1/caches/main/missing-chunks", vec![0; 33]).refused(400, "bad-request");
    assert_eq!(database::paths(&server), 0);
}
