//! A push of what the cache has: one round of questions, nothing sent.

use snowbank_harness::{Client, Nginx, NixStore, Server, database, trees};

#[test]
fn a_second_push_asks_once_and_sends_nothing() {
    let (server, store) = (Server::start(), NixStore::new());
    let closure = trees::build_graph(&store, 60, 8, "again");
    let _ = Client::of(&server, &store).push(&closure).success();
    let (chunks, stored) = (database::chunks(&server), server.stored_bytes());

    // Another machine of the same person, and a witness before the server.
    let witness = Nginx::before(&server, Some("0"));
    let push = Client::at(&witness.url(), &server.root_token(), &store).push(&closure).success();

    assert_eq!((push.present(), push.uploaded()), (closure.len(), 0), "{}", push.output);
    assert_eq!(witness.requests_to("missing-paths").len(), 1);
    for endpoint in ["missing-chunks", "chunks", "paths"] {
        assert_eq!(witness.requests_to(endpoint).len(), 0, "requests to {endpoint}");
    }
    assert_eq!((database::chunks(&server), server.stored_bytes()), (chunks, stored));
}

#[test]
fn a_dry_run_sends_nothing_and_says_what_it_would_push() {
    let (server, store) = (Server::start(), NixStore::new());
    let closure = trees::build_graph(&store, 5, 2, "dry");
    let push = Client::of(&server, &store).push_to("main", &closure, &["--dry-run"]).success();
    assert_eq!((database::chunks(&server), database::paths(&server)), (0, 0));
    assert!(
        closure.iter().all(|path| push.output.said().contains(path.as_str())),
        "{}",
        push.output
    );
}
