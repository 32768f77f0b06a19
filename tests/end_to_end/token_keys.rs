//! The keys that sign tokens: exchanged while everything goes on, of every kind, and never all
//! gone.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use snowbank_harness::{
    Api, Client, NixStore, Scratch, Server, Site, count, craft,
    issuer::{SigningKey, unix_now},
    oracle, process, token, trees,
};

/// How long a retired key's tokens may be believed.
const LIMIT: Duration = Duration::from_secs(5);

fn status(url: &str, token: &str) -> u16 {
    Api::new(url, Some(token)).get("/api/v1/whoami").status.as_u16()
}

fn kid(token: &str) -> String {
    token::header(token)["kid"].as_str().unwrap().to_owned()
}

/// What everybody uses at the moment, and how often it was exchanged.
struct Handed {
    token: Mutex<(usize, String)>,
    stop: AtomicBool,
    /// The exchange after which each worker has begun its last piece of work, and how many it has
    /// done.
    workers: Vec<(AtomicUsize, AtomicUsize)>,
}

impl Handed {
    /// Works with the current token until told to stop; gives what went wrong.
    fn work(
        &self,
        worker: usize,
        mut piece: impl FnMut(usize, &str) -> Result<(), String>,
    ) -> Vec<String> {
        let (mut failures, (at, done)) = (Vec::new(), &self.workers[worker]);
        while !self.stop.load(Ordering::SeqCst) {
            let (exchange, token) = self.token.lock().unwrap().clone();
            at.store(exchange, Ordering::SeqCst);
            failures.extend(piece(done.load(Ordering::SeqCst), &token).err());
            done.fetch_add(1, Ordering::SeqCst);
        }
        failures
    }

    fn hand_out(&self, token: &str) {
        let mut current = self.token.lock().unwrap();
        *current = (current.0 + 1, token.to_owned());
        let exchange = current.0;
        drop(current);
        process::wait_until("everybody has the new token", Duration::from_mins(1), || {
            self.workers.iter().all(|(at, _)| at.load(Ordering::SeqCst) == exchange)
        });
    }
}

/// Waits until each of these refuses the token with 401; gives the longest time that one took.
fn time_to_refusal(urls: &[String], token: &str) -> Duration {
    let started = Instant::now();
    let mut waiting: Vec<&String> = urls.iter().collect();
    while !waiting.is_empty() {
        waiting.retain(|url| status(url, token) != 401);
        assert!(started.elapsed() < Duration::from_secs(20), "{waiting:?} still believe the token");
        std::thread::sleep(Duration::from_millis(20));
    }
    started.elapsed()
}

#[test]
fn a_key_is_exchanged_under_load_and_nothing_fails() {
    let (site, store) = (Site::start(), NixStore::new());
    let server = Server::options().on(&site).start();
    let urls: Vec<String> = server.replicas().iter().map(snowbank_harness::Replica::url).collect();
    let _ = server.command(&["cache", "create", "team", "--private"]).success();
    let old = server.token("ci", &["team"], &["team"]);
    let paths = trees::add_tiny(&store, count(400, 2_000), "drill");
    let _ = Client::at(&server.url(), &old, &store).push_to("team", &paths[..1], &[]).success();
    let address = craft::narinfo("team", &paths[0]);
    let client = Client::new(&store);
    let workers = (0..=urls.len()).map(|_| (AtomicUsize::new(0), AtomicUsize::new(0))).collect();
    let handed =
        Handed { token: Mutex::new((0, old.clone())), stop: AtomicBool::new(false), workers };

    let failures: Vec<String> = std::thread::scope(|scope| {
        let (handed, address, paths, client, server) =
            (&handed, &address, &paths, &client, &server);
        let mut threads: Vec<_> = urls
            .iter()
            .enumerate()
            .map(|(worker, url)| {
                scope.spawn(move || {
                    handed.work(worker, |_, token| {
                        let answer = Api::new(url, Some(token)).get(address);
                        if answer.status.as_u16() == 200 {
                            Ok(())
                        } else {
                            Err(format!("a pull: {}", answer.text()))
                        }
                    })
                })
            })
            .collect();
        threads.push(scope.spawn(|| {
            handed.work(urls.len(), |number, token| {
                let mut command =
                    client.command(&["push", "team", &paths[(1 + number) % paths.len()]]);
                command.env("SNOWBANK_URL", server.url()).env("SNOWBANK_TOKEN", token);
                let output = process::run(command);
                if output.status.success() { Ok(()) } else { Err(format!("a push: {output}")) }
            })
        }));
        std::thread::sleep(Duration::from_secs(2));

        let _ = server
            .command(&["token-key", "add", "--algorithm", "EdDSA", "--kid", "second"])
            .success();
        assert_eq!(status(&urls[0], &old), 200, "the old key is believed");
        let new = server.token("ci", &["team"], &["team"]);
        assert_eq!(
            (kid(&new).as_str(), token::header(&new)["alg"].as_str()),
            ("second", Some("EdDSA"))
        );
        handed.hand_out(&new);
        std::thread::sleep(Duration::from_secs(1));

        let _ = server.command(&["token-key", "retire", &kid(&old)]).success();
        let took = time_to_refusal(&urls, &old);
        eprintln!("the retired key's token was refused by every replica after {took:?}");
        assert!(took < LIMIT, "{took:?}");
        std::thread::sleep(Duration::from_secs(2));
        handed.stop.store(true, Ordering::SeqCst);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} failures: {}", failures.len(), failures.join("\n"));
    let done: Vec<usize> =
        handed.workers.iter().map(|(_, done)| done.load(Ordering::SeqCst)).collect();
    assert!(done.iter().all(|count| *count > 5), "there was load all the time: {done:?}");
    for url in &urls {
        assert_eq!(status(url, &server.root_token()), 401, "the root token was the first key's");
    }
    oracle::assert_check_is_clean(&server);
}

#[test]
fn every_algorithm_signs_and_the_list_says_which_does() {
    let server = Server::start();
    let mut tokens = vec![server.token("first", &["*"], &[])];
    for algorithm in ["RS256", "ES256", "EdDSA", "HS256"] {
        let _ = server
            .command(&["token-key", "add", "--algorithm", algorithm, "--kid", algorithm])
            .success();
        let new = server.token(algorithm, &["*"], &[]);
        assert_eq!(token::header(&new)["alg"], algorithm);
        assert_eq!(kid(&new), algorithm);
        tokens.push(new);
    }
    for replica in server.replicas() {
        for token in &tokens {
            process::wait_until("the key is believed", LIMIT, || {
                status(&replica.url(), token) == 200
            });
        }
    }
    let list = server.command(&["token-key", "list"]).success().stdout;
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 5, "{list}");
    assert!(
        lines[0].starts_with("HS256  HS256") && lines[0].contains("signs new tokens"),
        "{list}"
    );
    assert_eq!(list.matches("signs new tokens").count(), 1, "{list}");

    // An id that is taken, and what is no algorithm or id.
    for (args, part) in [
        (["--kid", "RS256"], "already"),
        (["--kid", "a b"], "key id"),
        (["--algorithm", "none"], "EdDSA"),
        (["--from", "/nonexistent"], "/nonexistent"),
    ] {
        let output = server.command(&[&["token-key", "add"][..], &args].concat());
        assert!(!output.status.success() && output.stderr.contains(part), "{output}");
    }
}

#[test]
fn the_last_key_that_signs_stays_and_removing_asks() {
    let server = Server::start();
    let old = server.token("someone", &["*"], &[]);
    let first = kid(&old);
    let refused = |args: &[&str], part: &str| {
        let output = server.command(&[&["token-key"], args].concat());
        assert!(!output.status.success() && output.stderr.contains(part), "`{part}`: {output}");
    };
    refused(&["retire", &first], "token-key add");
    refused(&["remove", &first, "--yes"], "token-key add");
    refused(&["retire", "absent"], "token-key list");
    // A public key is no help with signing.
    let (scratch, key) = (Scratch::new("key"), SigningKey::new("public", Algorithm::EdDSA));
    let file = write(&scratch, &key.public_pem(), 0o644);
    let added = server
        .command(&["token-key", "add", "--from", &file.to_string_lossy(), "--kid", "public"])
        .success();
    assert!(added.stdout.contains("public key"), "{added}");
    refused(&["retire", &first], "token-key add");

    let _ = server.command(&["token-key", "add", "--kid", "second"]).success();
    refused(&["remove", &first], "--yes");
    assert_eq!(status(&server.url(), &old), 200, "nothing was removed");
    let output = server.command(&["token-key", "retire", &first]).success();
    assert!(output.stdout.contains("unexpired token") && output.stdout.contains("5 s"), "{output}");
    refused(&["retire", &first], "already");
    refused(&["add", "--kid", &first], "retired");
    let _ = server.command(&["token-key", "remove", &first, "--yes"]).success();
    let list = server.command(&["token-key", "list"]).success().stdout;
    assert!(!list.contains(&first) && list.contains("public") && list.contains("second"), "{list}");
    let urls: Vec<String> = server.replicas().iter().map(snowbank_harness::Replica::url).collect();
    assert!(time_to_refusal(&urls, &old) < LIMIT);
    assert_eq!(kid(&server.token("someone", &["*"], &[])), "second");
}

fn write(scratch: &Scratch, text: &str, mode: u32) -> PathBuf {
    let file = scratch.join("key.pem");
    process::write(&file, text);
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    file
}

fn claims(sub: &str) -> Value {
    let now = unix_now();
    json!({
        "sub": sub, "jti": sub, "iat": now, "exp": now + 300,
        "snowbank": {"caches": {"*": ["pull"]}, "admin": false},
    })
}

#[test]
fn a_key_from_a_file_signs_or_verifies() {
    let (server, scratch) = (Server::start(), Scratch::new("key"));
    for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256] {
        let name = format!("{algorithm:?}");
        // The public half: what its owner signs is believed, and nothing is signed with it here.
        let key = SigningKey::new(&format!("{name}-public"), algorithm);
        let file = write(&scratch, &key.public_pem(), 0o644);
        let before = kid(&server.token("before", &["*"], &[]));
        let _ = server
            .command(&["token-key", "add", "--from", &file.to_string_lossy(), "--kid", &key.kid])
            .success();
        assert_eq!(kid(&server.token("after", &["*"], &[])), before);
        let token = key.sign(&claims("elsewhere"));
        process::wait_until("the key is believed", LIMIT, || status(&server.url(), &token) == 200);
        // Its text, which all the world may have, is no secret to sign with.
        let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
        header.kid = Some(key.kid.clone());
        let secret = jsonwebtoken::EncodingKey::from_secret(key.public_pem().as_bytes());
        let forged = jsonwebtoken::encode(&header, &claims("forged"), &secret).unwrap();
        assert_eq!(status(&server.url(), &forged), 401);

        let key = SigningKey::new(&format!("{name}-private"), algorithm);
        let open = write(&scratch, &key.private_pem(), 0o644);
        let output = server.command(&["token-key", "add", "--from", &open.to_string_lossy()]);
        assert!(!output.status.success() && output.stderr.contains("chmod 600"), "{output}");
        let file = write(&scratch, &key.private_pem(), 0o600);
        let _ = server
            .command(&["token-key", "add", "--from", &file.to_string_lossy(), "--kid", &key.kid])
            .success();
        let token = server.token("after", &["*"], &[]);
        assert_eq!(
            (kid(&token), token::header(&token)["alg"].as_str()),
            (key.kid.clone(), Some(name.as_str()))
        );
        process::wait_until("the key is believed", LIMIT, || status(&server.url(), &token) == 200);
    }
}

#[test]
fn a_key_of_the_config_file_verifies_and_does_not_sign() {
    let (scratch, key) = (Scratch::new("key"), SigningKey::new("from-config", Algorithm::EdDSA));
    let file = write(&scratch, &key.private_pem(), 0o600);
    let section = format!(
        "[[auth.token-key]]\nkid = \"from-config\"\nalgorithm = \"EdDSA\"\nfile = \"{}\"\n",
        file.display()
    );
    let server = Server::options().config(&section).start();
    for replica in server.replicas() {
        assert_eq!(status(&replica.url(), &key.sign(&claims("elsewhere"))), 200);
    }
    let own = server.token("own", &["*"], &[]);
    assert_ne!(kid(&own), "from-config");
    let list = server.command(&["token-key", "list"]).success().stdout;
    assert!(
        list.lines().any(|line| line.starts_with("from-config") && line.contains("config file")),
        "{list}"
    );
    let output = server.command(&["token-key", "retire", "from-config"]);
    assert!(!output.status.success() && output.stderr.contains("config file"), "{output}");
    // It can sign, so the database's last key may go; then it does.
    let _ = server.command(&["token-key", "retire", &kid(&own)]).success();
    let token = server.token("own", &["*"], &[]);
    assert_eq!(kid(&token), "from-config");
    assert_eq!(status(&server.url(), &token), 200);
}
