//! Build logs and realisations.

use serde_json::{Value, json};
use snowbank_harness::{
    Api, Client, NixStore, Random, Server,
    ageing::{HOUR, age_everything},
    oracle,
    oracle::Oracle,
    process,
};

use super::{copy, netrc};

/// A derivation that says something while it is built.
const LOUD: &str = r#"
derivation {
  name = "loud";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-c" "echo what the builder says; echo loud > $out" ];
}
"#;

/// Builds it; gives its derivation and its output.
fn build(store: &NixStore) -> (String, String) {
    let derivation = store.instantiate(LOUD).remove(0);
    let built = store.run("nix-store", &["--realise", &derivation]).success();
    (derivation, built.stdout.trim().to_owned())
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

#[test]
fn logs_are_copied_and_found_by_nix() {
    let (server, store) = (Server::start(), NixStore::new());
    let (derivation, output) = build(&store);
    let _ = copy(&server, &store, "main", std::slice::from_ref(&output)).success();
    let url = format!("{}/main", server.url());
    for _ in 0..2 {
        let mut command = store.command("nix");
        command.args(["store", "copy-log", "--to", &url, &derivation]).args(netrc(&server, &store));
        let _ = process::run(command).success();
    }
    let other = NixStore::new();
    // Whoever has substituted the path asks the substituter for its log.
    let oracle = Oracle::main(&server);
    let _ = other.substitute(&url, &oracle.public_key(), &[&output]).success();
    let log = other.run("nix", &["log", "--option", "substituters", &url, &output]).success();
    assert_eq!(log.stdout.trim(), "what the builder says");
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_push_brings_the_logs_of_what_it_brings() {
    let (server, store) = (Server::start(), NixStore::new());
    let (derivation, output) = build(&store);
    let client = Client::of(&server, &store);
    let address = format!("/main/log/{}", base_name(&derivation));
    let api = Api::root(&server);
    let dry = client.push_to("main", &[&output], &["--no-logs"]).success();
    assert!(!dry.output.stderr.contains("log"), "{}", dry.output);
    assert_eq!(api.get(&address).status.as_u16(), 404);
    server.command(&["delete", "main", &output, "--yes"]).succeeds();
    let pushed = client.push_to("main", &[&output], &["--json"]).success();
    assert!(pushed.output.stdout.contains("\"logs\":1"), "{}", pushed.output);
    assert_eq!(api.get(&address).text().trim(), "what the builder says");
    // What was present brings none.
    let again = client.push_to("main", &[&output], &["--json"]).success();
    assert!(!again.output.stdout.contains("logs"), "{}", again.output);
}

#[test]
fn a_log_is_served_as_it_was_written_and_kept_with_its_path() {
    let (server, store) = (Server::start(), NixStore::new());
    let (derivation, output) = build(&store);
    let _ = copy(&server, &store, "main", std::slice::from_ref(&output)).success();
    let (api, mut random) = (Api::root(&server), Random::fixed(1));
    let drv = base_name(&derivation);
    let address = format!("/main/log/{drv}");
    let text = random.text(300_000);
    let put = |address: &str, encoding: &str, body: Vec<u8>| {
        let headers = [("Content-Encoding", encoding)];
        let answer = api.put(address, if encoding.is_empty() { &[] } else { &headers }, body);
        answer.status.as_u16()
    };
    for encoding in ["", "xz", "bzip2", "zstd", "gzip"] {
        let body = match encoding {
            "" => text.clone(),
            program => super::damage::compressed(program, &text),
        };
        if !encoding.is_empty() {
            assert_eq!(put(&address, encoding, body[..body.len() - 9].to_vec()), 422);
        }
        assert_eq!(put(&address, encoding, body), 201, "{encoding}");
        let served = api.get(&address);
        assert!(served.body == text, "{encoding}");
        assert_eq!(served.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(api.head(&address).header("content-length"), text.len().to_string());
    }
    for body in [Vec::new(), b"x".to_vec(), vec![7; 8]] {
        assert_eq!(put(&address, "", body.clone()), 201);
        assert_eq!(api.get(&address).body, body);
    }
    assert_eq!(put(&address, "", text.clone()), 201);

    // One of a derivation whose output nobody has pushed goes after a day.
    let stray = address.replace(drv, &format!("{}-stray.drv", random.hash_chars()));
    assert_eq!(put(&stray, "", text.clone()), 201);
    let collect = || server.command(&["gc", "--grace", "0s", "--yes"]).succeeds();
    age_everything(&server, 23 * HOUR);
    collect();
    assert_eq!((api.get(&stray).status.as_u16(), api.get(&address).status.as_u16()), (200, 200));
    age_everything(&server, 2 * HOUR);
    collect();
    assert_eq!((api.get(&stray).status.as_u16(), api.get(&address).status.as_u16()), (404, 200));
    assert!(api.get(&address).body == text);
    oracle::assert_check_is_clean(&server);
    server.command(&["delete", "main", &output, "--yes"]).succeeds();
    collect();
    assert_eq!(api.get(&address).status.as_u16(), 404);
    collect();
    assert!(server.stored_bytes() < 50_000, "{}", server.stored_bytes());
    oracle::assert_check_is_clean(&server);
    assert_eq!(put("/main/log/x.drv", "", text.clone()), 404);
    assert_eq!(put(&address.replace(".drv", ""), "", text), 404);
}

#[test]
fn realisations_are_kept_with_the_signatures_of_all_who_send_them() {
    let (server, store) = (Server::start(), NixStore::new());
    let (_, output) = build(&store);
    let _ = copy(&server, &store, "main", std::slice::from_ref(&output)).success();
    let api = Api::root(&server);
    for address in [
        format!("/main/realisations/sha256:{}!out.doi", "a".repeat(64)),
        "/main/build-trace-v2/loud.drv/out.doi".to_owned(),
    ] {
        let body = |signature: &str| {
            json!({"id": "x!out", "outPath": base_name(&output), "signatures": [signature],
                   "dependentRealisations": {}})
        };
        for signature in ["a-1:AAAA", "b-1:BBBB", "a-1:AAAA"] {
            let sent = body(signature).to_string().into_bytes();
            let answer = api.put(&address, &[], sent);
            assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
        }
        let kept: Value = Api::anonymous(&server).get(&address).json();
        assert_eq!(kept["signatures"], json!(["a-1:AAAA", "b-1:BBBB"]));
        assert_eq!(kept["outPath"], base_name(&output));
        let mut other = body("c-1:CCCC");
        other["outPath"] = json!(format!("{}-other", Random::fixed(2).hash_chars()));
        let _ = api.put(&address, &[], other.to_string().into_bytes()).refused(409, "conflict");
        for bad in ["", "[]", "{}", "{\"outPath\":\"x\"}", "{\"outPath\":7}"] {
            let _ = api.put(&address, &[], bad.into()).refused(422, "bad-request");
        }
        age_everything(&server, 48 * HOUR);
        server.command(&["gc", "--grace", "0s", "--yes"]).succeeds();
        assert_eq!(api.get(&address).status.as_u16(), 200, "its path is there");
    }
    server.command(&["delete", "main", &output, "--yes"]).succeeds();
    server.command(&["gc", "--grace", "0s", "--yes"]).succeeds();
    assert_eq!(api.get("/main/build-trace-v2/loud.drv/out.doi").status.as_u16(), 404);
    assert_eq!(api.get("/main/realisations/none.doi").status.as_u16(), 404);
    let long = format!("/main/realisations/{}.doi", "x".repeat(700));
    assert_eq!(api.put(&long, &[], b"{}".to_vec()).status.as_u16(), 400);
}

#[test]
fn logs_and_realisations_that_come_at_once_are_each_whole() {
    let server = Server::start();
    let mut random = Random::fixed(4);
    let log = format!("/main/log/{}-x.drv", random.hash_chars());
    let texts: Vec<Vec<u8>> = (1..7).map(|number| random.text(number * 40_000)).collect();
    let outputs: Vec<String> = (0..6).map(|_| format!("{}-out", random.hash_chars())).collect();
    let doi = "/main/build-trace-v2/x.drv/out.doi";
    let taken: usize = std::thread::scope(|scope| {
        let sending: Vec<_> = texts
            .iter()
            .zip(&outputs)
            .map(|(text, output)| {
                let (server, log) = (&server, &log);
                scope.spawn(move || {
                    let api = Api::root(server);
                    assert_eq!(api.put(log, &[], text.clone()).status.as_u16(), 201);
                    let body = json!({"outPath": output, "signatures": [output]}).to_string();
                    let answer = api.put(doi, &[], body.into_bytes());
                    assert!(matches!(answer.status.as_u16(), 201 | 409), "{}", answer.text());
                    usize::from(answer.status.as_u16() == 201)
                })
            })
            .collect();
        sending.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(taken, 1, "one path for one output");
    let kept = Api::root(&server).get(&log).body;
    assert!(texts.contains(&kept), "{} bytes", kept.len());
}

#[test]
fn content_addressed_builds_are_copied_and_substituted() {
    let (server, store) = (Server::start(), NixStore::new());
    let expression = LOUD.replace(
        "name = \"loud\";",
        "name = \"loud\"; __contentAddressed = true; outputHashMode = \"recursive\"; \
         outputHashAlgo = \"sha256\";",
    );
    let features = ["--extra-experimental-features", "ca-derivations nix-command"];
    let file = store.root().with_file_name("ca.nix");
    process::write(&file, &expression);
    let file = file.display().to_string();
    let nix = |store: &NixStore, args: &[&str]| {
        let mut command = store.command("nix");
        command.args(features).args(args).args(netrc(&server, store));
        process::run(command)
    };
    let _ = nix(&store, &["build", "--file", &file, "--no-link"]).success();
    let url = format!("{}/main", server.url());
    let _ = nix(&store, &["copy", "--to", &url, "--file", &file]).success();
    let other = NixStore::new();
    let key = Oracle::main(&server).public_key();
    let link = other.root().with_file_name("link").display().to_string();
    let build = ["build", "--file", &file, "--out-link", &link, "--max-jobs", "0"];
    let from = ["--option", "substituters", &url, "--option", "trusted-public-keys", &key];
    let _ = nix(&other, &[&build[..], &from, &["--option", "require-sigs", "false"]].concat())
        .success();
    let output = std::fs::read_link(&link).unwrap().display().to_string();
    assert_eq!(std::fs::read_to_string(other.real_path(&output)).unwrap(), "loud\n");
    oracle::assert_check_is_clean(&server);
}
