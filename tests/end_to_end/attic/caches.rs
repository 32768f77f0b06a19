//! Caches: made, shown, changed and destroyed, each with the right that it takes.

use reqwest::Method;
use serde_json::{Value, json};
use snowbank_core::signing::SecretKey;
use snowbank_harness::{Api, Server, protocol::Answer};

use super::{ALL, api, refused, server};

fn new_cache(keypair: &Value) -> Value {
    json!({
        "keypair": keypair, "is_public": false, "store_dir": "/nix/store", "priority": 41,
        "upstream_cache_key_names": ["cache.nixos.org-1"],
    })
}

fn config(api: &Api, method: Method, name: &str, body: &Value) -> Answer {
    api.json(method, &format!("/_api/v1/cache-config/{name}"), body)
}

fn show(api: &Api, name: &str) -> Value {
    let answer = api.get(&format!("/_api/v1/cache-config/{name}"));
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    answer.json()
}

#[track_caller]
fn done(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.text()), (200, String::new()));
}

/// What the audit log has of a cache, oldest first.
fn audited(server: &Server, cache: &str) -> Vec<String> {
    let log: Value = Api::root(server).get("/api/v1/audit").json();
    let entries = log["entries"].as_array().unwrap();
    let mut actions: Vec<String> = entries
        .iter()
        .filter(|entry| entry["cache"] == json!(cache))
        .map(|entry| format!("{} {}", entry["action"], entry["subject"]).replace('"', ""))
        .collect();
    actions.reverse();
    actions
}

#[test]
fn a_cache_is_made_shown_changed_and_destroyed() {
    let (server, _scratch) = server();
    let own = api(&server, &[("team-*", &ALL)]);
    let key = SecretKey::from_seed("attic-team-1", [7; 32]).unwrap();
    let keypair = json!({"Keypair": *key.to_nix()});
    done(&config(&own, Method::POST, "team-a", &new_cache(&keypair)));
    let again = config(&own, Method::POST, "team-a", &new_cache(&json!("Generate")));
    let _ = refused(&again, 400, "CacheAlreadyExists");

    let shown = show(&own, "team-a");
    assert_eq!(
        shown,
        json!({
            "substituter_endpoint": format!("{}/team-a", server.url()),
            "api_endpoint": format!("{}/", server.url()),
            "public_key": key.public().to_string(), "is_public": false,
            "store_dir": "/nix/store", "priority": 41,
            "upstream_cache_key_names": ["cache.nixos.org-1"], "retention_period": "Global",
        })
    );
    // Nobody else learns of it.
    let _ =
        refused(&Api::anonymous(&server).get("/_api/v1/cache-config/team-a"), 401, "Unauthorized");

    for retention in [json!({"Period": 86_400}), json!({"Period": 0}), json!("Global")] {
        let change = json!({"retention_period": retention, "priority": 30});
        done(&config(&own, Method::PATCH, "team-a", &change));
        let shown = show(&own, "team-a");
        assert_eq!((&shown["retention_period"], &shown["priority"]), (&retention, &json!(30)));
    }
    for (change, why) in [
        (json!({}), "no setting"),
        (json!({"store_dir": "/gnu/store"}), "cannot be changed"),
        (json!({"priority": -1}), "priority"),
        (json!({"keypair": {"Keypair": "team:bm9uZQ=="}}), "keypair"),
        // Nix keeps one key per name.
        (json!({"keypair": keypair}), "attic-team-1"),
        (json!({"upstream_cache_key_names": ["a b"]}), "upstream"),
        (json!({"retention_period": {"Period": -1}}), "parse"),
    ] {
        let answer = config(&own, Method::PATCH, "team-a", &change);
        let message = refused(&answer, 400, "RequestError");
        assert!(message.contains(why), "{change}: {message}");
    }
    done(&config(
        &own,
        Method::PATCH,
        "team-a",
        &json!({"keypair": "Generate", "is_public": true}),
    ));
    let shown = show(&own, "team-a");
    assert_ne!(shown["public_key"], json!(key.public().to_string()));
    // The old key goes on signing, so nothing that trusts it is shut out.
    let details: Value = Api::root(&server).get("/api/v1/caches/team-a/details").json();
    assert_eq!(details["keys"].as_array().unwrap().len(), 2);
    assert_eq!(show(&Api::anonymous(&server), "team-a")["is_public"], json!(true));
    let read = Api::anonymous(&server).get("/team-a/nix-cache-info");
    assert_eq!(read.header("x-attic-cache-visibility"), "public");

    done(&config(&own, Method::DELETE, "team-a", &json!(null)));
    std::thread::sleep(std::time::Duration::from_secs(4));
    let _ = refused(&own.get("/_api/v1/cache-config/team-a"), 404, "NoSuchCache");
    let again = config(&own, Method::POST, "team-a", &new_cache(&json!("Generate")));
    let _ = refused(&again, 400, "CacheAlreadyExists");
    let log = audited(&server, "team-a");
    for action in ["create", "configure", "rotate-key", "destroy"] {
        let entry = format!("cache.{action} meow");
        assert!(log.contains(&entry), "{entry}: {log:?}");
    }
}

#[test]
fn each_endpoint_asks_for_its_right_and_no_other_opens_it() {
    let (server, _scratch) = server();
    let root = Api::root(&server);
    assert_eq!(root.post_json("/api/v1/caches", &json!({"name": "secret"})).status.as_u16(), 201);
    let path = |name: &str| format!("/_api/v1/cache-config/{name}");
    let upload = json!({
        "cache": "secret", "store_path_hash": "0".repeat(32),
        "store_path": format!("/nix/store/{}-a", "0".repeat(32)), "references": [],
        "nar_hash": format!("sha256:{}", "0".repeat(64)), "nar_size": 112,
    })
    .to_string();
    // Requests that are refused once they are let in, so that nothing changes.
    let ask = |api: &Api, endpoint: &str| match endpoint {
        "missing" => api.json(
            Method::POST,
            "/_api/v1/get-missing-paths",
            &json!({"cache": "secret", "store_path_hashes": ["x"]}),
        ),
        "upload" => {
            api.put("/_api/v1/upload-path", &[("X-Attic-Nar-Info", &upload)], b"none".to_vec())
        }
        "create" => config(api, Method::POST, "secret", &new_cache(&json!("Generate"))),
        "settings" => api.json(Method::PATCH, &path("secret"), &json!({"priority": -1})),
        "retention" => api.json(
            Method::PATCH,
            &path("secret"),
            &json!({"retention_period": "Global", "priority": -1}),
        ),
        _ => panic!("{endpoint}"),
    };
    let table: [(&str, &[&str]); 5] = [
        ("missing", &["w"]),
        ("upload", &["w"]),
        ("create", &["cc"]),
        ("settings", &["cr"]),
        ("retention", &["cr", "cq"]),
    ];
    for (endpoint, needed) in table {
        let may = api(&server, &[("secret", needed)]);
        let status = ask(&may, endpoint).status.as_u16();
        assert!(matches!(status, 400 | 413 | 422), "{endpoint} {needed:?}: {status}");
        // The same rights elsewhere, all rights but one of those, and none.
        let _ = refused(&ask(&api(&server, &[("other", &ALL)]), endpoint), 403, "AccessError");
        for missing in needed {
            let others: Vec<&str> = ALL.into_iter().filter(|right| right != missing).collect();
            let may_not = api(&server, &[("secret", &others)]);
            let _ = refused(&ask(&may_not, endpoint), 403, "AccessError");
        }
        // The exact name counts, though a pattern would allow it.
        let exact = api(&server, &[("*", &ALL), ("secret", &["r"])]);
        let _ = refused(&ask(&exact, endpoint), 403, "AccessError");
        let _ = refused(&ask(&Api::anonymous(&server), endpoint), 401, "Unauthorized");
    }
    // Who may do anything there may see the settings, and nobody else learns that it is there.
    for right in ["r", "w"] {
        assert_eq!(
            show(&api(&server, &[("secret", &[right])]), "secret")["is_public"],
            json!(false)
        );
    }
    let other = api(&server, &[("other", &ALL)]);
    let here = refused(&other.get(&path("secret")), 404, "NoSuchCache");
    let there = refused(&other.get(&path("nothing")), 404, "NoSuchCache");
    assert_eq!(here.replace("secret", "nothing"), there);
    // A cache is destroyed with that right alone, and with no other.
    let others: Vec<&str> = ALL.into_iter().filter(|right| *right != "cd").collect();
    let may_not = api(&server, &[("secret", &others)]);
    let _ = refused(&config(&may_not, Method::DELETE, "secret", &json!(null)), 403, "AccessError");
    let may = api(&server, &[("secret", &["cd"])]);
    done(&config(&may, Method::DELETE, "secret", &json!(null)));
}
