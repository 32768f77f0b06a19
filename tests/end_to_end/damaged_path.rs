//! A path that is damaged on the client's disk is reported by name and not pushed; the rest is.

use std::{fs, io::Write as _};

use snowbank_core::receipt::ReceiptLine;
use snowbank_harness::{Client, NixStore, Push, Server, oracle::Oracle, trees};

fn assert_reported(push: &Push, path: &str) {
    let said = &push.output.stderr;
    assert!(said.contains(path), "names the path: {}", push.output);
    assert!(
        said.contains(&format!("nix-store --repair-path {path}")),
        "says what mends it: {}",
        push.output
    );
    let failed = |line: &ReceiptLine| matches!(line, ReceiptLine::Failed { store_path, .. } if store_path == path);
    assert!(push.lines.iter().any(failed), "the receipts file has its failure: {:?}", push.lines);
}

#[test]
fn a_flipped_byte_is_reported_with_both_hashes_and_the_rest_is_pushed() {
    let (server, store) = (Server::start(), NixStore::new());
    let good = trees::add_tiny(&store, 3, "good");
    let bad =
        trees::add_files(&store, "damaged", &[("text", b"what it should say\n".repeat(1000))]);
    let recorded = store.hashes(&[&bad]).remove(0);
    let file = store.unlocked(&bad).join("text");
    let mut contents = fs::read(&file).unwrap();
    contents[777] ^= 1;
    fs::write(&file, contents).unwrap();

    let push = Client::of(&server, &store)
        .push(&[good.as_slice(), std::slice::from_ref(&bad)].concat())
        .ended_with(5);
    assert_reported(&push, &bad);
    let hashes = push.output.stderr.matches("sha256:").count();
    assert!(push.output.stderr.contains(&recorded) && hashes >= 2, "both hashes: {}", push.output);

    let oracle = Oracle::main(&server);
    assert!(!oracle.visible(&bad));
    oracle.assert_mirrors(&store, &good);
}

#[test]
fn a_file_that_grew_or_shrank_is_reported() {
    let (server, store) = (Server::start(), NixStore::new());
    let paths = ["grown", "shrunk"]
        .map(|name| trees::add_files(&store, name, &[("text", b"12345678".repeat(500))]));
    fs::OpenOptions::new()
        .append(true)
        .open(store.unlocked(&paths[0]).join("text"))
        .unwrap()
        .write_all(b"more")
        .unwrap();
    fs::write(store.unlocked(&paths[1]).join("text"), "less").unwrap();
    let push = Client::of(&server, &store).push(&paths).ended_with(5);
    for path in &paths {
        assert_reported(&push, path);
    }
}

#[test]
fn a_registered_path_that_is_gone_is_reported_and_what_refers_to_it_is_not_pushed() {
    let (server, store) = (Server::start(), NixStore::new());
    let closure = trees::build_graph(&store, 3, 2, "gone");
    let lost = closure.iter().find(|path| path.ends_with("gone-0")).unwrap();
    let good = trees::add_tiny(&store, 2, "good");
    store.lose(lost);

    let push =
        Client::of(&server, &store).push(&[closure.as_slice(), &good].concat()).ended_with(5);
    assert_reported(&push, lost);
    let oracle = Oracle::main(&server);
    assert!(
        closure.iter().all(|path| !oracle.visible(path)),
        "a visible path has a visible closure"
    );
    oracle.assert_mirrors(&store, &good);
}
