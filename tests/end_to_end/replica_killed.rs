//! One replica is killed (SIGKILL) in the middle of pushes and pulls; clients go on with the
//! others.

use std::time::Duration;

use snowbank_harness::{
    Client, NixStore, Random, Server, Site, count, oracle, oracle::Oracle, process, trees,
};

#[test]
fn pushes_and_pulls_go_on_when_one_replica_is_killed() {
    let (site, store) = (Site::start(), NixStore::new());
    let mut server = Server::options().on(&site).start();
    let mut random = Random::announced("replica killed");
    let before = paths(&store, &mut random, "before");
    let push = Client::of(&server, &store).push(&before).success();
    let (whole, oracle) = (push.output.elapsed, Oracle::main(&server));
    let mut receipts = push.receipts();
    let mut everything = before.clone();

    for round in 0..count(4, 20) {
        let paths = paths(&store, &mut random, &format!("round-{round}"));
        let clients = [Client::of(&server, &store), Client::of(&server, &store)];
        let pushes = clients.each_ref().map(|client| client.start_push("main", &paths, &[]));
        let puller = NixStore::new();
        // As machines have it: Nix tries five times.
        let mut pull = puller.command("nix-store");
        pull.args(["--realise", "--option", "substituters", &format!("{}/main", server.url())]);
        pull.args([
            "--option",
            "trusted-public-keys",
            &oracle.public_key(),
            "--option",
            "download-attempts",
            "5",
        ]);
        pull.args(&before);
        let pull = process::Running::start(pull, &[]);

        let moment = Duration::from_micros(
            random.below(u64::try_from(whole.as_micros()).unwrap_or(u64::MAX)),
        );
        std::thread::sleep(moment);
        server.replica(round % 3).kill9();
        eprintln!("round {round}: killed after {moment:?} of {whole:?}");
        for push in pushes.map(|push| push.wait().success()) {
            oracle.assert_receipts(&push.receipts());
            receipts.extend(push.receipts());
        }
        let _ = pull.wait().success();
        assert_eq!(puller.hashes(&before), store.hashes(&before));
        everything.extend(paths);
        server.replica(round % 3).start_again();
    }
    oracle.assert_receipts(&receipts);
    oracle.assert_mirrors(&store, &everything);
    oracle::assert_check_is_clean(&server);
}

fn paths(store: &NixStore, random: &mut Random, tag: &str) -> Vec<String> {
    let mut paths = trees::build_graph(store, 4, 32, tag);
    for number in 0..6 {
        paths.push(trees::add_noise(store, random, &format!("{tag}-noise-{number}"), 2 << 20));
    }
    paths
}
