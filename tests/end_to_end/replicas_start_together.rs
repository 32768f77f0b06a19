//! Replicas with empty data folders that start at the same moment on one empty database and bucket.

use std::collections::BTreeSet;

use snowbank_harness::{
    Api, Client, NixStore, Scratch, Server, Site, count, database, oracle, oracle::Oracle, trees,
};

#[test]
fn replicas_that_start_together_make_one_cache_one_key_and_one_root_token() {
    let site = Site::start();
    let mut server = Server::options().on(&site).replicas(count(5, 10)).start();

    assert_eq!(database::number(&server, "SELECT count(*) FROM caches"), 1);
    let keys: BTreeSet<Vec<String>> = server
        .replicas()
        .iter()
        .map(|one| Api::new(&one.url(), None).cache_info("main").public_keys)
        .collect();
    assert!(
        keys.len() == 1 && keys.iter().all(|keys| keys.len() == 1),
        "one key, the same everywhere: {keys:?}"
    );

    let has_token = |data_dir: &std::path::Path| data_dir.join("root-token").exists();
    let with_token = server.replicas().iter().filter(|one| has_token(one.data_dir())).count();
    assert_eq!(with_token, 1, "exactly one replica has written the root token");
    for replica in server.replicas() {
        let said = replica.banner().contains("root-token");
        assert_eq!(
            said,
            has_token(replica.data_dir()),
            "the file is named where it is:\n{}",
            replica.banner()
        );
        let root = Api::new(&replica.url(), Some(&server.root_token())).get("/api/v1/whoami");
        assert_eq!(root.status.as_u16(), 200, "every replica knows the token: {}", root.text());
    }

    let store = NixStore::new();
    let paths = trees::add_tiny(&store, 5, "together");
    let push = Client::of(&server, &store).push(&paths).success();
    server.restart();
    assert_eq!(database::number(&server, "SELECT count(*) FROM caches"), 1, "nothing is made anew");
    Oracle::main(&server).assert_receipts(&push.receipts());
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_replica_with_another_server_key_is_refused() {
    let site = Site::start();
    let server = Server::options().on(&site).replicas(1).start();
    let scratch = Scratch::new("server-key");
    let other = scratch.join("other-key");
    snowbank_harness::site::make_server_key(&other);
    let output = Server::options()
        .on(&site)
        .env("SNOWBANKD_SERVER_KEY_FILE", other.to_str().unwrap())
        .start_in_vain(std::time::Duration::from_secs(30));
    assert!(!output.status.success() && output.stderr.contains("server key"), "{output}");
    assert!(Api::anonymous(&server).get("/readyz").status.is_success());
}
