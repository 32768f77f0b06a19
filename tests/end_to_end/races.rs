//! Collections at the same time as everything that they must not harm: pushes of the very chunks
//! that they take away, one another, crashes, and writers and collectors that sleep for too long.
//! After each, the oracle.

mod crashes;
mod pauses;
mod pushes;
mod replicas;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use snowbank_harness::{
    Api, Gc, Pusher, Random, Server,
    collection::{self, Answered, Collected},
    craft::{Deposit, Node},
    database,
    oracle::Oracle,
};

/// Where a collection can be made to wait, in the order in which it comes there.
const STEPS: [&str; 8] = [
    "gc-after-mark",
    "gc-before-paths",
    "gc-before-nars",
    "gc-before-chunks",
    "gc-before-dead",
    "gc-before-claim",
    "compact-after-put",
    "gc-before-object-delete",
];

/// A path of so many KiB that do not compress.
fn path(random: &mut Random, name: &str, kibibytes: usize) -> Deposit {
    let node = Node::File(random.bytes(kibibytes << 10));
    Deposit::of(random, name, &node)
}

/// A closure of this person's own, references first: the same contents as everybody else's under
/// other names, and a root that refers to them.
fn closure(random: &mut Random, contents: &[Vec<u8>], name: &str) -> Vec<Deposit> {
    let part = |(number, nar): (usize, &Vec<u8>)| {
        Deposit::at(format!("/nix/store/{}-{name}-{number}", random.hash_chars()), nar.clone())
    };
    let mut paths: Vec<Deposit> = contents.iter().enumerate().map(part).collect();
    let references: Vec<&Deposit> = paths.iter().collect();
    let names: Vec<&str> = references.iter().map(|path| path.store_path.as_str()).collect();
    let text = names.join("\n");
    let node = Node::folder(&[("references", text.as_str())]);
    let root = Deposit::of(random, name, &node).referring_to(&references);
    paths.push(root);
    paths
}

/// Contents of several chunks each.
fn contents(random: &mut Random, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| Node::File(random.bytes(700 << 10)).nar()).collect()
}

fn all(paths: &[Deposit]) -> Vec<&Deposit> {
    paths.iter().collect()
}

fn push(api: &Api, paths: &[Deposit]) {
    let _ = Pusher::new(api, "main").push(&all(paths));
}

/// Deletes paths with all that refers to them.
#[track_caller]
fn delete(api: &Api, paths: &[Deposit]) {
    let names: Vec<&str> = paths.iter().map(|path| path.store_path.as_str()).collect();
    let answer =
        api.post_json("/api/v1/caches/main/delete", &json!({ "paths": names, "referrers": true }));
    assert!(answer.status.is_success(), "deleting {names:?}: {}", answer.text());
}

#[track_caller]
fn assert_served(server: &Server, paths: &[Deposit]) {
    let oracle = Oracle::main(server);
    for path in paths {
        assert_eq!(oracle.assert_whole(&path.store_path).nar_hash, path.nar_hash());
    }
}

/// Collects one time after the other until `stop`, for three minutes at most; gives what was done.
/// An answer that another collection is under way is no fault.
fn collect_until(api: &Api, stop: &AtomicBool) -> Vec<Collected> {
    collect_every(Duration::from_millis(20), api, stop)
}

/// The same with pauses between collections.
fn collect_every(pause: Duration, api: &Api, stop: &AtomicBool) -> Vec<Collected> {
    let (began, mut done) = (Instant::now(), Vec::new());
    while !stop.load(Ordering::Relaxed) && began.elapsed() < Duration::from_mins(3) {
        match Gc::without_grace().ask(api) {
            Ok(Answered::Done(one)) => done.push(one),
            Ok(Answered::Busy(_)) => {}
            Ok(Answered::Failed(why)) => panic!("a collection failed: {why}"),
            Err(error) => panic!("a collection got no answer: {error:#}"),
        }
        // For others that wait to have their turn.
        std::thread::sleep(pause);
    }
    done
}

/// Whether the garbage of this test has all gone: no more than these paths' own rows and objects
/// are left.
#[track_caller]
fn assert_only_these_are_left(server: &Server, paths: &[Deposit]) {
    let _ = collection::collect_all(&Api::root(server));
    let nars: BTreeSet<_> = paths.iter().map(Deposit::nar_hash).collect();
    let chunks: BTreeSet<_> =
        paths.iter().flat_map(|path| &path.encoded).map(|chunk| chunk.header.name).collect();
    let left = (database::nars(server), database::chunks(server));
    assert_eq!(
        left,
        (i64::try_from(nars.len()).unwrap(), i64::try_from(chunks.len()).unwrap()),
        "NARs and chunks"
    );
    collection::assert_no_pack_is_left_over(server);
}
