//! An operator's wrong argument is never taken for a success, and a token in the wrong place is
//! neither stored nor shown.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use snowbank_harness::{Api, Client, NixStore, Server, process::Output, token};

fn id_of(text: &str) -> String {
    token::claims(text)["jti"].as_str().unwrap().to_owned()
}

/// A command that must have failed and said so.
#[track_caller]
fn refused(output: Output, says: &str) -> Output {
    assert!(
        !output.status.success() && output.stderr.contains(says),
        "{says} is not said: {output}"
    );
    output
}

fn audit(api: &Api, action: &str) -> Vec<String> {
    let page: Value = api.get(&format!("/api/v1/audit?action={action}&limit=1000")).json();
    page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["detail"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_token_in_the_place_of_its_id_is_revoked_by_its_id() {
    let (server, store) = (Server::start(), NixStore::new());
    let (client, root) = (Client::of(&server, &store), Api::root(&server));
    let make = || server.token("ci", &["*"], &[]);
    let (by_client, on_host, by_api, damaged) = (make(), make(), make(), make());

    let said = client.run(&["token", "revoke", &by_client]).success();
    assert!(said.stdout.contains("1 valid token"), "{said}");
    let said = server.command(&["token", "revoke", &format!("Bearer {on_host}")]).success();
    assert!(said.stdout.contains("1 valid token"), "{said}");
    let answer: Value = root.post_json("/api/v1/tokens/revoke", &json!({"ids": [by_api]})).json();
    assert_eq!(answer["tokens"], 1, "{answer}");
    let details = audit(&root, "token.revoke");
    for token in [&by_client, &on_host, &by_api] {
        assert!(details.contains(&format!("id={}", id_of(token))), "{details:?}");
        let shown = client.run(&["token", "show", token]).success();
        assert!(
            shown.stdout.contains("revoked") && shown.stdout.contains(&id_of(token)),
            "{shown}"
        );
        let shown: Value = root.get(&format!("/api/v1/tokens/{token}")).json();
        assert_eq!(shown["id"], id_of(token), "an API's caller may do so as well");
    }

    // A token that was changed is not taken for the one whose id it has; a part of one has no id.
    let forged = token::with_claims(&damaged, |claims| claims["sub"] = json!("me"));
    let output = refused(server.command(&["token", "revoke", &forged]), "signature");
    assert!(!output.said().contains(&forged), "{output}");
    let part = damaged.rsplit_once('.').unwrap().0;
    for output in
        [client.run(&["token", "revoke", part]), server.command(&["token", "revoke", part])]
    {
        let output = refused(output, "copy the whole token");
        assert!(!output.said().contains(part), "{output}");
    }
    let still: Value = root.get(&format!("/api/v1/tokens/{}", id_of(&damaged))).json();
    assert_eq!(still["revoked"], Value::Null, "{still}");
    // It can be replaced by itself, too.
    let new = client.run(&["token", "rotate", &damaged]).success();
    assert_eq!(token::claims(new.stdout.trim())["sub"], "ci");
}

#[test]
fn what_was_never_issued_is_revoked_only_on_demand() {
    let (server, store) = (Server::start(), NixStore::new());
    let (client, root) = (Client::of(&server, &store), Api::root(&server));
    let id = id_of(&server.token("ci", &["*"], &[]));
    let (wrong, _) = id.split_at(id.len() - 1);
    for args in [
        &["token", "revoke", wrong][..],
        &["token", "revoke", &id, wrong],
        &["token", "revoke", "--subject", "cii"],
    ] {
        for output in [client.run(args), server.command(args)] {
            let output = refused(output, "--force");
            assert!(output.stderr.contains("nothing was revoked"), "{output}");
        }
    }
    let ids = json!({"ids": [&id, wrong]});
    let _ = root.post_json("/api/v1/tokens/revoke", &ids).refused(404, "no-such-token");
    let shown: Value = root.get(&format!("/api/v1/tokens/{id}")).json();
    assert_eq!(shown["revoked"], Value::Null, "all or nothing: {shown}");

    for args in [
        &["token", "revoke", "--force", wrong][..],
        &["token", "revoke", "--force", "--subject", "github:repo"],
    ] {
        for said in [client.run(args).success(), server.command(args).success()] {
            assert!(
                said.stdout.contains("no valid token"),
                "nobody is told that it hit something: {said}"
            );
        }
    }
    let said = client.run(&["token", "revoke", "--subject", "ci"]).success();
    assert!(said.stdout.contains("1 valid token"), "{said}");
    let said = client.run(&["token", "revoke", "--subject", "ci"]).success();
    assert!(said.stdout.contains("no valid token"), "a second time there is none left: {said}");
}

#[test]
fn a_token_is_neither_stored_nor_shown_wherever_it_is_put() {
    let server = Server::options().config("[log]\nlevel = \"debug\"\n").start();
    let store = NixStore::new();
    let (client, root) = (Client::of(&server, &store), Api::root(&server));
    let secret = server.token("ci", &["*"], &[]);
    let secret = secret.as_str();
    let mut said = Vec::new();

    let commands: [&[&str]; 13] = [
        &["token", "create", "--sub", secret, "--pull", "*"],
        &["token", "create", "--sub", "x", "--label", secret, "--pull", "*"],
        &["token", "create", "--sub", "x", "--pull", secret],
        &["token", "create", "--sub", "x", "--expires", secret, "--pull", "*"],
        &["token", "revoke", "--subject", secret],
        &["token", "revoke", "--force", "--subject", secret],
        &["cache", "info", secret],
        &["cache", "create", "new", "--description", secret],
        &["cache", "create", "new", "--upstream-keys", secret],
        &["cache", "copy", "main", "main", secret],
        &["delete", "main", secret, "--yes"],
        &["pin", "set", "main", secret, secret],
        &["token-key", "retire", secret],
    ];
    for args in commands {
        let output = server.command(args);
        assert!(!output.status.success(), "{args:?}: {output}");
        said.push(output.said());
        let output = client.run(args);
        assert!(!output.status.success(), "{args:?}: {output}");
        said.push(output.said());
    }
    // The client takes the id and leaves the rest to itself; the server verifies what it gets.
    let damaged = server.command(&["token", "revoke", "--force", &format!("{secret}x")]);
    assert!(!damaged.status.success(), "{damaged}");
    said.push(damaged.said());
    let requests = [
        (Method::GET, format!("/api/v1/caches/{secret}/details"), json!({})),
        (Method::GET, format!("/main/{secret}"), json!({})),
        (Method::GET, format!("/{secret}"), json!({})),
        (Method::GET, format!("/main/{secret}.narinfo"), json!({})),
        (Method::GET, format!("/main/nar/{secret}.nar"), json!({})),
        (Method::PUT, format!("/api/v1/caches/main/pins/{secret}"), json!({"path": secret})),
        (Method::PUT, "/api/v1/caches/main/pins/latest".to_owned(), json!({"path": secret})),
        (Method::POST, format!("/api/v1/tokens/{secret}x/rotate"), json!({"grace": 1})),
        (
            Method::POST,
            "/api/v1/tokens/revoke".to_owned(),
            json!({"subject": secret, "force": true}),
        ),
        (
            Method::POST,
            "/api/v1/tokens/revoke".to_owned(),
            json!({"ids": [format!("{secret}x")], "force": true}),
        ),
        (Method::POST, "/api/v1/caches/main/delete".to_owned(), json!({"paths": [secret]})),
        (
            Method::POST,
            "/api/v1/caches/main/copy".to_owned(),
            json!({"from": secret, "paths": [secret]}),
        ),
        (Method::POST, "/api/v1/caches".to_owned(), json!({"name": secret})),
    ];
    for (method, path, body) in requests {
        let answer = root.json(method, &path, &body);
        assert!(answer.status.as_u16() >= 400, "{path}: {}", answer.text());
        said.push(answer.text());
    }
    // A commit's paths are noted in the audit log, whether they are refused or not.
    let path =
        json!({"store_path": format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{secret}")});
    said.push(root.post_json("/api/v1/caches/main/paths", &json!({"paths": [path]})).text());
    std::thread::sleep(std::time::Duration::from_secs(2));

    said.push(root.get("/api/v1/audit?limit=1000").text());
    said.push(server.log());
    // The last part alone would do: the others can be guessed.
    let signature = secret.rsplit('.').next().unwrap();
    for text in &said {
        assert!(!text.contains(signature), "{}", text.replace(signature, "[SIGNATURE]"));
    }
    if server.shared().is_none() {
        let mut files = 0;
        for entry in fs::read_dir(server.data_dir()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files += 1;
                let bytes = fs::read(&path).unwrap();
                let found =
                    bytes.windows(signature.len()).any(|window| window == signature.as_bytes());
                assert!(!found, "{} holds the token", path.display());
            }
        }
        assert!(files >= 3, "the database is looked at");
    }
}

#[test]
fn a_pattern_that_means_no_path_is_no_clean_check() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = snowbank_harness::trees::add_tiny(&store, 1, "tiny");
    let _ = client.push(&path).success();
    for pattern in ["tinny*", "team:*", "main:nothing"] {
        let output = server.command(&["check", "--paths", pattern]);
        assert_eq!(output.code(), Some(2), "{output}");
        assert!(output.stderr.contains("no path fits"), "{output}");
        let _ =
            refused(server.command(&["repair", "--dry-run", "--paths", pattern]), "no path fits");
    }
    for pattern in ["*", "main:*", "tiny*"] {
        let output = server.command(&["check", "--paths", pattern]).success();
        assert!(output.stdout.contains("1 NARs read"), "{output}");
    }
    let empty = client.home().join("receipts");
    fs::write(&empty, "").unwrap();
    let _ =
        refused(client.run(&["verify-receipts", empty.to_str().unwrap()]), "nothing was verified");
}
