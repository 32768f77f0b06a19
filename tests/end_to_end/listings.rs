//! Listings: what strangers may see of them and how often, and that clients follow them through
//! pages without a path.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use snowbank_harness::{Api, Client, NixStore, Server, trees};

/// A server with few listings for strangers, a public cache with three paths, and a pin.
fn pushed(limits: &str) -> (Server, NixStore, Vec<String>) {
    let (server, store) =
        (Server::options().config(&format!("[limits]\n{limits}")).start(), NixStore::new());
    let paths = trees::add_tiny(&store, 3, "listed");
    let client = Client::of(&server, &store);
    let _ = client.push(&paths.iter().map(String::as_str).collect::<Vec<_>>()).success();
    client.run(&["pin", "main", "latest", &paths[0]]).succeeds();
    (server, store, paths)
}

#[test]
fn strangers_are_told_what_is_there_and_not_by_whom() {
    let (server, _, paths) = pushed("");
    let hash = &paths[0][11..43];
    let reader = server.token("reader", &["main"], &[]);
    let pusher = server.token("pusher", &[], &["main"]);
    let root = server.root_token();
    for (token, sees) in
        [(None, false), (Some(&reader), false), (Some(&pusher), true), (Some(&root), true)]
    {
        let api = Api::new(&server.url(), token.map(String::as_str));
        let ask = |what: &str| -> Value { api.get(&format!("/api/v1/caches/main/{what}")).json() };
        let listed = ask("paths");
        assert_eq!(listed["paths"].as_array().unwrap().len(), 3);
        let found = [
            listed["paths"][0]["pushed_by"].clone(),
            ask(&format!("paths/{hash}"))["pushed_by"].clone(),
            ask("pins")["pins"][0]["created_by"].clone(),
            ask("pins/latest")["created_by"].clone(),
            ask("pins/latest")["history"][0]["created_by"].clone(),
        ];
        let expected = if sees { json!("root") } else { Value::Null };
        assert!(found.iter().all(|subject| *subject == expected), "{token:?}: {found:?}");
    }
    let store = NixStore::new();
    let stranger = Client::at(&server.url(), &reader, &store);
    let shown = stranger.run(&["path", "info", "main", &paths[0]]).success().stdout;
    assert!(shown.contains("pushed ") && !shown.contains(" by "), "{shown}");
    let shown = stranger.run(&["pin", "show", "main", "latest"]).success().stdout;
    assert!(shown.contains("pinned ") && !shown.contains(" by "), "{shown}");
    assert!(stranger.run(&["path", "list", "main"]).success().stdout.lines().count() == 4);
}

#[test]
fn a_stranger_has_a_rate_and_whoever_has_a_token_has_none() {
    let (server, _, paths) = pushed("anonymous-listings = 8\n");
    let (stranger, root) = (Api::anonymous(&server), Api::root(&server));
    let hash = &paths[0][11..43];
    let addresses = ["paths?pattern=nosuch*", "pins", &format!("paths/{hash}"), "withdrawn"];
    let replicas = server.replicas().len();
    let answered = (0..12 * replicas).filter(|turn| {
        let address = format!("/api/v1/caches/main/{}", addresses[turn % addresses.len()]);
        stranger.get(&address).status == 200
    });
    // Four at once, and another one for each 7.5 s.
    let answered = answered.count();
    assert!((4..=5 * replicas).contains(&answered), "{answered}");
    let refused = stranger.get("/api/v1/caches/main/pins");
    let message = refused.refused(429, "busy");
    assert!(message.contains("anonymous-listings"), "{message}");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // A cache that is not there is no different, and what Nix reads has no such rate.
    stranger.get("/api/v1/caches/absent/pins").refused(429, "busy");
    for _ in 0..20 {
        assert_eq!(stranger.get(&format!("/main/{hash}.narinfo")).status, 200);
        assert_eq!(root.get("/api/v1/caches/main/pins").status, 200);
    }
    assert_eq!(stranger.get("/readyz").status, 200);
}

#[test]
fn narinfos_and_health_do_not_wait_for_listings() {
    let (server, _, paths) = pushed("anonymous-listings = 1000000\n");
    let hash = paths[0][11..43].to_owned();
    let until = Instant::now() + Duration::from_secs(3);
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let api = Api::anonymous(&server);
                while Instant::now() < until {
                    let status =
                        api.get("/api/v1/caches/main/paths?pattern=nosuch*").status.as_u16();
                    assert!([200, 429].contains(&status), "{status}");
                }
            });
        }
        let api = Api::anonymous(&server);
        while Instant::now() < until {
            let began = Instant::now();
            assert_eq!(api.get(&format!("/main/{hash}.narinfo")).status, 200);
            assert_eq!(api.get("/readyz").status, 200);
            slowest = slowest.max(began.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn pins_are_limited_and_a_push_says_so_too() {
    let (server, store, paths) = pushed("pins-per-cache = 2\n");
    let client = Client::of(&server, &store);
    client.run(&["pin", "main", "second", &paths[1]]).succeeds();
    let refused = client.run(&["pin", "main", "third", &paths[1]]);
    assert!(
        !refused.status.success() && refused.stderr.contains("pins-per-cache"),
        "{}",
        refused.stderr
    );
    let refused = server.command(&["pin", "main", "third", &paths[1]]);
    assert!(!refused.status.success() && refused.stderr.contains("pin rm"), "{}", refused.stderr);
    let new = trees::add_files(&store, "new", &[("a", b"a".to_vec())]);
    let refused = client.run(&["push", "main", &new, "--pin", "third"]);
    assert!(
        !refused.status.success() && refused.stderr.contains("pins-per-cache"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        Api::root(&server).get(&format!("/main/{}.narinfo", &new[11..43])).status,
        200,
        "it was pushed"
    );
    client.run(&["push", "main", &new, "--pin", "second"]).succeeds();
    let listed: Value =
        serde_json::from_str(&client.run(&["pin", "list", "main", "--json"]).success().stdout)
            .unwrap();
    assert_eq!(listed["pins"].as_array().unwrap().len(), 2);
}
