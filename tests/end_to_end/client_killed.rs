//! The client is killed at random points of a push, then run to its end.

use std::time::Duration;

use snowbank_harness::{
    Client, NixStore, Random, Server, count, database, oracle, oracle::Oracle, trees,
};

#[test]
fn a_client_killed_anywhere_leaves_nothing_in_part_and_sends_nothing_twice() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let oracle = Oracle::main(&server);
    let mut random = Random::announced("client killed");

    // How long a whole push takes here.
    let whole = client.push(&paths(&store, &mut random, "whole")).success().output.elapsed;
    let mut killed = 0;
    for round in 0..count(12, 50) {
        let paths = paths(&store, &mut random, &format!("round-{round}"));
        let mut push = client.start_push("main", &paths, &[]);
        std::thread::sleep(Duration::from_micros(
            random.below(u64::try_from(whole.as_micros()).unwrap_or(u64::MAX)),
        ));
        push.kill();
        let push = push.wait();
        killed += usize::from(push.output.code().is_none());

        let visible = oracle.assert_nothing_in_part(&paths);
        eprintln!(
            "{} receipts, {} of {} visible",
            push.receipts().len(),
            visible.len(),
            paths.len()
        );
        for receipt in push.receipts() {
            assert!(
                visible.contains(&receipt.store_path),
                "{} has a receipt and is not visible",
                receipt.store_path
            );
            oracle.assert_receipt(&receipt);
        }

        // What the server took in the killed push's last moment may still be settling.
        let known = settled(&server);
        let rest = client.push(&paths).success();
        let added = database::chunks(&server) - known;
        let sent = i64::try_from(rest.stats().chunks_sent).unwrap();
        assert_eq!(
            sent, added,
            "round {round}: every chunk that the second push sent is one that was not there"
        );
        assert!(
            rest.present() >= visible.len(),
            "round {round}: {} were visible: {}",
            visible.len(),
            rest.output
        );
        oracle.assert_mirrors(&store, &paths);
    }
    eprintln!("killed in the middle: {killed}");
    assert!(killed > 0, "no push was killed before its end");
    oracle::assert_check_is_clean(&server);
}

/// A small closure and some data, all new.
fn paths(store: &NixStore, random: &mut Random, tag: &str) -> Vec<String> {
    let mut paths = trees::build_graph(store, 6, 32, tag);
    for number in 0..8 {
        paths.push(trees::add_noise(store, random, &format!("{tag}-noise-{number}"), 3 << 20));
    }
    paths
}

/// The number of chunks, once it has stopped growing.
fn settled(server: &Server) -> i64 {
    let mut last = -1;
    loop {
        let now = database::chunks(server);
        if now == last {
            return now;
        }
        last = now;
        std::thread::sleep(Duration::from_millis(300));
    }
}
