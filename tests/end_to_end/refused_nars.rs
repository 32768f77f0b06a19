//! Bytes that are no NAR, under their true hash and size: what one machine could unpack elsewhere
//! than it should.

use snowbank_core::{nar::encode, wire::CommitLine};
use snowbank_harness::{
    Api, Random, Server,
    craft::{Deposit, Node},
    database,
};

/// Commits these bytes, honestly named, hashed and sized, and asserts that they are refused.
#[track_caller]
fn assert_refused(server: &Server, what: &str, nar: Vec<u8>) {
    let deposit = Deposit::of_nar(&mut Random::fixed(71), "hostile", nar);
    let api = Api::root(server);
    assert!(
        api.send_bundle(deposit.bundle()).status.is_success(),
        "{what}: chunks know nothing of NARs"
    );
    let lines = api.commit(vec![deposit.commit()]).commit_lines();
    let [CommitLine::Error { code, message, .. }] = lines.as_slice() else {
        panic!("{what}: {lines:?}")
    };
    assert_eq!(code, "nar-invalid", "{what}: {message}");
    assert_eq!((database::paths(server), database::nars(server)), (0, 0), "{what}");
}

fn file(text: &str) -> Node {
    Node::File(text.as_bytes().to_vec())
}

fn named(names: &[&[u8]]) -> Vec<u8> {
    Node::Folder(names.iter().map(|name| (name.to_vec(), file("contents"))).collect()).nar()
}

#[test]
fn names_that_lead_elsewhere() {
    let server = Server::start();
    for name in [&b".."[..], b".", b"", b"a/b", b"/etc", b"a\0b", &[b'n'; 256]] {
        assert_refused(&server, &format!("the name {}", name.escape_ascii()), named(&[name]));
    }
    let deep =
        Node::Folder(vec![(b"fine".to_vec(), Node::Folder(vec![(b"..".to_vec(), file("x"))]))]);
    assert_refused(&server, "a name deep inside", deep.nar());
}

#[test]
fn names_twice_or_out_of_order() {
    let server = Server::start();
    assert_refused(&server, "twice", named(&[b"a", b"a"]));
    assert_refused(&server, "unsorted", named(&[b"b", b"a"]));
    assert_refused(&server, "sorted as signed bytes", named(&[b"\xff", b"a"]));
    // A symlink out of the tree, and then a folder of the same name that would be written through
    // it.
    let through = Node::Folder(vec![
        (b"link".to_vec(), Node::Symlink(b"/etc".to_vec())),
        (b"link".to_vec(), Node::folder(&[("passwd", "root::0:0")])),
    ]);
    assert_refused(&server, "a symlink, then through it", through.nar());
}

#[test]
fn bytes_that_do_not_end_where_they_should() {
    let server = Server::start();
    let honest = named(&[b"a", b"b"]);
    assert_refused(&server, "cut off", honest[..honest.len() - 8].to_vec());
    assert_refused(&server, "cut off in a token", honest[..honest.len() - 3].to_vec());
    assert_refused(&server, "with more behind", [honest.as_slice(), b"more"].concat());
    assert_refused(&server, "two of them", honest.repeat(2));
    assert_refused(&server, "no NAR", b"#!/bin/sh\necho hello\n".to_vec());
    let mut padded = file("12345").nar();
    let at = padded.windows(5).position(|five| five == b"12345").unwrap() + 5;
    padded[at] = 1;
    assert_refused(&server, "padding that is not zero", padded);
    let mut long = Vec::new();
    encode::magic(&mut long);
    encode::regular_start(&mut long, false, 1 << 40);
    long.extend_from_slice(b"a file of a terabyte, it says");
    assert_refused(&server, "a file that says more than there is", long);
}

#[test]
fn a_tree_that_is_too_deep_and_a_symlink_to_nowhere() {
    let server = Server::start();
    let mut deep = Vec::new();
    encode::magic(&mut deep);
    for _ in 0..100_000 {
        encode::directory_start(&mut deep);
        encode::entry_start(&mut deep, b"d");
    }
    assert_refused(&server, "a hundred thousand folders deep", deep);
    assert_refused(&server, "an empty target", Node::Symlink(Vec::new()).nar());
    assert_refused(&server, "a target with NUL", Node::Symlink(b"a\0b".to_vec()).nar());
    assert_refused(&server, "a target of 5,000 bytes", Node::Symlink(vec![b't'; 5_000]).nar());
}
