//! When a path was last used: reads and pushes are noted, a moment later and by nobody who waits.

use std::time::Duration;

use serde_json::Value;
use snowbank_harness::{
    Api, Client, NixStore, Server, craft, database, oracle::Oracle, process, trees,
};

/// Paths that were used since they were pushed.
const USED: &str = "SELECT count(*) FROM paths WHERE last_used IS NOT NULL";

/// When a path was last used, as the server tells.
fn last_used(client: &Client, cache: &str, path: &str) -> Option<i64> {
    let info = client.run(&["path", "info", cache, path, "--json"]).success().stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    info["last_used"].as_i64()
}

/// A server with a cache that notes uses to the second, and paths that were pushed to it some
/// seconds ago.
fn pushed(count: usize) -> (Server, NixStore, Client, Vec<String>) {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    client.run(&["cache", "create", "brief", "--public", "--retention", "16s"]).succeeds();
    let paths = trees::add_tiny(&store, count, "used");
    let _ = client.push_to("brief", &paths, &[]).success();
    std::thread::sleep(Duration::from_secs(3));
    (server, store, client, paths)
}

#[test]
fn a_narinfo_and_a_nar_that_were_read_are_noted_within_seconds() {
    let (server, _store, client, paths) = pushed(5);
    let anonymous = Api::anonymous(&server);
    assert_eq!(anonymous.get(&craft::narinfo("brief", &paths[0])).status, 200);
    assert_eq!(anonymous.head(&craft::narinfo("brief", &paths[1])).status, 200);
    // A NAR alone, twice: the second time it is one that the server has kept.
    let info = Oracle::new(&server, "brief", Api::root(&server)).narinfo(&paths[2]).unwrap();
    process::wait_until("the narinfo's use is noted", Duration::from_secs(20), || {
        database::number(&server, USED) == 3
    });
    let first = last_used(&client, "brief", &paths[2]).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    for _ in 0..2 {
        assert_eq!(anonymous.get(&format!("/brief/{}", info.url)).status, 200);
    }
    process::wait_until("the NAR's use is noted", Duration::from_secs(20), || {
        last_used(&client, "brief", &paths[2]).unwrap() > first
    });
    assert_eq!(database::number(&server, USED), 3, "what nobody read is not noted");
    let shown = client.run(&["path", "info", "brief", &paths[0]]).success().stdout;
    assert!(shown.contains("last used"), "{shown}");
    assert_eq!(last_used(&client, "brief", &paths[4]), None);
}

#[test]
fn what_was_read_before_a_stop_is_noted_by_it() {
    let (mut server, _store, client, paths) = pushed(2);
    assert_eq!(Api::anonymous(&server).get(&craft::narinfo("brief", &paths[0])).status, 200);
    server.restart();
    assert!(last_used(&client, "brief", &paths[0]).is_some());
    assert_eq!(last_used(&client, "brief", &paths[1]), None);
}

#[test]
fn a_push_that_finds_a_path_counts_as_its_use_at_once() {
    let (server, store, client, paths) = pushed(3);
    let dry = client.push_to("brief", &paths, &["--dry-run"]).success();
    assert_eq!((dry.present(), database::number(&server, USED)), (3, 0), "a question is no use");
    let push = client.push_to("brief", &paths[..2], &[]).success();
    assert_eq!((push.present(), database::number(&server, USED)), (2, 2));
    assert_eq!(last_used(&client, "brief", &paths[2]), None);

    // Where paths are kept for long, one that was used within the hour is not written anew.
    let others = trees::add_tiny(&store, 2, "kept");
    for _ in 0..2 {
        let _ = client.push(&others).success();
    }
    assert_eq!(database::number(&server, USED), 2);
}
