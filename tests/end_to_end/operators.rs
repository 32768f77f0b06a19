//! What an operator does in a year, with `snowbank` over HTTP and with `snowbankd` on the host.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use snowbank_harness::{
    Api, Client, NixStore, Scratch, Server, oracle, oracle::Oracle, token, trees,
};

/// Waits until `is_so`, for at most the 5 s that a change may take to be seen everywhere.
#[track_caller]
fn within_five_seconds(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(5), "{what} took longer than 5 s");
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("{what}: {:?}", began.elapsed());
}

fn json(output: &snowbank_harness::Output) -> Value {
    serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
}

#[test]
fn a_cache_is_created_configured_renamed_destroyed_and_restored_from_anywhere() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let args = [
        "cache",
        "create",
        "team",
        "--public",
        "--retention",
        "90d",
        "--max-size",
        "200GB",
        "--json",
    ];
    let made = json(&client.run(&args).success());
    assert_eq!(
        (&made["name"], &made["public"], &made["retention"], &made["max_size"]),
        (&json!("team"), &json!(true), &json!("90d"), &json!("200GB"))
    );
    assert_eq!(made["url"], json!(format!("{}/team", server.url())));
    let path = trees::add_files(&store, "kept", &[("a", b"a".to_vec())]);
    let push = client.push_to("team", &[&path], &[]).success();
    assert_eq!(push.uploaded(), 1);

    let said = client.run(&["cache", "configure", "team"]).ended_with(2);
    assert!(said.stderr.contains("say what to change"), "{}", said.stderr);
    let said = client.run(&["cache", "configure", "team", "--compression-level", "20"]);
    assert!(said.stderr.contains("1 (fast) to 19 (small)"), "{}", said.stderr);
    client.run(&["cache", "configure", "team", "--private", "--priority", "30"]).succeeds();
    let anonymous = Api::anonymous(&server);
    within_five_seconds("a cache made private", || {
        anonymous.get("/team/nix-cache-info").status == 401
    });
    let root = Api::root(&server);
    // Whoever may read it has an answer of their own, which is believed for as long.
    let shows = || root.get("/team/nix-cache-info").text().contains("Priority: 30\n");
    within_five_seconds("the cache's priority", shows);
    let info = json(&client.run(&["cache", "info", "team", "--json"]).success());
    assert_eq!((&info["priority"], &info["retention"]), (&json!(30), &json!("90d")));

    client.run(&["cache", "rename", "team", "platform"]).succeeds();
    within_five_seconds("a renamed cache's old address", || {
        root.get("/team/nix-cache-info").status == 404
    });
    let renamed = Oracle::new(&server, "platform", root.clone());
    let _ = renamed.assert_whole(&path);

    let said = client.run(&["cache", "destroy", "platform"]);
    assert!(said.stderr.contains("--yes"), "nobody can be asked: {}", said.stderr);
    client.run(&["cache", "destroy", "platform", "--yes"]).succeeds();
    within_five_seconds("a destroyed cache", || root.get("/platform/nix-cache-info").status == 404);
    let said = client.run(&["cache", "create", "platform"]);
    assert!(said.stderr.contains("cache restore platform"), "{}", said.stderr);
    let listed = client.run(&["cache", "list"]).success().stdout;
    assert!(listed.contains("destroyed"), "{listed}");
    client.run(&["cache", "restore", "platform"]).succeeds();
    let _ = renamed.assert_whole(&path);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn the_host_needs_no_token() {
    let server = Server::start();
    server.command(&["cache", "ensure", "ci", "--public", "--priority", "20"]).succeeds();
    server.command(&["cache", "ensure", "ci", "--public", "--priority", "20"]).succeeds();
    server.command(&["cache", "configure", "ci", "--description", "for the jobs"]).succeeds();
    let listed = server.command(&["cache", "list"]).success().stdout;
    assert!(listed.contains("for the jobs") && listed.contains("main"), "{listed}");
    let key = server.command(&["cache", "export-key", "ci"]).success().stdout;
    let info = json(&server.command(&["cache", "info", "ci", "--json"]).success());
    let public = info["keys"][0]["public_key"].as_str().unwrap();
    assert_eq!(key.split(':').next(), public.split(':').next());
    server.command(&["cache", "rename", "ci", "jobs"]).succeeds();
    server.command(&["cache", "destroy", "jobs", "--yes"]).succeeds();
    server.command(&["cache", "restore", "jobs"]).succeeds();
    let audit = json(&server.command(&["audit", "--json"]).success());
    let actions: Vec<&str> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "cache.restore",
            "cache.destroy",
            "cache.rename",
            "cache.export-key",
            "cache.configure",
            "cache.create",
            "cache.create"
        ]
    );
    assert!(!audit.to_string().contains(key.trim()), "no secret is in the log");
}

#[test]
fn a_revoked_token_is_refused_by_every_replica_within_five_seconds() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let made = json(
        &client
            .run(&["token", "create", "--sub", "ci", "--pull", "*", "--label", "x y", "--json"])
            .success(),
    );
    let (id, secret) = (made["info"]["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let everywhere: Vec<Api> = server
        .replicas()
        .iter()
        .map(|replica| Api::new(&format!("http://{}", replica.address()), Some(secret)))
        .collect();
    for api in &everywhere {
        assert_eq!(api.get("/api/v1/whoami").status, 200);
    }
    client.run(&["token", "revoke", id]).succeeds();
    within_five_seconds("a revocation", || {
        everywhere.iter().all(|api| api.get("/api/v1/whoami").status == 401)
    });
    let message = everywhere[0].get("/api/v1/whoami").refused(401, "unauthenticated");
    assert!(message.contains("revoked"), "{message}");
    let shown = client.run(&["token", "show", id]).success().stdout;
    assert!(shown.contains("revoked") && !shown.contains(secret), "{shown}");
    let list = client.run(&["token", "list"]).success().stdout;
    assert!(list.contains("x y") && list.contains("*:pull") && !list.contains(secret), "{list}");
    let unknown = client.run(&["token", "show", "nothing"]).ended_with(15);
    assert!(unknown.stderr.contains("token list"), "{}", unknown.stderr);
}

#[test]
fn a_rotated_token_and_its_successor_both_push_during_the_grace_period() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let old = server.token("ci", &["*"], &["*"]);
    let id = token::claims(&old)["jti"].as_str().unwrap().to_owned();
    let new =
        client.run(&["token", "rotate", &id, "--grace", "1h"]).success().stdout.trim().to_owned();
    assert_eq!(token::claims(&new)["snowbank"], token::claims(&old)["snowbank"]);
    for (number, token) in [&old, &new].into_iter().enumerate() {
        let path = trees::add_files(
            &store,
            &format!("p{number}"),
            &[("a", vec![u8::try_from(number).unwrap()])],
        );
        assert_eq!(Client::at(&server.url(), token, &store).push(&[&path]).success().uploaded(), 1);
    }
    server.command(&["token", "revoke", "--subject", "ci"]).succeeds();
    within_five_seconds("a subject's revocation", || {
        [&old, &new]
            .iter()
            .all(|token| Api::new(&server.url(), Some(token)).get("/api/v1/whoami").status == 401)
    });
}

#[test]
fn every_use_of_what_changes_something_is_in_the_audit_log() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_files(&store, "audited", &[("a", b"a".to_vec())]);
    let _ = client.push(&[&path]).success();
    let weak = server.token("weak", &["main"], &[]);
    let refused = Api::new(&server.url(), Some(&weak)).json(
        Method::DELETE,
        "/api/v1/caches/main",
        &json!({}),
    );
    let _ = refused.refused(403, "forbidden");
    let _ = Api::anonymous(&server)
        .json(Method::POST, "/api/v1/tokens", &json!({}))
        .refused(401, "unauthenticated");
    let entries = || {
        let page = json(&client.run(&["audit", "--all", "--json", "--limit", "50"]).success());
        page["entries"].as_array().unwrap().clone()
    };
    let has = |subject: &str, action: &str, outcome: &str| {
        entries().iter().any(|entry| {
            entry["subject"] == json!(subject)
                && entry["action"] == json!(action)
                && entry["outcome"] == json!(outcome)
        })
    };
    within_five_seconds("the audit log", || {
        has("root", "push.chunks", "ok")
            && has("root", "push.paths", "ok")
            && has("weak", "cache.destroy", "forbidden")
            && has("nobody", "token.create", "unauthenticated")
            && has("host", "token.create", "ok")
    });
    let pushed =
        entries().into_iter().find(|entry| entry["action"] == json!("push.paths")).unwrap();
    assert!(pushed["detail"].as_str().unwrap().contains("audited"), "{pushed}");
    assert!(pushed["remote"].as_str().unwrap().starts_with("127."), "{pushed}");
    let only = json(
        &client.run(&["audit", "--action", "push.*", "--subject", "root", "--json"]).success(),
    );
    let usual = client.run(&["audit"]).success().stdout;
    assert!(usual.contains("push.paths") && !usual.contains("push.chunks"), "{usual}");
    assert!(
        only["entries"].as_array().unwrap().iter().all(|entry| entry["subject"] == json!("root")),
        "{only}"
    );
}

#[test]
fn machines_that_trust_either_key_substitute_during_the_overlap() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let old = Oracle::main(&server).public_key();
    let before = trees::add_files(&store, "before", &[("a", b"a".to_vec())]);
    let _ = client.push(&[&before]).success();
    let rotated = json(&client.run(&["cache", "rotate-key", "main", "--json"]).success());
    let new = rotated["keys"][1]["public_key"].as_str().unwrap().to_owned();
    // A push that began with the old key's receipts goes on with both.
    let after = trees::add_files(&store, "after", &[("b", b"b".to_vec())]);
    let _ = client.push(&[&after]).success();
    let narinfo =
        || Api::anonymous(&server).get(&format!("/main/{}.narinfo", &before[11..43])).text();
    within_five_seconds("a new key's signature", || narinfo().matches("\nSig: ").count() == 2);
    for key in [&old, &new] {
        let machine = NixStore::new();
        machine.substitute(&format!("{}/main", server.url()), key, &[&before, &after]).succeeds();
    }
    // Without an overlap the old one signs no more; what it signed before still counts for
    // receipts.
    let receipts = client.home().join("receipts");
    let third = trees::add_files(&store, "third", &[("c", b"c".to_vec())]);
    let _ =
        client.run(&["push", "main", &third, "--receipts", receipts.to_str().unwrap()]).success();
    client.run(&["cache", "rotate-key", "main", "--overlap", "0s"]).succeeds();
    within_five_seconds("the end of two keys", || narinfo().matches("\nSig: ").count() == 1);
    client.run(&["verify-receipts", receipts.to_str().unwrap()]).succeeds();
    let last = trees::add_files(&store, "last", &[("d", b"d".to_vec())]);
    let _ = client.push(&[&last]).success();
}

#[test]
fn the_same_cache_through_several_addresses() {
    let proxies = "trusted-proxies = [\"127.0.0.0/8\"]\n";
    let server = Server::options().config(proxies).start();
    let api = Api::anonymous(&server);
    let url = |answer: &snowbank_harness::protocol::Answer| answer.json::<Value>()["url"].clone();
    assert_eq!(url(&api.get("/api/v1/caches/main")), json!(format!("{}/main", server.url())));
    let headers = [("x-forwarded-host", "cache.example.org"), ("x-forwarded-proto", "https")];
    assert_eq!(
        url(&api.get_with("/api/v1/caches/main", &headers)),
        json!("https://cache.example.org/main")
    );
    let strict = Server::start();
    let api = Api::anonymous(&strict);
    assert_eq!(
        url(&api.get_with("/api/v1/caches/main", &headers)),
        json!(format!("{}/main", strict.url()))
    );
}

#[test]
fn nothing_fails_while_a_signing_key_is_rotated_under_load() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let old = Oracle::main(&server).public_key();
    let url = format!("{}/main", server.url());
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let known = std::sync::Mutex::new(Vec::<String>::new());
    let rounds = std::thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            let mut rounds = 0_u32;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let path = trees::add_files(
                    &store,
                    &format!("load-{rounds}"),
                    &[("a", rounds.to_le_bytes().to_vec())],
                );
                let _ = client.push(&[&path]).success();
                known.lock().unwrap().push(path);
                rounds += 1;
            }
            rounds
        });
        // Machines that were set up before the rotation and know nothing of the new key.
        let fetcher = scope.spawn(|| {
            let mut rounds = 0_u32;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let Some(path) = known.lock().unwrap().last().cloned() else { continue };
                NixStore::new().substitute(&url, &old, &[&path]).succeeds();
                rounds += 1;
            }
            rounds
        });
        std::thread::sleep(Duration::from_secs(2));
        server.command(&["cache", "rotate-key", "main"]).succeeds();
        // Past the moment when every server signs with both.
        std::thread::sleep(Duration::from_secs(5));
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        (pusher.join().unwrap(), fetcher.join().unwrap())
    });
    eprintln!("{} pushes and {} substitutions", rounds.0, rounds.1);
    assert!(rounds.0 > 5 && rounds.1 > 2, "{rounds:?}");
}

#[test]
fn a_server_that_moves_to_another_address_serves_what_it_had() {
    let place = Scratch::new("moving");
    let data = place.join("data");
    let mut here = Server::options().data_dir(&data).start();
    let store = NixStore::new();
    let (token, key) = (here.root_token(), Oracle::main(&here).public_key());
    let before = trees::add_files(&store, "before", &[("a", b"a".to_vec())]);
    let _ = Client::of(&here, &store).push(&[&before]).success();
    let old = here.url();
    assert!(here.terminate().success());
    // On a site both share database and bucket; alone, they share the data folder.
    let options = Server::options().data_dir(&data);
    let there = match here.shared_site() {
        Some(site) => options.on(&site).start(),
        None => options.start(),
    };
    assert_ne!(there.url(), old);
    assert_eq!(Api::anonymous(&there).cache_info("main").public_keys, std::slice::from_ref(&key));
    let after = trees::add_files(&store, "after", &[("b", b"b".to_vec())]);
    let client = Client::at(&there.url(), &token, &store);
    assert_eq!(client.push(&[&before, &after]).success().uploaded(), 1);
    NixStore::new()
        .substitute(&format!("{}/main", there.url()), &key, &[&before, &after])
        .succeeds();
    assert!(
        !client.run(&["cache", "info", "main"]).success().stdout.contains(&old),
        "the old address is stored"
    );
}
