//! Every endpoint with every kind of token: what is let in, what is refused and how, and that a
//! refusal says nothing of a private cache.

use reqwest::Method;
use serde_json::{Value, json};
use snowbank_harness::{Api, Server, token};

/// Who may use an endpoint on the private cache `secret`.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Pull,
    /// Pull or any permission to manage it.
    Sight,
    Push,
    Delete,
    Configure,
    Create,
    Admin,
    AnyToken,
}

struct Endpoint {
    method: Method,
    path: &'static str,
    body: Value,
    needs: Needs,
}

fn endpoints() -> Vec<Endpoint> {
    let endpoint =
        |method: &Method, path, needs, body| Endpoint { method: method.clone(), path, body, needs };
    let (get, post) = (Method::GET, Method::POST);
    // Bodies that are refused once the caller has been let in: nothing changes.
    let nothing = || json!({});
    vec![
        endpoint(&get, "/secret/nix-cache-info", Needs::Pull, nothing()),
        endpoint(&get, "/secret/public-key", Needs::Pull, nothing()),
        endpoint(&get, "/secret/0123456789abcdfghijklmnpqrsvwxyz.narinfo", Needs::Pull, nothing()),
        endpoint(&get, "/secret/nar/x.nar.zst", Needs::Pull, nothing()),
        endpoint(&get, "/api/v1/caches/secret/paths", Needs::Pull, nothing()),
        endpoint(
            &get,
            "/api/v1/caches/secret/paths/0123456789abcdfghijklmnpqrsvwxyz",
            Needs::Pull,
            nothing(),
        ),
        endpoint(&get, "/secret/pins/latest", Needs::Pull, nothing()),
        endpoint(&get, "/api/v1/caches/secret/pins", Needs::Pull, nothing()),
        endpoint(&get, "/api/v1/caches/secret/pins/latest", Needs::Pull, nothing()),
        endpoint(&Method::PUT, "/api/v1/caches/secret/pins/latest", Needs::Push, nothing()),
        endpoint(&Method::DELETE, "/api/v1/caches/secret/pins/latest", Needs::Push, nothing()),
        endpoint(&post, "/api/v1/caches/secret/pins/latest/rollback", Needs::Push, nothing()),
        endpoint(&get, "/api/v1/caches/secret/details", Needs::Sight, nothing()),
        endpoint(&Method::PUT, "/secret/nar/x.nar.xz", Needs::Push, nothing()),
        endpoint(
            &Method::PUT,
            "/secret/0123456789abcdfghijklmnpqrsvwxyz.narinfo",
            Needs::Push,
            nothing(),
        ),
        endpoint(&Method::PUT, "/secret/nix-cache-info", Needs::Push, nothing()),
        endpoint(&Method::PUT, "/secret/debuginfo/x.debug", Needs::Push, nothing()),
        endpoint(&Method::PUT, "/secret/log/x.drv", Needs::Push, nothing()),
        endpoint(&Method::PUT, "/secret/realisations/x.doi", Needs::Push, nothing()),
        endpoint(&Method::PUT, "/secret/build-trace-v2/x/out.doi", Needs::Push, nothing()),
        endpoint(&get, "/secret/log/x.drv", Needs::Pull, nothing()),
        endpoint(&get, "/secret/realisations/x.doi", Needs::Pull, nothing()),
        endpoint(&get, "/secret/build-trace-v2/x/out.doi", Needs::Pull, nothing()),
        endpoint(&post, "/api/v1/caches/secret/missing-paths", Needs::Push, nothing()),
        endpoint(&post, "/api/v1/caches/secret/missing-chunks", Needs::Push, nothing()),
        endpoint(&post, "/api/v1/caches/secret/chunks", Needs::Push, nothing()),
        endpoint(&post, "/api/v1/caches/secret/paths", Needs::Push, nothing()),
        endpoint(&post, "/api/v1/caches/secret/copy", Needs::Push, nothing()),
        endpoint(&post, "/api/v1/caches/secret/delete", Needs::Delete, nothing()),
        endpoint(
            &Method::PATCH,
            "/api/v1/caches/secret",
            Needs::Configure,
            json!({"compression_level": 99}),
        ),
        endpoint(&post, "/api/v1/caches/secret/rename", Needs::Configure, nothing()),
        endpoint(&post, "/api/v1/caches/secret/rotate-key", Needs::Configure, nothing()),
        endpoint(&post, "/api/v1/caches/secret/restore", Needs::Configure, nothing()),
        endpoint(&post, "/api/v1/caches/secret/purge", Needs::Admin, nothing()),
        endpoint(&post, "/api/v1/caches", Needs::Create, json!({"name": "secret"})),
        endpoint(&get, "/api/v1/tokens", Needs::Admin, nothing()),
        endpoint(&get, "/api/v1/tokens/unknown", Needs::Admin, nothing()),
        endpoint(&post, "/api/v1/tokens", Needs::Admin, nothing()),
        endpoint(&post, "/api/v1/tokens/revoke", Needs::Admin, nothing()),
        endpoint(&post, "/api/v1/tokens/unknown/rotate", Needs::Admin, nothing()),
        endpoint(&post, "/api/v1/gc", Needs::Admin, json!({"grace": 5})),
        endpoint(&get, "/api/v1/audit", Needs::Admin, nothing()),
        endpoint(&post, "/api/v1/push-session", Needs::Push, json!({"caches": ["secret"]})),
        endpoint(&get, "/api/v1/whoami", Needs::AnyToken, nothing()),
        endpoint(&get, "/api/v1/caches", Needs::AnyToken, nothing()),
    ]
}

/// Kinds of valid tokens: the flag of `token create`, and what such a token is let in to.
const KINDS: [(&str, &[Needs]); 6] = [
    ("--pull", &[Needs::Pull, Needs::Sight]),
    ("--push", &[Needs::Push, Needs::Sight]),
    ("--delete", &[Needs::Delete, Needs::Sight]),
    ("--configure", &[Needs::Configure, Needs::Sight]),
    ("--create", &[Needs::Create]),
    ("--admin", &[Needs::Admin, Needs::Configure, Needs::Create, Needs::Sight]),
];

fn make(server: &Server, args: &[&str]) -> String {
    let output =
        server.command(&[&["token", "create", "--sub", "somebody"], args].concat()).success();
    output.stdout.trim().to_owned()
}

/// A server with a private cache that has a description, by which a leak would show.
fn server() -> Server {
    let server = Server::start();
    server
        .command(&["cache", "create", "secret", "--private", "--description", "tell-nobody"])
        .succeeds();
    server
}

#[test]
fn a_token_is_let_in_to_what_it_names_and_to_nothing_else() {
    let server = server();
    for (flag, allowed) in KINDS {
        let token = if flag == "--admin" {
            make(&server, &[flag])
        } else {
            make(&server, &[flag, "secret"])
        };
        // The same rights, on another cache.
        let elsewhere = (flag != "--admin").then(|| make(&server, &[flag, "other"]));
        for endpoint in endpoints() {
            let Endpoint { method, path, body, needs } = &endpoint;
            let ask =
                |token: &str| Api::new(&server.url(), Some(token)).json(method.clone(), path, body);
            let answer = ask(&token);
            let is_in = *needs == Needs::AnyToken || allowed.contains(needs);
            let status = answer.status.as_u16();
            let what = format!("{flag} {method} {path}: {status} {}", answer.text());
            if is_in {
                assert!(!matches!(status, 401 | 403), "{what}");
            } else {
                // Reading what is not yours is like reading what is not there; changing it is
                // forbidden.
                let expected = if matches!(needs, Needs::Pull | Needs::Sight) { 404 } else { 403 };
                assert_eq!(status, expected, "{what}");
            }
            if let Some(elsewhere) = &elsewhere
                && *needs != Needs::AnyToken
            {
                let answer = ask(elsewhere);
                let expected = if matches!(needs, Needs::Pull | Needs::Sight) { 404 } else { 403 };
                assert_eq!(answer.status.as_u16(), expected, "{flag} elsewhere: {what}");
                assert!(!answer.text().contains("tell-nobody"), "{}", answer.text());
            }
        }
    }
}

#[test]
fn whoever_has_no_valid_token_learns_nothing() {
    let server = server();
    let good = make(&server, &["--pull", "*", "--push", "*", "--admin"]);
    let expired = make(&server, &["--admin", "--expires", "1s"]);
    let revoked = make(&server, &["--admin"]);
    let id = token::claims(&revoked)["jti"].as_str().unwrap().to_owned();
    server.command(&["token", "revoke", &id]).succeeds();
    std::thread::sleep(std::time::Duration::from_secs(5));
    let bad: [(&str, Option<String>); 6] = [
        ("none", None),
        ("malformed", Some("hello".to_owned())),
        ("expired", Some(expired)),
        ("revoked", Some(revoked)),
        ("other key", Some(token::forged(&good, jsonwebtoken::Algorithm::HS256, Some("another")))),
        ("forged", Some(token::forged(&good, jsonwebtoken::Algorithm::HS256, None))),
    ];
    for (kind, token) in &bad {
        let api = Api::new(&server.url(), token.as_deref());
        for Endpoint { method, path, body, .. } in endpoints() {
            let here = api.json(method.clone(), path, &body);
            let message = here.refused(401, "unauthenticated");
            assert!(here.header("www-authenticate").starts_with("Basic "), "{kind} {path}");
            assert!(!here.text().contains("tell-nobody"), "{kind} {path}");
            // A cache that there is and one that there is not are refused in the same words.
            let there = api.json(method, &path.replace("secret", "nothing"), &body);
            assert_eq!(there.refused(401, "unauthenticated"), message, "{kind} {path}");
        }
    }
}

#[test]
fn what_is_not_there_and_what_is_not_yours_are_refused_alike() {
    let server = server();
    let token = make(&server, &["--pull", "main", "--push", "main"]);
    let api = Api::new(&server.url(), Some(&token));
    for Endpoint { method, path, body, needs } in endpoints() {
        if !path.contains("secret") {
            continue;
        }
        let here = api.json(method.clone(), path, &body);
        let there = api.json(method, &path.replace("secret", "nothing"), &body);
        let plain = |answer: &snowbank_harness::protocol::Answer| {
            (
                answer.status,
                answer.error().code,
                answer.error().message.replace("secret", "nothing"),
            )
        };
        assert_eq!(plain(&here), plain(&there), "{path}");
        assert!(needs != Needs::AnyToken && here.status.as_u16() >= 400);
    }
    let list: Value = api.get("/api/v1/caches").json();
    assert_eq!(list["caches"].as_array().unwrap().len(), 1, "only `main`: {list}");
}
