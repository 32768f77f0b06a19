//! PostgreSQL is killed, or restarted, in the middle of pushes.

use std::time::Duration;

use snowbank_harness::{
    Client, NixStore, Random, Server, Site, count, oracle, oracle::Oracle, process, trees,
};

fn disturbed(what: &str, disturb: impl Fn(&Site)) {
    let (site, store) = (Site::durable(), NixStore::new());
    let server = Server::options().on(&site).start();
    let client = Client::of(&server, &store);
    let mut random = Random::announced(what);
    let whole = client.push(&paths(&store, &mut random, "whole")).success().output.elapsed;
    let (mut receipts, mut everything, mut failed) = (Vec::new(), Vec::new(), 0);
    for round in 0..count(4, 20) {
        let paths = paths(&store, &mut random, &format!("round-{round}"));
        let push = client.start_push("main", &paths, &[]);
        std::thread::sleep(Duration::from_micros(
            random.below(u64::try_from(whole.as_micros()).unwrap_or(u64::MAX)),
        ));
        disturb(&site);
        let push = push.wait();
        failed += usize::from(!push.output.status.success());
        process::wait_until("every replica is ready again", Duration::from_secs(30), || {
            server.replicas().iter().all(snowbank_harness::Replica::is_ready)
        });
        let oracle = Oracle::main(&server);
        let visible = oracle.assert_nothing_in_part(&paths);
        for receipt in push.receipts() {
            assert!(
                visible.contains(&receipt.store_path),
                "{} had a receipt and is gone",
                receipt.store_path
            );
        }
        assert!(
            !push.output.status.success() || visible.len() == paths.len(),
            "a push that ended well is whole"
        );
        receipts.extend(push.receipts());
        everything.extend(paths);
    }
    eprintln!("{what}: {failed} pushes ended with an error");
    oracle::assert_check_is_clean(&server);
    let oracle = Oracle::main(&server);
    oracle.assert_receipts(&receipts);
    let _ = client.push(&everything).success();
    oracle.assert_mirrors(&store, &everything);
}

#[test]
fn a_database_killed_and_started_again_during_a_push() {
    disturbed("database killed", |site| {
        site.postgres().kill9();
        std::thread::sleep(Duration::from_millis(500));
        site.postgres().start_again();
    });
}

#[test]
fn a_database_restarted_during_a_push() {
    disturbed("database restarted", |site| site.postgres().restart());
}

fn paths(store: &NixStore, random: &mut Random, tag: &str) -> Vec<String> {
    let mut paths = trees::build_graph(store, 4, 32, tag);
    for number in 0..6 {
        paths.push(trees::add_noise(store, random, &format!("{tag}-noise-{number}"), 2 << 20));
    }
    paths
}
