//! Whatever a request does wrong, the refusal has the documented body and the request's id.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use snowbank_harness::{Api, Server, protocol::Answer};

/// Every route, by its methods; `{x}` is replaced.
const ROUTES: [(&str, &str); 34] = [
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/api/v1/whoami"),
    ("GET", "/api/v1/tokens"),
    ("POST", "/api/v1/tokens"),
    ("POST", "/api/v1/tokens/revoke"),
    ("GET", "/api/v1/tokens/{x}"),
    ("POST", "/api/v1/tokens/{x}/rotate"),
    ("GET", "/api/v1/audit"),
    ("POST", "/api/v1/gc"),
    ("POST", "/api/v1/push-session"),
    ("GET", "/api/v1/caches"),
    ("POST", "/api/v1/caches"),
    ("GET", "/api/v1/caches/{x}"),
    ("PATCH", "/api/v1/caches/{x}"),
    ("DELETE", "/api/v1/caches/{x}"),
    ("GET", "/api/v1/caches/{x}/details"),
    ("POST", "/api/v1/caches/{x}/restore"),
    ("POST", "/api/v1/caches/{x}/rename"),
    ("POST", "/api/v1/caches/{x}/rotate-key"),
    ("POST", "/api/v1/caches/{x}/missing-paths"),
    ("POST", "/api/v1/caches/{x}/missing-chunks"),
    ("POST", "/api/v1/caches/{x}/chunks"),
    ("POST", "/api/v1/caches/{x}/paths"),
    ("GET", "/api/v1/caches/{x}/paths"),
    ("GET", "/api/v1/caches/main/paths/{x}"),
    ("GET", "/api/v1/caches/{x}/withdrawn"),
    ("POST", "/api/v1/caches/{x}/delete"),
    ("POST", "/api/v1/caches/{x}/copy"),
    ("GET", "/api/v1/caches/{x}/pins"),
    ("PUT", "/api/v1/caches/main/pins/{x}"),
    ("GET", "/{x}/nix-cache-info"),
    ("GET", "/main/{x}"),
    ("GET", "/main/nar/{x}"),
];

#[track_caller]
fn assert_documented(answer: &Answer, what: &str) {
    let status = answer.status.as_u16();
    assert!(status >= 400, "{what}: {status} {}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        "application/json",
        "{what}: {status} {}",
        answer.text()
    );
    let body: Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|e| panic!("{what}: {e}: {}", answer.text()));
    let error = body["error"].as_object().unwrap_or_else(|| panic!("{what}: {body}"));
    for field in ["code", "message", "request_id"] {
        assert!(
            error[field].as_str().is_some_and(|text| !text.is_empty()),
            "{what}: no {field}: {body}"
        );
    }
    assert_eq!(answer.header("x-request-id"), error["request_id"].as_str().unwrap(), "{what}");
}

#[test]
fn every_refusal_of_every_route_has_the_documented_body() {
    let server = Server::start();
    let (root, anonymous) = (Api::root(&server), Api::anonymous(&server));
    let long = "a".repeat(8_000);
    // What is no UTF-8, what is no name, what is too long, what an encoding hides.
    let parts = ["%FF", "%ff%fe", "a%2Fb", "%00", "..%2f", "absent", &long, "%E2%82", "a%20b"];
    for (method, route) in ROUTES {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for part in parts {
            let path = route.replace("{x}", part);
            if path == route && part != parts[0] {
                continue;
            }
            for api in [&root, &anonymous] {
                let answer = api.json(method.clone(), &path, &json!({"unknown": []}));
                if answer.status.as_u16() >= 400 {
                    assert_documented(&answer, &format!("{method} {path}"));
                } else {
                    assert!(!path.contains("%FF"), "{method} {path}: {}", answer.status);
                }
            }
        }
        // Methods that the route does not have.
        for wrong in ["TRACE", "OPTIONS", "PUT", "DELETE", "PATCH", "BREW"] {
            let wrong = Method::from_bytes(wrong.as_bytes()).unwrap();
            let path = route.replace("{x}", "absent");
            assert_documented(
                &root.json(wrong.clone(), &path, &json!({})),
                &format!("{wrong} {path}"),
            );
        }
    }
    for path in ["/", "//", "/api", "/api/v2/caches", "/main/", "/a/b/c/d", "/%FF", "/%ff/%ff/%ff"]
    {
        assert_documented(&root.get(path), path);
    }
}

#[test]
fn a_query_that_does_not_parse_is_refused_like_everything_else() {
    let server = Server::start();
    let root = Api::root(&server);
    for (path, status) in [
        ("/api/v1/audit?limit=many", 400),
        ("/api/v1/audit?before=", 400),
        ("/api/v1/audit?limit=-1", 400),
        ("/api/v1/audit?limit=1&limit=2", 400),
        ("/api/v1/tokens?after=1&after=2", 400),
        ("/api/v1/caches/main/paths?pattern=a&pattern=b", 400),
        ("/api/v1/caches/main/withdrawn?after=a&after=b", 400),
        ("/main/pins/absent?format=json&format=text", 400),
    ] {
        let answer = root.get(path);
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        assert_documented(&answer, path);
        assert_eq!(answer.error().code, "bad-request", "{path}");
    }
}

#[test]
fn bodies_that_do_not_parse_are_refused_like_everything_else() {
    let server = Server::start();
    let root = Api::root(&server);
    for (method, route) in ROUTES.iter().filter(|(method, _)| !matches!(*method, "GET" | "DELETE"))
    {
        let path = route.replace("{x}", "main");
        for body in [
            &b"\xff\xfe"[..],
            b"",
            b"{",
            b"[]",
            b"null",
            b"{\"ids\": 7, \"paths\": 7, \"name\": 7, \"path\": 7}",
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let headers = [("content-type", "application/json")];
            let answer =
                root.try_send(method.clone(), &path, &headers, body.to_vec().into()).unwrap();
            if answer.status.as_u16() >= 400 {
                assert_documented(&answer, &format!("{method} {path} {body:?}"));
            }
        }
    }
}

#[test]
fn a_path_as_no_client_library_would_send_it_is_refused_like_everything_else() {
    let server = Server::start();
    for target in [
        "/main/%zz",
        "/api/v1/caches/%",
        "/api/v1/audit?limit=%zz",
        "/main/nar/%C3%28",
        "*",
        "/a\u{e9}b",
    ] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: snowbank\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{target}: {text}"));
        assert!(head.starts_with("HTTP/1.1 4"), "{target}: {head}");
        // What the library below cannot read as a request has no answer of ours.
        if head.to_lowercase().contains("x-request-id") {
            assert!(
                head.contains("application/json") && body.contains("request_id"),
                "{target}: {text}"
            );
        } else {
            assert!(body.is_empty(), "{target}: {text}");
        }
    }
}
