//! A destroyed cache keeps its room for as long as it can be restored; a purge ends that, in both
//! programs.

use snowbank_harness::{Api, Client, NixStore, Server, oracle, process::Output, trees};

/// A server with a cache that alone has a path of a megabyte, destroyed.
fn destroyed() -> (Server, Client, NixStore) {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let noise = snowbank_harness::Random::fixed(26).bytes(1 << 20);
    let path = trees::add_files(&store, "large", &[("noise", noise)]);
    let shared = trees::add_tiny(&store, 1, "shared").remove(0);
    client.run(&["cache", "create", "old-team", "--public"]).succeeds();
    let _ = client.push_to("old-team", &[&path], &["--pin", "release"]).success();
    let _ = client.push_to("old-team", &[&shared], &[]).success();
    let _ = client.push_to("main", &[&shared], &[]).success();
    client.run(&["cache", "destroy", "old-team", "--yes"]).succeeds();
    (server, client, store)
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"))
}

#[test]
fn a_collection_says_what_a_destroyed_cache_holds_and_a_purge_gives_it_back() {
    let (server, client, _store) = destroyed();
    let collected = server.command(&["gc", "--grace", "0s", "--yes"]).success();
    let note =
        collected.stdout.lines().find(|line| line.starts_with("note: `old-team` was destroyed"));
    let note = note.unwrap_or_else(|| panic!("{collected}"));
    assert!(
        note.contains("until 20")
            && note.contains("`cache purge old-team`")
            && note.contains("MiB"),
        "{note}"
    );
    let report = json(&server.command(&["gc", "--dry-run", "--json"]).success());
    let caches = report["caches"].as_array().unwrap();
    let until = |name: &str| {
        caches.iter().find(|cache| cache["name"] == name).unwrap()["restorable_until"].as_i64()
    };
    let started = report["started"].as_i64().unwrap();
    assert!(until("main").is_none());
    assert!(
        until("old-team")
            .is_some_and(|until| (started + 6 * 86_400..=started + 7 * 86_400).contains(&until))
    );
    assert!(server.stored_bytes() > 1 << 20);

    // Nobody loses a cache by a word: it asks for the name, and only what was destroyed goes.
    let unasked = client.run(&["cache", "purge", "old-team"]).ended_with(2);
    assert!(unasked.stderr.contains("--yes") && unasked.stderr.contains("for good"), "{unasked}");
    let in_use = client.run(&["cache", "purge", "main", "--yes"]);
    assert!(!in_use.status.success() && in_use.stderr.contains("cache destroy main"), "{in_use}");
    let absent = client.run(&["cache", "purge", "nothing", "--yes"]);
    assert!(!absent.status.success() && absent.stderr.contains("cache list"), "{absent}");

    let purged = client.run(&["cache", "purge", "old-team", "--yes"]).success();
    assert!(
        purged.stdout.contains("gone for good, with 2 path(s)")
            && purged.stdout.contains("gc --grace 0s"),
        "{purged}"
    );
    let restored = client.run(&["cache", "restore", "old-team"]);
    assert!(!restored.status.success(), "{restored}");
    server.command(&["gc", "--grace", "0s", "--yes"]).succeeds();
    assert!(server.stored_bytes() < 1 << 18, "{} bytes are stored", server.stored_bytes());

    let audit = json(&server.command(&["audit", "--action", "cache.purge", "--json"]).success());
    let outcomes: Vec<&str> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["outcome"].as_str().unwrap())
        .collect();
    assert!(outcomes.contains(&"ok"), "{outcomes:?}");
    client.run(&["cache", "create", "old-team"]).succeeds();
    assert_eq!(
        json(&client.run(&["pin", "list", "old-team", "--json"]).success())["pins"],
        serde_json::json!([])
    );
    oracle::assert_check_is_clean(&server);
}

#[test]
fn on_the_host_a_purge_needs_no_token_and_over_http_an_administrators() {
    let (server, _client, _store) = destroyed();
    let manager =
        server.command(&["token", "create", "--sub", "lead", "--configure", "*"]).success();
    let api = Api::new(&server.url(), Some(manager.stdout.trim()));
    api.post_json("/api/v1/caches/old-team/purge", &serde_json::json!({}))
        .refused(403, "forbidden");
    let unasked = server.command(&["cache", "purge", "old-team"]);
    assert!(!unasked.status.success() && unasked.stderr.contains("--yes"), "{unasked}");
    let purged =
        json(&server.command(&["cache", "purge", "old-team", "--yes", "--json"]).success());
    assert_eq!((&purged["paths"], &purged["is_gone"]), (&2.into(), &true.into()), "{purged}");
    server.command(&["cache", "ensure", "old-team"]).succeeds();
    oracle::assert_check_is_clean(&server);
}
