//! An object storage that fails one request in ten, cuts connections and stalls: pushes and pulls
//! succeed all the same.

use std::time::Duration;

use snowbank_harness::{
    Client, NixStore, Random, Server, Site, count, oracle, oracle::Oracle, storage_faults::Faults,
    trees,
};

#[test]
fn pushes_and_pulls_succeed_on_a_storage_that_fails_one_request_in_ten() {
    let mut random = Random::announced("storage faults");
    let (site, store) = (Site::with_faults(random.clone()), NixStore::new());
    // A stalled request is given up soon, for the test's sake.
    let server = Server::options().on(&site).storage("request-timeout", "\"3s\"").start();
    let faults = Faults {
        latency: Duration::from_millis(5),
        errors: 50,
        cuts: 35,
        stalls: 15,
        ..Faults::default()
    };
    site.faults().set(faults);

    let (mut everything, mut receipts) = (Vec::new(), Vec::new());
    for round in 0..count(2, 12) {
        let mut paths = trees::build_graph(&store, 10, 16, &format!("faulty-{round}"));
        for number in 0..6 {
            paths.push(trees::add_noise(
                &store,
                &mut random,
                &format!("noise-{round}-{number}"),
                10 << 20,
            ));
        }
        let clients = [Client::of(&server, &store), Client::of(&server, &store)];
        let pushes = clients.each_ref().map(|client| client.start_push("main", &paths, &[]));
        for push in pushes.map(|push| push.wait().success()) {
            receipts.extend(push.receipts());
        }
        let other = NixStore::new();
        let key = Oracle::main(&server).public_key();
        let _ = other
            .substitute_with(
                &format!("{}/main", server.url()),
                &key,
                &paths,
                &["--option", "download-attempts", "5"],
            )
            .success();
        other.verify();
        assert_eq!(other.hashes(&paths), store.hashes(&paths));
        everything.extend(paths);
    }
    let done = site.faults().done();
    eprintln!("{done:?}");
    for (kind, times) in [
        ("errors", done.errors),
        ("cuts", done.cut_requests + done.lost_answers + done.cut_answers),
    ] {
        assert!(times > 0, "the storage should have had {kind}: {done:?}");
    }

    site.faults().set(Faults::default());
    let oracle = Oracle::main(&server);
    oracle.assert_receipts(&receipts);
    oracle.assert_mirrors(&store, &everything);
    oracle::assert_check_is_clean(&server);
}
