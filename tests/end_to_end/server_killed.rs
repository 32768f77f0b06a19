//! The server is killed (SIGKILL) at random points under concurrent pushes, and started again.

use std::time::Duration;

use snowbank_core::receipt::Receipt;
use snowbank_harness::{Client, NixStore, Random, Server, count, oracle, oracle::Oracle, trees};

#[test]
fn what_had_a_receipt_survives_a_killed_server_and_nothing_else_is_visible_in_part() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let clients = [Client::of(&server, &store), Client::of(&server, &store)];
    let mut random = Random::announced("server killed");
    let start = |lists: &[Vec<String>; 2]| {
        [
            clients[0].start_push("main", &lists[0], &[]),
            clients[1].start_push("main", &lists[1], &["--jobs", "1"]),
        ]
    };
    let whole = start(&round(&store, &mut random, "whole"))
        .map(|push| push.wait().success().output.elapsed);
    let whole = whole[0].max(whole[1]);

    let (mut everything, mut receipts, mut midway): (Vec<String>, Vec<Receipt>, usize) =
        (Vec::new(), Vec::new(), 0);
    for number in 0..count(12, 50) {
        let lists = round(&store, &mut random, &format!("round-{number}"));
        let mut pushes = start(&lists);
        let moment = Duration::from_micros(
            random.below(u64::try_from(whole.as_micros()).unwrap_or(u64::MAX)),
        );
        std::thread::sleep(moment);
        server.kill9();
        // The clients go too: what they hold is what they were told before the crash.
        for push in &mut pushes {
            push.kill();
        }
        let told: Vec<Receipt> =
            pushes.into_iter().flat_map(|push| push.wait().receipts()).collect();

        server.start_again();
        let oracle = Oracle::main(&server);
        let visible = oracle.assert_nothing_in_part(&lists[1]);
        for receipt in &told {
            assert!(
                visible.contains(&receipt.store_path),
                "{} had a receipt and is gone",
                receipt.store_path
            );
            oracle.assert_receipt(receipt);
        }
        let all = lists[1].len();
        eprintln!(
            "killed after {moment:?} of {whole:?}: {} receipts, {} of {all} visible",
            told.len(),
            visible.len()
        );
        midway += usize::from((1..all).contains(&visible.len()));
        everything.extend_from_slice(&lists[1]);
        receipts.extend(told);
    }
    assert!(
        midway > 0 && !receipts.is_empty(),
        "midway {midway} times, {} receipts",
        receipts.len()
    );

    oracle::assert_check_is_clean(&server);
    let oracle = Oracle::main(&server);
    oracle.assert_receipts(&receipts);
    let _ = clients[0].push(&everything).success();
    oracle.assert_mirrors(&store, &everything);
    oracle::assert_check_is_clean(&server);
}

/// What two clients push at the same time: one list, and that list with as much again.
fn round(store: &NixStore, random: &mut Random, tag: &str) -> [Vec<String>; 2] {
    let shared = paths(store, random, &format!("{tag}-shared"));
    let own = paths(store, random, &format!("{tag}-own"));
    [shared.clone(), [shared, own].concat()]
}

#[test]
fn a_push_goes_on_when_the_server_comes_back() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let mut random = Random::fixed(19);
    let paths = paths(&store, &mut random, "patient");
    let push = client.start_push("main", &paths, &[]);
    std::thread::sleep(Duration::from_millis(150));
    server.kill9();
    std::thread::sleep(Duration::from_millis(700));
    server.start_again();
    let _ = push.wait().success();
    Oracle::main(&server).assert_mirrors(&store, &paths);
}

#[test]
fn a_server_told_to_end_lets_a_push_under_way_finish_its_request() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let paths = paths(&store, &mut Random::fixed(23), "polite");
    let push = client.start_push("main", &paths, &[]);
    std::thread::sleep(Duration::from_millis(150));
    let status = server.terminate();
    assert!(status.success(), "SIGTERM: {status}");
    server.start_again();
    let _ = push.wait().success();
    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&store, &paths);
    oracle::assert_check_is_clean(&server);
}

fn paths(store: &NixStore, random: &mut Random, tag: &str) -> Vec<String> {
    let mut paths = trees::build_graph(store, 4, 32, tag);
    for number in 0..8 {
        paths.push(trees::add_noise(store, random, &format!("{tag}-noise-{number}"), 2 << 20));
    }
    paths
}
