//! Names for paths that are to stay: pinned, asked for by a deployment, rolled back, removed; and
//! what they keep from going.

use std::os::unix::fs::symlink;

use reqwest::Method;
use serde_json::{Value, json};
use snowbank_harness::{Api, Client, NixStore, Output, Server, oracle::Oracle, trees};

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// Versions of a website.
fn versions(store: &NixStore, count: u8) -> Vec<String> {
    (1..=count)
        .map(|n| {
            trees::add_files(store, &format!("website-{n}"), &[("index.html", vec![n; 3_000])])
        })
        .collect()
}

#[test]
fn a_deployment_asks_for_the_latest_good_one_and_gets_a_path_that_is_there() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let versions = versions(&store, 3);
    let _ = client.push(&versions).success();
    let anonymous = Api::anonymous(&server);
    let missing = anonymous.get("/main/pins/latest");
    let message = missing.refused(404, "no-such-pin");
    assert!(
        message.contains("`latest`") && missing.header("cache-control") == "no-store",
        "{message}"
    );

    let made = json(&client.run(&["pin", "main", "latest", &versions[0], "--json"]).success());
    assert_eq!(
        (&made["store_path"], &made["generation"], &made["keep"]),
        (&json!(versions[0]), &json!(1), &json!(5))
    );
    // As `nix-build` leaves it, by its base name, by its hash part, and on the host without a
    // token.
    symlink(&versions[1], client.home().join("result")).unwrap();
    client.run(&["pin", "main", "latest", "./result", "--keep", "3"]).succeeds();
    client.run(&["pin", "set", "main", "latest", &versions[1][11..43]]).succeeds();
    let host = server.command(&["pin", "main", "latest", &versions[2][11..], "--json"]).success();
    assert_eq!((&json(&host)["generation"], &json(&host)["keep"]), (&json!(3), &json!(3)));

    let plain = anonymous.get("/main/pins/latest");
    assert_eq!(plain.text(), format!("{}\n", versions[2]));
    assert!(plain.header("content-type").starts_with("text/plain"), "{:?}", plain.headers);
    assert_eq!(
        (plain.header("cache-control"), plain.header("vary")),
        ("no-cache".to_owned(), "accept".to_owned())
    );
    let head = anonymous.head("/main/pins/latest");
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let info = Oracle::main(&server).narinfo(&versions[2]).unwrap();
    for answer in [
        anonymous.get("/main/pins/latest?format=json"),
        anonymous.get_with("/main/pins/latest", &[("accept", "application/json")]),
    ] {
        let answer: Value = answer.json();
        assert_eq!(
            (&answer["store_path"], &answer["generation"]),
            (&json!(versions[2]), &json!(3))
        );
        assert_eq!(
            (&answer["nar_hash"], &answer["nar_size"]),
            (&json!(info.nar_hash.to_string()), &json!(info.nar_size))
        );
    }

    let list = client.run(&["pin", "list", "main"]).success().stdout;
    assert!(list.contains("latest") && list.contains(&versions[2]), "{list}");
    assert_eq!(server.command(&["pin", "list", "main"]).success().stdout, list);
    let history = client.run(&["pin", "history", "main", "latest"]).success().stdout;
    assert!(versions.iter().all(|version| history.contains(version.as_str())), "{history}");

    client.run(&["pin", "rollback", "main", "latest"]).succeeds();
    assert_eq!(anonymous.get("/main/pins/latest").text().trim(), versions[1]);
    server.command(&["pin", "rollback", "main", "latest", "--to", "1"]).succeeds();
    let path = anonymous.get("/main/pins/latest").text();
    let machine = NixStore::new();
    machine
        .substitute(
            &format!("{}/main", server.url()),
            &Oracle::main(&server).public_key(),
            &[path.trim()],
        )
        .succeeds();
    assert_eq!(path.trim(), versions[0]);
    let said = client.run(&["pin", "rollback", "main", "latest"]).ended_with(15);
    assert!(said.stderr.contains("no generation before 1"), "{}", said.stderr);

    client.run(&["pin", "rm", "main", "latest"]).succeeds();
    let _ = anonymous.get("/main/pins/latest").refused(404, "no-such-pin");
    let said = client.run(&["pin", "rm", "main", "latest"]).ended_with(15);
    assert!(said.stderr.contains("pin list"), "{}", said.stderr);
    let audit = json(&client.run(&["audit", "--action", "pin.*", "--json"]).success());
    let made = |subject: &str, action: &str| {
        let entries =
            audit["entries"].as_array().unwrap().iter().filter(|one| one["outcome"] == json!("ok"));
        entries
            .filter(|one| one["subject"] == json!(subject) && one["action"] == json!(action))
            .count()
    };
    assert_eq!((made("root", "pin.set"), made("host", "pin.set")), (2, 1), "{audit}");
    assert_eq!(
        (made("root", "pin.rollback"), made("host", "pin.rollback"), made("root", "pin.remove")),
        (1, 1, 1)
    );
}

#[test]
fn a_push_pins_in_the_same_commit() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let versions = versions(&store, 3);
    let push =
        client.push_to("main", &[&versions[0]], &["--pin", "latest", "--pin-keep", "2"]).success();
    assert!(push.output.stderr.contains("pinned as latest, generation 1"), "{}", push.output);
    let pinned = || Api::anonymous(&server).get("/main/pins/latest").text();
    assert_eq!(pinned().trim(), versions[0]);
    // Present already, it is pinned all the same, and a pin that is there stays.
    let again = client.push_to("main", &[&versions[0]], &["--pin", "latest"]).success();
    assert!(
        again.present() == 1 && again.output.stderr.contains("generation 1"),
        "{}",
        again.output
    );
    let other = client.push_to("main", &[&versions[0]], &["--pin", "other", "--json"]).success();
    let summary = other.output.stdout.lines().last().unwrap();
    let summary: Value = serde_json::from_str(summary).unwrap();
    assert_eq!(summary["summary"]["pin"], json!({"name": "other", "generation": 1}));
    for version in &versions[1..] {
        let _ = client.push_to("main", &[version], &["--pin", "latest"]).success();
        assert_eq!(pinned().trim(), *version);
    }
    let shown = json(&client.run(&["pin", "show", "main", "latest", "--json"]).success());
    let kept: Vec<&Value> =
        shown["history"].as_array().unwrap().iter().map(|one| &one["store_path"]).collect();
    assert_eq!(kept, [&json!(versions[2]), &json!(versions[1])], "as many as were asked for");
    let info = json(&client.run(&["path", "info", "main", &versions[2], "--json"]).success());
    assert_eq!(info["pins"], json!(["latest"]));
    let list = json(&client.run(&["path", "list", "main", "--json"]).success());
    assert_eq!(list["paths"][0]["pins"], json!(["other"]), "{list}");

    let many = client.push_to("main", &versions, &["--pin", "latest"]).ended_with(2);
    assert!(many.output.stderr.contains("3 were given"), "{}", many.output);
    let bad = client.push_to("main", &[&versions[0]], &["--pin", "a/b"]).ended_with(2);
    assert!(bad.output.stderr.contains("not a pin's name"), "{}", bad.output);

    // What is left to another cache is in none that could pin it.
    let upstream = Server::start();
    let theirs = trees::add_tiny(&store, 1, "theirs").remove(0);
    let _ = Client::of(&upstream, &store).push(&[&theirs]).success();
    let url = format!("{}/main", upstream.url());
    let left = client
        .push_to("main", &[&theirs], &["--pin", "latest", "--check-upstream", &url])
        .ended_with(12);
    assert!(left.output.stderr.contains("left to upstream"), "{}", left.output);
    assert_eq!(pinned().trim(), versions[2]);
}

#[test]
fn what_is_pinned_is_not_deleted() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let versions = versions(&store, 2);
    let _ = client.push(&versions).success();
    for version in &versions {
        client.run(&["pin", "main", "latest", version]).succeeds();
    }
    for version in &versions {
        let said = client.run(&["delete", "main", version, "--yes"]).ended_with(16);
        assert!(
            said.stderr.contains("pinned as `latest`") && said.stderr.contains("pin rm"),
            "{}",
            said.stderr
        );
        let said = server.command(&["delete", "main", version, "--yes"]).ended_with(1);
        assert!(said.stderr.contains("pinned as `latest`"), "{}", said.stderr);
    }
    client.run(&["pin", "rm", "main", "latest"]).succeeds();
    let paths: Vec<&str> = versions.iter().map(String::as_str).collect();
    client.run(&[&["delete", "main", "--yes"][..], &paths].concat()).succeeds();
    let said = client.run(&["pin", "main", "latest", &versions[0]]).ended_with(15);
    assert!(said.stderr.contains("has no path"), "{}", said.stderr);
}

#[test]
fn a_pin_holds_for_as_long_as_it_says() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = versions(&store, 1).remove(0);
    let _ = client.push(&[&path]).success();
    let made =
        json(&client.run(&["pin", "main", "brief", &path, "--expires", "2s", "--json"]).success());
    assert_eq!(made["expires"].as_i64().unwrap() - made["created"].as_i64().unwrap(), 2);
    let anonymous = Api::anonymous(&server);
    assert_eq!(anonymous.get("/main/pins/brief").status, 200);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let _ = anonymous.get("/main/pins/brief").refused(404, "no-such-pin");
    assert!(!client.run(&["pin", "list", "main"]).success().stdout.contains("brief"));
    client.run(&["delete", "main", &path, "--yes"]).succeeds();
}

#[test]
fn who_may_read_sees_pins_and_who_may_push_makes_them() {
    let (server, store) = (Server::start(), NixStore::new());
    server.command(&["cache", "create", "secret", "--private"]).succeeds();
    let path = versions(&store, 1).remove(0);
    let _ = Client::of(&server, &store).push_to("secret", &[&path], &["--pin", "latest"]).success();
    let [reader, writer, stranger] =
        [("secret", "x"), ("x", "secret"), ("main", "main")].map(|(pull, push)| {
            Api::new(&server.url(), Some(&server.token("somebody", &[pull], &[push])))
        });
    let answer = reader.get("/secret/pins/latest");
    assert_eq!(
        (answer.text().trim(), answer.header("cache-control").as_str()),
        (path.as_str(), "private, no-cache")
    );
    let body = json!({"path": path});
    let set = |api: &Api| api.json(Method::PUT, "/api/v1/caches/secret/pins/mine", &body);
    let _ = set(&reader).refused(403, "forbidden");
    let _ = writer.get("/secret/pins/latest").refused(404, "not-found");
    assert_eq!(set(&writer).status, 200);
    assert_eq!(reader.get("/secret/pins/mine").text().trim(), path);
    let _ = Api::anonymous(&server).get("/secret/pins/latest").refused(401, "unauthenticated");

    // To a stranger it is all the same: a pin that is there, one that is not, a cache that is not
    // there.
    let here = stranger.get("/secret/pins/latest").refused(404, "not-found");
    assert_eq!(stranger.get("/secret/pins/nothing").refused(404, "not-found"), here);
    assert_eq!(
        stranger.get("/nothing/pins/latest").refused(404, "not-found").replace("nothing", "secret"),
        here
    );
    let _ = reader.get("/secret/pins/no%2Fname").refused(404, "no-such-pin");
    let bad = writer.json(Method::PUT, "/api/v1/caches/secret/pins/-x", &body);
    assert!(bad.refused(400, "bad-request").contains("pin's name"));
}
