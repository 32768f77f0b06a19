//! Collections as an operator meets them: what goes and why, what stays, and what that does to the
//! storage.

mod commands;
mod compaction;
mod kept;
mod limits;
mod objects;
mod sizes;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use snowbank_core::wire::MissingChunksResponse;
use snowbank_harness::{
    Api, Random, Server, collection,
    craft::{Deposit, Node},
    database,
    oracle::Oracle,
    process,
};

/// A path with contents of its own that do not compress.
fn path(random: &mut Random, name: &str, kibibytes: usize) -> Deposit {
    let node = Node::File(random.bytes(kibibytes << 10));
    Deposit::of(random, name, &node)
}

/// Base names, for comparisons with what a report names.
fn names<'a>(paths: impl IntoIterator<Item = &'a Deposit>) -> BTreeSet<String> {
    paths.into_iter().map(|path| path.base_name().to_owned()).collect()
}

fn configure(server: &Server, settings: &[&str]) {
    server.command(&[&["cache", "configure", "main"], settings].concat()).succeeds();
}

/// Everything that a collection may change.
fn state(server: &Server) -> [i64; 8] {
    let [live, dead] = collection::packs(server);
    let noted =
        "SELECT (SELECT count(*) FROM unreferenced_nars) + (SELECT count(*) FROM unnamed_objects)";
    let (paths, nars, chunks) =
        (database::paths(server), database::nars(server), database::chunks(server));
    let bytes = i64::try_from(server.stored_bytes()).unwrap();
    [
        paths,
        nars,
        chunks,
        live,
        dead,
        database::number(server, noted),
        collection::objects(server),
        bytes,
    ]
}

/// Asserts that these are out of sight on every replica within the 5 s that answers may be kept.
#[track_caller]
fn assert_gone(server: &Server, paths: &[&Deposit]) {
    let began = Instant::now();
    for replica in server.replicas() {
        let api = Api::new(&replica.url(), Some(&server.root_token()));
        while let Some(path) =
            paths.iter().find(|path| api.get(&path.narinfo()).status != StatusCode::NOT_FOUND)
        {
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{} is there after 5 s",
                path.store_path
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Asserts that these are served, every byte.
#[track_caller]
fn assert_served(server: &Server, paths: &[&Deposit]) {
    let oracle = Oracle::main(server);
    for path in paths {
        assert_eq!(oracle.assert_whole(&path.store_path).nar_hash, path.nar_hash());
    }
}

/// Waits until so many paths have a use that is written down.
fn wait_for_uses(server: &Server, paths: i64) {
    process::wait_until("uses are written", Duration::from_secs(30), || {
        database::number(server, "SELECT count(*) FROM paths WHERE last_used IS NOT NULL") >= paths
    });
}

/// How many of a path's chunks the server would want to be sent.
#[track_caller]
fn missing_chunks(api: &Api, path: &Deposit) -> usize {
    let names: Vec<u8> =
        path.encoded.iter().flat_map(|chunk| *chunk.header.name.as_bytes()).collect();
    let answer = api.post_bytes("/api/v1/caches/main/missing-chunks", names);
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json::<MissingChunksResponse>().missing.len()
}
