//! `snowbank push --expires`: for what one job hands to the next.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use snowbank_harness::{Client, NixStore, Server, trees};

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Until when a path is kept, from now on, in minutes.
fn minutes_left(client: &Client, cache: &str, path: &str) -> Option<i64> {
    let info = client.run(&["path", "info", cache, path, "--json"]).success().stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    info["expires"].as_i64().map(|expires| (expires - now() + 30) / 60)
}

#[test]
fn what_is_pushed_again_is_kept_for_longer_and_never_shorter() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let closure = trees::build_graph(&store, 4, 2, "artifact");
    let left = || {
        let all: Vec<Option<i64>> =
            closure.iter().map(|path| minutes_left(&client, "main", path)).collect();
        assert!(all.iter().all(|one| *one == all[0]), "the whole closure: {all:?}");
        all[0]
    };
    let push = client.push_to("main", &closure, &["--expires", "60m"]).success();
    assert_eq!((push.uploaded(), left()), (closure.len(), Some(60)));
    for (options, expected) in [
        (&["--expires", "2h"][..], Some(120)),
        (&["--expires", "1h"], Some(120)),
        (&["--dry-run"], Some(120)),
        (&[], None),
        (&["--expires", "1h"], None),
    ] {
        let push = client.push_to("main", &closure, options).success();
        assert_eq!((push.present(), left()), (closure.len(), expected), "{options:?}");
    }
    let shown = client.run(&["path", "info", "main", &closure[0]]).success().stdout;
    assert!(!shown.contains("expires"), "{shown}");
    let at_once = client.push_to("main", &closure, &["--expires", "0s"]).ended_with(2);
    assert!(at_once.output.stderr.contains("over at once"), "{}", at_once.output);
    let bare = client.push_to("main", &closure, &["--expires", "24"]).ended_with(2);
    assert!(bare.output.stderr.contains("90d"), "{}", bare.output);
}

#[test]
fn what_is_promoted_stays() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    client.run(&["cache", "create", "production", "--public"]).succeeds();
    let path = trees::add_tiny(&store, 1, "promoted").remove(0);
    let _ = client.push_to("main", &[&path], &["--expires", "1h"]).success();
    let _ = client.push_to("production", &[&path], &["--expires", "1h"]).success();
    assert_eq!(minutes_left(&client, "production", &path), Some(60));
    client.run(&["cache", "copy", "main", "production", &path]).succeeds();
    assert_eq!(minutes_left(&client, "production", &path), None);
    assert_eq!(minutes_left(&client, "main", &path), Some(60), "the source is as it was");
    let shown = client.run(&["path", "info", "main", &path]).success().stdout;
    assert!(shown.contains("expires"), "{shown}");
}
