//! Paths that should never have been pushed, and closures that become part of another cache.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use snowbank_harness::{Api, Client, NixStore, Server, database, oracle, oracle::Oracle, trees};

/// Three paths, each of which refers to the one before it, and one by itself that the last refers
/// to as well.
fn chain(store: &NixStore) -> [String; 4] {
    let expression = "let p = name: text: derivation \
        { inherit name text; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"echo $text > $out\" ]; }; \
        a = p \"a\" \"a\"; side = p \"side\" \"side\"; b = p \"b\" \"${a}\"; c = p \"c\" \"${b} \
        ${side}\"; in [ a b c side ]";
    store
        .build(expression)
        .try_into()
        .unwrap_or_else(|paths: Vec<_>| panic!("four paths, not {paths:?}"))
}

#[track_caller]
fn gone_within_five_seconds(server: &Server, paths: &[&String]) {
    let began = Instant::now();
    for replica in server.replicas() {
        let api = Api::new(&format!("http://{}", replica.address()), Some(&server.root_token()));
        let oracle = Oracle::new(server, "main", api);
        while paths.iter().any(|path| oracle.visible(path)) {
            assert!(began.elapsed() < Duration::from_secs(5), "{paths:?} are there after 5 s");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_deleted_path_is_gone_from_every_replica_and_no_closure_is_broken() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let [a, b, c, side] = chain(&store);
    let _ = client.push(&[&c]).success();
    let oracle = Oracle::main(&server);
    for path in [&a, &b, &c, &side] {
        let _ = oracle.assert_whole(path);
    }
    let said = client.run(&["delete", "main", &b, "--yes"]);
    assert!(said.stderr.contains("--referrers") && said.stderr.contains("-c"), "{}", said.stderr);
    assert!(oracle.visible(&b), "nothing was deleted");
    let said = client.run(&["delete", "main", &b, "--referrers"]);
    assert!(said.stderr.contains("--yes"), "nobody can be asked: {}", said.stderr);
    let said = client
        .run(&["delete", "main", "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-no", "--yes"])
        .ended_with(15);
    assert!(said.stderr.contains("no path"), "{}", said.stderr);
    let plan =
        client.run(&["delete", "main", &b, "--referrers", "--dry-run", "--json"]).success().stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!((plan["deleted"].as_array().unwrap().len(), &plan["dry_run"]), (2, &json!(true)));
    assert!(oracle.visible(&b), "a dry run deletes nothing");

    client.run(&["delete", "main", &b, "--referrers", "--yes"]).succeeds();
    gone_within_five_seconds(&server, &[&b, &c]);
    let _ = oracle.assert_whole(&a);
    let _ = oracle.assert_whole(&side);
    // Pushed again, it is whole again, and nothing has to travel.
    let push = client.push(&[&c]).success();
    assert_eq!((push.uploaded(), push.stats().chunks_sent), (2, 0));
    client.run(&["delete", "main", &c, "--closure-of", "--yes"]).succeeds();
    gone_within_five_seconds(&server, &[&a, &b, &c, &side]);
    assert_eq!(database::paths(&server), 0);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn what_others_need_stays_when_a_closure_goes() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let [a, b, c, side] = chain(&store);
    let _ = client.push(&[&c]).success();
    let other = store.build(&format!(
        "derivation {{ name = \"other\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
         args = [ \"-c\" \"echo ${{builtins.storePath {a}}} > $out\" ]; }}"
    ));
    let _ = client.push(&other).success();
    server.command(&["delete", "main", &c, "--closure-of", "--yes"]).succeeds();
    gone_within_five_seconds(&server, &[&b, &c, &side]);
    let oracle = Oracle::main(&server);
    let _ = oracle.assert_whole(&a);
    let _ = oracle.assert_whole(&other[0]);
}

#[test]
fn a_closure_is_promoted_without_moving_a_byte() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    client.run(&["cache", "create", "production", "--public"]).succeeds();
    client.run(&["cache", "create", "vault", "--isolated", "--public"]).succeeds();
    let [a, b, c, side] = chain(&store);
    let big = trees::add_copy(&store, &trees::of_this_machine(1, 2 << 20, 30 << 20)[0], "big");
    let _ = client.push(&[&c, &big]).success();
    let stored = server.stored_bytes();
    let root = Api::root(&server);
    for target in ["production", "vault"] {
        let copied =
            client.run(&["cache", "copy", "main", target, &c, &big, "--json"]).success().stdout;
        let copied: Value = serde_json::from_str(&copied).unwrap();
        assert_eq!(
            (copied["copied"].as_array().unwrap().len(), &copied["present"]),
            (5, &json!(0)),
            "{copied}"
        );
        let oracle = Oracle::new(&server, target, root.clone());
        for path in [&a, &b, &c, &side, &big] {
            let _ = oracle.assert_whole(path);
        }
        assert_eq!(server.stored_bytes(), stored, "no byte was moved");
        let again = client.run(&["cache", "copy", "main", target, &c, "--json"]).success().stdout;
        let again: Value = serde_json::from_str(&again).unwrap();
        assert_eq!(
            (again["copied"].as_array().unwrap().len(), &again["present"]),
            (0, &json!(4)),
            "{again}"
        );
        let machine = NixStore::new();
        machine
            .substitute(&format!("{}/{target}", server.url()), &oracle.public_key(), &[&c])
            .succeeds();
    }
    let said = client.run(&[
        "cache",
        "copy",
        "main",
        "production",
        "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-no",
    ]);
    assert!(said.stderr.contains("has no path"), "{}", said.stderr);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn the_host_copies_without_a_token_and_the_log_has_it_at_once() {
    let (server, store) = (Server::start(), NixStore::new());
    let [_, b, c, _] = chain(&store);
    let _ = Client::of(&server, &store).push(&[&c]).success();
    server.command(&["cache", "create", "release", "--public"]).succeeds();
    server.command(&["cache", "create", "apart", "--public", "--isolated"]).succeeds();
    for (target, copied) in [("release", 2), ("apart", 2), ("release", 0)] {
        let answer =
            server.command(&["cache", "copy", "main", target, &b, "--json"]).success().stdout;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["copied"].as_array().unwrap().len(), copied, "{target}");
        let _ = Oracle::new(&server, target, Api::anonymous(&server)).assert_whole(&b);
    }
    let audit = server.command(&["audit", "--action", "path.copy"]).success().stdout;
    assert_eq!(audit.matches("from main: ").count(), 3, "{audit}");
    let said = server.command(&["cache", "copy", "main", "nowhere", &b]);
    assert!(!said.status.success() && said.stderr.contains("cache list"), "{said}");
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_copy_needs_pull_on_one_and_push_on_the_other() {
    let (server, store) = (Server::start(), NixStore::new());
    server.command(&["cache", "create", "from", "--private"]).succeeds();
    server.command(&["cache", "create", "to", "--private"]).succeeds();
    let path = trees::add_files(&store, "copied", &[("a", b"a".to_vec())]);
    let _ = Client::of(&server, &store).push_to("from", &[&path], &[]).success();
    for (pull, push, is_in) in [("from", "to", true), ("to", "to", false), ("from", "from", false)]
    {
        let token = server.token("ci", &[pull], &[push]);
        let output =
            Client::at(&server.url(), &token, &store).run(&["cache", "copy", "from", "to", &path]);
        assert_eq!(output.status.success(), is_in, "pull {pull}, push {push}: {}", output.stderr);
    }
}

#[test]
fn a_cache_tells_what_it_holds() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let [a, b, c, side] = chain(&store);
    let _ = client.push(&[&c]).success();
    let all = client.run(&["path", "list", "main"]).success().stdout;
    for path in [&a, &b, &c, &side] {
        assert!(all.contains(path.as_str()), "{path} in {all}");
    }
    let some = client.run(&["path", "list", "main", "s*"]).success().stdout;
    assert!(some.contains(&side) && !some.contains(&a), "{some}");
    let inside = client.run(&["path", "list", "main", &side[side.len() - 3..]]).success().stdout;
    assert!(inside.contains(&side) && !inside.contains(&a), "a part of a name: {inside}");
    let info = client.run(&["path", "info", "main", &c]).success().stdout;
    assert!(
        info.contains("by root") && info.contains(&b[11..]) && info.contains("sha256:"),
        "{info}"
    );
    assert_eq!(server.command(&["path", "info", "main", &c]).success().stdout, info);
}
