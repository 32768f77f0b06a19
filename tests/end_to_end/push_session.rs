//! A push that outlives its token: through a session, which has no more rights than the token, ends
//! in time, and is taken back with it.

use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use snowbank_core::token::{hide_tokens, looks_like_token};
use snowbank_harness::{
    Api, Client, NixStore, Random, Server,
    client::RunningPush,
    craft,
    issuer::{Issuer, unix_now},
    process, token, trees,
};

const SESSION: &str = "/api/v1/push-session";
/// Within this time every server follows a revocation.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);
/// How late a busy machine may be.
const MARGIN: Duration = Duration::from_secs(20);

/// A server with the private caches `team-app` and `other`, and small bundles so that a push has
/// many requests.
fn server(config: &str) -> Server {
    let server = Server::options().config(config).start();
    for cache in ["team-app", "other"] {
        server.command(&["cache", "create", cache, "--private"]).succeeds();
    }
    server
}

fn config(push_session: &str, issuer: &Issuer) -> String {
    format!(
        "[limits]\nbundle-size = \"1MiB\"\n[auth]\npush-session = \"{push_session}\"\n{}",
        issuer.config("team-*", &["pull", "push", "delete", "configure", "create"])
    )
}

/// A job's token that ends after so many seconds.
fn job_token(issuer: &Issuer, seconds: u64) -> String {
    let mut claims = issuer.job();
    claims["exp"] = json!(unix_now() + seconds);
    issuer.sign(&claims)
}

/// A token of this server.
fn own_token(server: &Server, subject: &str, args: &[&str]) -> String {
    let all = [&["token", "create", "--sub", subject], args].concat();
    server.command(&all).success().stdout.trim().to_owned()
}

/// Opens a session for these caches; gives its answer.
fn open(server: &Server, token: &str, caches: &[&str]) -> Value {
    let answer =
        Api::new(&server.url(), Some(token)).post_json(SESSION, &json!({"caches": caches}));
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    answer.json()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Asks for no chunks, as a push does.
fn push_to(url: &str, token: &str, cache: &str) -> snowbank_harness::protocol::Answer {
    Api::new(url, Some(token))
        .post_bytes(&format!("/api/v1/caches/{cache}/missing-chunks"), vec![0; 32])
}

/// What the audit log says of sessions that were given, newest first.
fn entries(server: &Server) -> Vec<Value> {
    let page: Value =
        Api::root(server).get("/api/v1/audit?action=token.push-session&limit=1000").json();
    let entries = page["entries"].as_array().unwrap();
    entries.iter().filter(|entry| entry["outcome"] == "ok").cloned().collect()
}

/// Waits until every replica refuses the token with 401; gives how long that took.
#[track_caller]
fn wait_until_refused(server: &Server, token: &str, cache: &str) -> Duration {
    let started = Instant::now();
    process::wait_until("the token is refused", MARGIN, || {
        server.replicas().iter().all(|one| push_to(&one.url(), token, cache).status == 401)
    });
    started.elapsed()
}

/// Starts a push of noise to `team-app`, and stops it once it has sent something.
fn start_and_stop(server: &Server, client: &Client, path: &str, token: &str) -> RunningPush {
    let before = server.stored_bytes();
    let mut push = client.start_push_as(&server.url(), token, "team-app", &[path]);
    process::wait_until("the push has sent something", Duration::from_mins(2), || {
        server.stored_bytes() > before || push.is_done()
    });
    push.signal(Signal::STOP);
    assert!(!push.is_done(), "the push ended too early: {:?}", push.wait().output);
    push
}

#[test]
fn a_push_outlives_its_token() {
    let issuer = Issuer::with_one_key();
    let (server, store) = (server(&config("1h", &issuer)), NixStore::new());
    let own = ["--push", "team-*", "--pull", "team-*", "--expires", "20s"];
    let client = Client::new(&store);
    for kind in ["issuer", "own"] {
        let path = trees::add_noise(&store, &mut Random::fixed(kind.len() as u64), kind, 48 << 20);
        let token = match kind {
            "issuer" => job_token(&issuer, 20),
            _ => own_token(&server, "ci", &own),
        };
        let mut push = start_and_stop(&server, &client, &path, &token);
        process::wait_until("the token ends", Duration::from_secs(30), || {
            push_to(&server.url(), &token, "team-app").status == 401
        });
        push.signal(Signal::CONT);
        assert!(!push.is_done());
        let push = push.wait();
        let output = push.output.success();
        let entry = &entries(&server)[0];
        let subject = if kind == "own" { "ci" } else { "forge:repo:team/app:ref:refs/heads/main" };
        assert_eq!(entry["subject"], subject, "{entry}");
        assert_eq!(entry["token_id"], token::claims(&token)["jti"], "{entry}");
        let detail = text(&entry["detail"]);
        let from = if kind == "own" { "this server".to_owned() } else { issuer.url() };
        for part in [format!("sub={subject} "), format!("issuer={from} "), "id=".to_owned()] {
            assert!(detail.contains(&part), "{part} is not in: {detail}");
        }
        let said = output.said() + &server.log();
        assert!(!looks_like_token(&said), "a token is shown: {}", hide_tokens(&said));
    }
    for file in walk(client.home()) {
        let contents = std::fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&contents);
        assert!(!looks_like_token(&text), "a token is in {}", file.display());
    }
}

/// Every file beneath a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => walk(&entry.path()),
            kind if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn without_sessions_a_push_ends_with_its_token_and_says_so() {
    let issuer = Issuer::with_one_key();
    for off in ["off", "0"] {
        let (server, store) = (server(&config(off, &issuer)), NixStore::new());
        let path = trees::add_noise(&store, &mut Random::fixed(7), "noise", 48 << 20);
        let client = Client::new(&store);
        let token = job_token(&issuer, 20);
        let answer = Api::new(&server.url(), Some(&token))
            .post_json(SESSION, &json!({"caches": ["team-app"]}));
        answer.refused(404, "no-push-sessions");
        let push = start_and_stop(&server, &client, &path, &token);
        process::wait_until("the token ends", Duration::from_secs(30), || {
            push_to(&server.url(), &token, "team-app").status == 401
        });
        push.signal(Signal::CONT);
        let output = push.wait().output.ended_with(9);
        assert!(output.stderr.contains("expired"), "{output}");
        assert!(output.stderr.contains("gives no push sessions"), "{output}");
        // Where the token lasts, there is nothing to say.
        let tiny = trees::add_tiny(&store, 1, "tiny").remove(0);
        let token = job_token(&issuer, 300);
        let push = client.start_push_as(&server.url(), &token, "team-app", &[&tiny]).wait();
        let output = push.output.success();
        assert!(!output.stderr.contains("session"), "{output}");
    }
}

#[test]
fn a_revoked_subject_ends_a_push_that_is_under_way() {
    let issuer = Issuer::with_one_key();
    let (server, store) = (server(&config("1h", &issuer)), NixStore::new());
    let path = trees::add_noise(&store, &mut Random::fixed(11), "noise", 48 << 20);
    let client = Client::new(&store);
    let push = start_and_stop(&server, &client, &path, &job_token(&issuer, 300));
    let subject = "forge:repo:team/app:ref:refs/heads/main";
    server.command(&["token", "revoke", "--force", "--subject", subject]).succeeds();
    std::thread::sleep(REVOKED_WITHIN);
    push.signal(Signal::CONT);
    let started = Instant::now();
    let output = push.wait().output.ended_with(9);
    assert!(started.elapsed() < MARGIN, "{:?}", started.elapsed());
    assert!(output.stderr.contains("revoked"), "{output}");
    let root = Api::root(&server);
    assert_eq!(root.get(&craft::narinfo("team-app", &path)).status.as_u16(), 404);
}

#[test]
fn a_session_is_revoked_by_each_of_its_ids_its_subject_and_its_key() {
    let issuer = Issuer::with_one_key();
    let mut server = server(&config("1h", &issuer));
    let own =
        |subject: &str| own_token(&server, subject, &["--push", "team-*", "--expires", "10m"]);
    // Each with a session, and with one that was renewed.
    let (by_id, by_session, by_subject) = (own("a"), own("b"), own("c"));
    let sessions = [&by_id, &by_session, &by_subject].map(|token| {
        let first = open(&server, token, &["team-app"]);
        let renewed = open(&server, text(&first["token"]), &["team-app"]);
        (text(&first["id"]).to_owned(), text(&renewed["token"]).to_owned())
    });
    let kept = open(&server, &own("d"), &["team-app"]);
    let jti = token::claims(&by_id)["jti"].clone();
    for args in [
        vec!["token", "revoke", text(&jti)],
        vec!["token", "revoke", "--force", sessions[1].0.as_str()],
        vec!["token", "revoke", "--subject", "c"],
    ] {
        server.command(&args).succeeds();
    }
    for (_, session) in &sessions {
        let took = wait_until_refused(&server, session, "team-app");
        assert!(took < REVOKED_WITHIN + Duration::from_secs(5), "{took:?}");
        let api = Api::new(&server.url(), Some(session));
        api.post_json(SESSION, &json!({"caches": ["team-app"]})).refused(401, "unauthenticated");
    }
    assert_eq!(push_to(&server.url(), text(&kept["token"]), "team-app").status.as_u16(), 200);

    // The key of the first token is retired; the session is signed with a newer one.
    let token = own("e");
    let kid = token::header(&token)["kid"].clone();
    server.command(&["token-key", "add"]).succeeds();
    let session = open(&server, &token, &["team-app"]);
    assert_ne!(token::header(text(&session["token"]))["kid"], kid);
    server.command(&["token-key", "retire", text(&kid)]).succeeds();
    let _ = wait_until_refused(&server, text(&session["token"]), "team-app");

    let _ = server.terminate();
}

#[test]
fn without_its_issuer_a_session_is_refused() {
    let issuer = Issuer::with_one_key();
    let data = snowbank_harness::Scratch::new("data");
    let site = snowbank_harness::Site::of_environment();
    let start = |config: &str| {
        let options = Server::options().config(config).data_dir(data.path()).replicas(1);
        match &site {
            Some(site) => options.on(site).start(),
            None => options.start(),
        }
    };
    let mut first = start(&config("1h", &issuer));
    first.command(&["cache", "create", "team-app", "--private"]).succeeds();
    let token = job_token(&issuer, 300);
    let session = open(&first, &token, &["team-app"]);
    let session = text(&session["token"]);
    assert_eq!(push_to(&first.url(), session, "team-app").status.as_u16(), 200);
    let _ = first.terminate();
    drop(first);
    // The rule asks for another claim, allows less, or is gone; or sessions are off.
    let rules = config("1h", &issuer);
    for (settings, status) in [
        (rules.replace("team/*", "crew/*"), 401),
        (rules.replace("\"push\", ", ""), 403),
        ("[auth]\npush-session = \"1h\"\n".to_owned(), 401),
        (config("off", &issuer), 401),
        (rules.clone(), 200),
    ] {
        let mut server = start(&settings);
        let answer = push_to(&server.url(), session, "team-app");
        assert_eq!(answer.status.as_u16(), status, "{settings}: {}", answer.text());
        let _ = server.terminate();
    }
}

#[test]
fn a_session_is_for_its_push_and_nothing_else() {
    let issuer = Issuer::with_one_key();
    let server = server(&config("1h", &issuer));
    let strong = own_token(
        &server,
        "strong",
        &[
            "--admin",
            "--expires",
            "10m",
            "--pull",
            "*",
            "--push",
            "*",
            "--delete",
            "*",
            "--configure",
            "*",
            "--create",
            "*",
        ],
    );
    for token in [job_token(&issuer, 300), strong.clone()] {
        let session = open(&server, &token, &["team-app"]);
        let api = Api::new(&server.url(), Some(text(&session["token"])));
        let (get, post) = (Method::GET, Method::POST);
        for (method, path) in [
            (&get, "/api/v1/whoami"),
            (&get, "/api/v1/caches"),
            (&post, "/api/v1/caches"),
            (&get, "/api/v1/caches/team-app/details"),
            (&Method::PATCH, "/api/v1/caches/team-app"),
            (&Method::DELETE, "/api/v1/caches/team-app"),
            (&post, "/api/v1/caches/team-app/restore"),
            (&post, "/api/v1/caches/team-app/purge"),
            (&post, "/api/v1/caches/team-app/rename"),
            (&post, "/api/v1/caches/team-app/rotate-key"),
            (&post, "/api/v1/caches/team-app/delete"),
            (&post, "/api/v1/caches/team-app/copy"),
            (&get, "/api/v1/caches/team-app/paths"),
            (&get, "/api/v1/caches/team-app/withdrawn"),
            (&get, "/api/v1/caches/team-app/pins"),
            (&get, "/api/v1/caches/team-app/pins/latest"),
            (&Method::DELETE, "/api/v1/caches/team-app/pins/latest"),
            (&post, "/api/v1/caches/team-app/pins/latest/rollback"),
            (&get, "/api/v1/tokens"),
            (&get, "/api/v1/tokens/any"),
            (&post, "/api/v1/tokens"),
            (&post, "/api/v1/tokens/revoke"),
            (&post, "/api/v1/tokens/any/rotate"),
            (&post, "/api/v1/gc"),
            (&get, "/api/v1/audit"),
        ] {
            let said = api.json(method.clone(), path, &json!({})).refused(403, "forbidden");
            assert!(said.contains("push session"), "{method} {path}: {said}");
        }
        // What a push asks is let in.
        let own = "/api/v1/caches/team-app";
        assert_eq!(api.get(own).status.as_u16(), 200);
        assert_eq!(api.get("/team-app/nix-cache-info").status.as_u16(), 200);
        for (method, path) in [
            (&post, "missing-paths"),
            (&post, "missing-chunks"),
            (&post, "verify-paths"),
            (&post, "chunks"),
            (&post, "paths"),
            (&Method::PUT, "pins/latest"),
        ] {
            let address = format!("{own}/{path}");
            let status = api.json(method.clone(), &address, &json!({})).status.as_u16();
            assert!(!matches!(status, 401 | 403), "{path}: {status}");
            // The other cache is another push's.
            let address = format!("/api/v1/caches/other/{path}");
            api.json(method.clone(), &address, &json!({})).refused(403, "forbidden");
        }
        assert_eq!(api.get("/other/nix-cache-info").status.as_u16(), 404);
        api.post_json(SESSION, &json!({"caches": ["other"]})).refused(403, "forbidden");
        api.post_json(SESSION, &json!({"caches": ["team-app", "other"]})).refused(403, "forbidden");
    }
    // Whoever may not push gets none, and no sign of whether there is such a cache.
    let reader = Api::new(&server.url(), Some(&server.token("reader", &["*"], &[])));
    for cache in ["team-app", "absent"] {
        reader.post_json(SESSION, &json!({"caches": [cache]})).refused(403, "forbidden");
    }
    let body = json!({"caches": ["team-app"]});
    Api::anonymous(&server).post_json(SESSION, &body).refused(401, "unauthenticated");
    let strong = Api::new(&server.url(), Some(&strong));
    strong.post_json(SESSION, &json!({"caches": []})).refused(400, "bad-request");
    strong.post_json(SESSION, &json!({"caches": ["no/name"]})).refused(400, "bad-request");
}

#[test]
fn renewals_never_go_beyond_the_bound() {
    let issuer = Issuer::with_one_key();
    let server = server(&config("12s", &issuer));
    let mut session = open(&server, &job_token(&issuer, 300), &["team-app"]);
    let (opened, first) = (Instant::now(), session.clone());
    assert_eq!(session["ends_in"], 12);
    let mut ids = vec![session["id"].clone()];
    loop {
        let token = text(&session["token"]).to_owned();
        let left = session["expires_in"].as_u64().unwrap();
        assert!(left <= 3, "{left}");
        let ends_in = session["ends_in"].as_u64().unwrap();
        assert!(ends_in <= 12 && left <= ends_in, "{left} {ends_in}");
        std::thread::sleep(Duration::from_millis(1_000 * left / 2 + 100));
        let api = Api::new(&server.url(), Some(&token));
        let answer = api.post_json(SESSION, &json!({"caches": ["team-app"]}));
        if answer.status == 401 {
            break;
        }
        assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
        session = answer.json();
        assert!(!ids.contains(&session["id"]), "each has an id of its own");
        ids.push(session["id"].clone());
        assert!(opened.elapsed() < Duration::from_secs(14), "{:?}", opened.elapsed());
    }
    assert!(ids.len() > 4, "{ids:?}");
    let _ = wait_until_refused(&server, text(&session["token"]), "team-app");
    assert!(opened.elapsed() >= Duration::from_secs(10), "{:?}", opened.elapsed());
    let _ = wait_until_refused(&server, text(&first["token"]), "team-app");
    let of_chain = format!("session={} ", text(&first["id"]));
    let listed = entries(&server);
    assert_eq!(listed.len(), ids.len());
    assert!(listed.iter().all(|entry| text(&entry["detail"]).contains(&of_chain)), "{listed:?}");
}

/// A push that sleeps for more than half of its token's life, and then has more to send. With
/// `SNOWBANK_TESTS_FULL` it takes 20 minutes, and the token that began it ends after one.
#[test]
fn a_push_renews_its_session() {
    let issuer = Issuer::with_one_key();
    let (session, token_seconds, sleeps, seconds) =
        if snowbank_harness::full() { ("1h", 60, 120, 10) } else { ("1m", 20, 1, 9) };
    let (server, store) = (server(&config(session, &issuer)), NixStore::new());
    let path = trees::add_noise(&store, &mut Random::fixed(13), "noise", (48 + sleeps) << 20);
    let client = Client::new(&store);
    let mut push = start_and_stop(&server, &client, &path, &job_token(&issuer, token_seconds));
    assert_eq!(entries(&server).len(), 1);
    for left in (0..sleeps).rev() {
        std::thread::sleep(Duration::from_secs(seconds));
        push.signal(Signal::CONT);
        if left > 0 {
            std::thread::sleep(Duration::from_millis(5));
            push.signal(Signal::STOP);
            assert!(!push.is_done(), "the push ended too early");
        }
    }
    let _ = push.wait_for(Duration::from_mins(40)).output.success();
    assert!(entries(&server).len() > 1, "{:?}", entries(&server));
}
