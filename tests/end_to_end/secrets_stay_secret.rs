//! Whatever goes wrong, no secret is in a log, an error, a metric, or what a process says as it
//! ends.

use std::{fs, time::Duration};

use snowbank_harness::{
    Api, Client, NixStore, Random, Server, Site, craft, oracle::Oracle, postgres, process, s3,
    storage_faults::Faults, trees,
};

#[test]
fn no_secret_is_in_any_log_error_metric_or_crash() {
    let (site, store) = (Site::with_faults(Random::fixed(137)), NixStore::new());
    let mut server = Server::options()
        .on(&site)
        .config("[log]\nlevel = \"trace\"\n")
        .storage("retry-for", "\"2s\"")
        .storage("request-timeout", "\"1s\"")
        .replicas(1)
        .start();
    let token = server.root_token();
    let server_key = fs::read_to_string(site.server_key_file()).unwrap().trim().to_owned();
    let secrets = [
        ("the access key's secret", s3::SECRET_ACCESS_KEY.to_owned()),
        ("the database's password", postgres::PASSWORD.to_owned()),
        ("the root token", token.clone()),
        ("the token's signature", token.rsplit('.').next().unwrap().to_owned()),
        ("the server key", server_key),
    ];
    let mut said = Vec::new();
    let mut hear = |what: &str, text: String| said.push((what.to_owned(), text));

    // All is well.
    let client = Client::of(&server, &store);
    let path = trees::add_noise(&store, &mut Random::fixed(139), "noise", 3 << 20);
    hear("a push", client.push(&[&path]).success().output.said());
    Oracle::main(&server).assert_whole(&path);
    // Requests that are refused, with the token and without.
    let (root, anonymous) = (Api::root(&server), Api::anonymous(&server));
    for api in [&root, &anonymous, &Api::new(&server.url(), Some("a.b.c"))] {
        for address in
            ["/api/v1/whoami", "/api/v1/caches/absent", "/main/nonsense.narinfo", "/nothing"]
        {
            hear(address, api.get(address).text());
        }
        hear("no bundle", api.send_bundle(vec![7; 1_000]).text());
        hear(
            "no commit",
            api.post_json("/api/v1/caches/main/paths", &serde_json::json!({"paths": 7})).text(),
        );
    }
    // A storage that fails in every way.
    let deposit =
        craft::Deposit::of(&mut Random::fixed(149), "any", &craft::Node::File(vec![1; 9_000]));
    for (errors, cuts, stalls) in [(1_000, 0, 0), (0, 1_000, 0), (0, 0, 1_000)] {
        site.faults().set(Faults { errors, cuts, stalls, ..Faults::default() });
        hear("a bundle on a faulty storage", root.send_bundle(deposit.bundle()).text());
    }
    site.faults().set(Faults::default());
    site.faults().go_away();
    hear("a bundle on a storage that is gone", root.send_bundle(deposit.bundle()).text());
    hear("/readyz without a storage", anonymous.get("/readyz").text());
    site.faults().come_back();
    // A database that is gone.
    site.postgres().stop();
    hear("a commit without a database", root.commit(vec![deposit.commit()]).text());
    hear("/readyz without a database", anonymous.get("/readyz").text());
    hear("a command without a database", server.command(&["cache", "create", "any"]).said());
    site.postgres().start_again();
    hear("a command", server.command(&["check", "--read-data"]).said());
    hear("the metrics", server.replicas()[0].metrics_page());
    // A crash.
    let end = server.replica(0).abort();
    hear("the end", format!("{end:?}"));
    let output = Server::options()
        .on(&site)
        .storage("secret-access-key", &format!("\"{}x\"", s3::SECRET_ACCESS_KEY))
        .config("[log]\nlevel = \"trace\"\n")
        .start_in_vain(Duration::from_secs(90));
    hear("a start with a wrong secret", output.said());
    let wrong = site
        .database_url("snowbank")
        .replace(postgres::PASSWORD, &format!("{}x", postgres::PASSWORD));
    let output = Server::options()
        .on(&site)
        .env("SNOWBANKD_DATABASE_URL", &wrong)
        .start_in_vain(Duration::from_mins(1));
    assert!(output.said().contains("password"), "a wrong password is named: {output}");
    hear("a start with a wrong password", output.said());
    // A config that does not parse, at the line of a secret.
    let config = fs::read_to_string(server.replicas()[0].folder().join("config.toml")).unwrap();
    let scratch = snowbank_harness::Scratch::new("broken-config");
    for (from, to) in
        [("secret-access-key = \"", "secret-access-key = 7 # \""), ("url = \"", "url = \"\" # ")]
    {
        process::write(&scratch.join("config.toml"), config.replace(from, to));
        let mut command = process::command(process::binary("snowbankd"), scratch.path());
        command
            .arg("--config")
            .arg(scratch.join("config.toml"))
            .arg("--data-dir")
            .arg(scratch.join("data"));
        let output = process::Running::start(command, &[]).wait_for(Duration::from_secs(20));
        assert!(!output.status.success(), "{output}");
        hear("a start with a broken config", output.said());
    }
    hear("the log", server.log());
    hear("the banner", server.banner());

    assert!(server.log().len() > 10_000, "the log is written at level trace");
    for (what, text) in &said {
        for (name, secret) in &secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(
                line.is_none(),
                "{what} holds {name}: {}",
                line.unwrap_or_default().replace(secret, "[SECRET]")
            );
        }
    }
}
