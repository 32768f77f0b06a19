//! CI jobs that bring their own issuer's token instead of a secret.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use snowbank_harness::{
    Api, NixStore, Scratch, Server, craft,
    issuer::{Issuer, SigningKey, unix_now},
    oracle::Oracle,
    process, trees,
};

/// A server that lets the issuer's jobs pull and push what matches `team-*`.
fn server(issuer: &Issuer) -> Server {
    Server::options().config(&issuer.config("team-*", &["pull", "push"])).start()
}

fn with(issuer: &Issuer, claim: &str, value: Value) -> String {
    let mut claims = issuer.job();
    claims[claim] = value;
    issuer.sign(&claims)
}

fn whoami(url: &str, token: &str) -> snowbank_harness::protocol::Answer {
    Api::new(url, Some(token)).get("/api/v1/whoami")
}

/// The token is refused with 401 by every replica. Gives one of the messages.
#[track_caller]
fn assert_refused(server: &Server, token: &str) -> String {
    let mut said = String::new();
    for replica in server.replicas() {
        let answer = whoami(&replica.url(), token);
        assert!(answer.header("www-authenticate").starts_with("Basic "), "{:?}", answer.headers);
        said = answer.refused(401, "unauthenticated");
        for part in token.split('.') {
            assert!(!answer.text().contains(part), "a part of the token is in {said}");
        }
    }
    assert!(!server.log().contains(token), "the token is in the log");
    said
}

#[test]
fn a_job_pushes_and_pulls_with_its_own_token() {
    let algorithms = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let keys = algorithms.map(|one| SigningKey::new(&format!("{one:?}"), one));
    let issuer = Issuer::start(keys.to_vec());
    let (server, store) = (server(&issuer), NixStore::new());
    let _ = server.command(&["cache", "create", "team-app", "--private"]).success();
    let _ = server.command(&["cache", "create", "other", "--private"]).success();
    for key in &keys {
        let token = key.sign(&issuer.job());
        let path = trees::add_tiny(&store, 1, &key.kid).remove(0);
        let client = snowbank_harness::Client::new(&store);
        let mut command = client.command(&["push", "team-app", &path]);
        command.env("SNOWBANK_URL", server.url()).env("SNOWBANK_TOKEN", &token);
        let _ = process::run(command).success();

        let api = Api::new(&server.url(), Some(&token));
        Oracle::new(&server, "team-app", api.clone()).assert_whole(&path);
        let basic = format!("Basic {}", STANDARD.encode(format!("job:{token}")));
        let address = craft::narinfo("team-app", &path);
        let answer = Api::anonymous(&server).get_with(&address, &[("Authorization", &basic)]);
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());

        let who: Value = api.get("/api/v1/whoami").json();
        assert_eq!(who["subject"], "forge:repo:team/app:ref:refs/heads/main", "{who}");
        assert_eq!(who["admin"], false);
        assert_eq!(api.get(&craft::narinfo("other", &path)).status.as_u16(), 404);
        api.post_bytes("/api/v1/caches/other/missing-chunks", vec![0; 32])
            .refused(403, "forbidden");
    }
}

#[test]
fn a_token_that_is_not_what_it_has_to_be_is_refused() {
    let issuer = Issuer::with_one_key();
    let server = server(&issuer);
    let now = unix_now();
    for (claim, value, said) in [
        ("aud", json!("https://other.example.org"), "audience"),
        ("aud", json!([]), "audience"),
        ("iss", json!("https://x.example.org"), "not issued by this server"),
        ("iss", json!(format!("{}/", issuer.url())), "not issued by this server"),
        ("exp", json!(now - 1), "expired"),
        ("exp", Value::Null, "`exp`"),
        ("exp", json!(now + 100_000), "more than a day"),
        ("nbf", json!(now + 600), "not valid yet"),
        ("iat", json!(now + 600), "not valid yet"),
        ("repository", json!("elsewhere/app"), "claim `repository`"),
        ("ref", json!("refs/heads/experiment"), "claim `ref`"),
        ("ref", json!("evil/refs/heads/main"), "claim `ref`"),
        ("sub", json!(""), "`sub`"),
    ] {
        let message = assert_refused(&server, &with(&issuer, claim, value.clone()));
        assert!(message.contains(said), "{claim} {value}: {message}");
        assert!(!message.contains("elsewhere") && !message.contains("experiment"), "{message}");
    }
    let stranger = SigningKey::new("key-1", Algorithm::ES256);
    let message = assert_refused(&server, &stranger.sign(&issuer.job()));
    assert!(message.contains("signature"), "{message}");
    assert_eq!(whoami(&server.url(), &issuer.sign(&issuer.job())).status.as_u16(), 200);
}

#[test]
fn keys_that_an_issuer_exchanges_are_followed() {
    let issuer = Issuer::with_one_key();
    let server = server(&issuer);
    let old = issuer.sign(&issuer.job());
    for replica in server.replicas() {
        assert_eq!(whoami(&replica.url(), &old).status.as_u16(), 200);
    }
    issuer.publish(vec![SigningKey::new("key-2", Algorithm::EdDSA)]);
    let new = issuer.sign(&issuer.job());
    for replica in server.replicas() {
        process::wait_until("the new key is found", Duration::from_secs(15), || {
            whoami(&replica.url(), &new).status.as_u16() == 200
        });
    }
    assert_refused(&server, &old);
    // Tokens that name keys which do not exist make no work for the issuer.
    let asked = issuer.asked();
    for number in 0..30 {
        let stranger = SigningKey::new(&format!("invented-{number}"), Algorithm::EdDSA);
        let _ = assert_refused(&server, &stranger.sign(&issuer.job()));
    }
    let more = issuer.asked() - asked;
    assert!(more <= 4 * server.replicas().len(), "{more} requests to the issuer");
}

#[test]
fn an_issuer_that_hangs_holds_up_nobody_else() {
    let issuer = Issuer::with_one_key();
    let server = server(&issuer);
    issuer.be_silent(true);
    let (token, own) = (issuer.sign(&issuer.job()), server.token("own", &["*"], &[]));
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let started = Instant::now();
                    let answer = whoami(&server.url(), &token);
                    (answer, started.elapsed())
                })
            })
            .collect();
        while !jobs.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let started = Instant::now();
            assert_eq!(whoami(&server.url(), &own).status.as_u16(), 200);
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        }
        for job in jobs {
            let (answer, took) = job.join().unwrap();
            let message = answer.refused(503, "issuer-unavailable");
            assert!(message.contains("issuer does not answer"), "{message}");
            let seconds: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=11).contains(&seconds), "{seconds}");
            assert!(took < Duration::from_secs(9), "{took:?}");
        }
    });
    issuer.be_silent(false);
    process::wait_until("it answers again", Duration::from_secs(30), || {
        server.replicas().iter().all(|one| whoami(&one.url(), &token).status.as_u16() == 200)
    });
}

#[test]
fn an_issuer_that_is_down_is_missed_only_where_its_keys_are_not_known() {
    let issuer = Issuer::with_one_key();
    let server = server(&issuer);
    let token = issuer.sign(&issuer.job());
    issuer.go_away();
    for replica in server.replicas() {
        let answer = whoami(&replica.url(), &token);
        answer.refused(503, "issuer-unavailable");
        assert!(!answer.header("retry-after").is_empty(), "{:?}", answer.headers);
    }
    issuer.come_back();
    process::wait_until("it is asked again", Duration::from_secs(30), || {
        server.replicas().iter().all(|one| whoami(&one.url(), &token).status.as_u16() == 200)
    });
    issuer.go_away();
    let later = with(&issuer, "jti", json!("another job"));
    for replica in server.replicas() {
        assert_eq!(whoami(&replica.url(), &later).status.as_u16(), 200, "the keys are known");
    }
}

#[test]
fn a_server_with_settings_that_make_no_sense_does_not_start() {
    let issuer = Issuer::with_one_key();
    let start = |config: &str| {
        let output = Server::options().config(config).start_in_vain(Duration::from_secs(30));
        assert!(!output.status.success(), "{output}");
        output.stderr
    };
    let said = start(&issuer.config("*", &["pull", "pusch"]));
    for part in ["config.toml:", "`auth.oidc.permissions`", "`pusch`", "`push`"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let said =
        start(&issuer.config("*", &["pull"]).replace(&issuer.url(), "http://forge.example.org"));
    assert!(said.contains("`auth.oidc.issuer`") && said.contains("https"), "{said}");
    let scratch = Scratch::new("key");
    let section = format!(
        "[[auth.token-key]]\nkid = \"k\"\nalgorithm = \"EdDSA\"\nfile = \"{}\"\n",
        scratch.join("absent.pem").display()
    );
    let said = start(&section);
    assert!(said.contains("absent.pem") && said.contains("token-key"), "{said}");
    assert_eq!(issuer.asked(), 0, "no issuer is asked at a start");
}
