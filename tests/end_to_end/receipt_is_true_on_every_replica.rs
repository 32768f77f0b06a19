//! What one replica has acknowledged, every other serves at once.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use snowbank_harness::{
    Api, Client, NixStore, Random, Server, Site, count,
    craft::{self, Deposit, Node},
    oracle,
    oracle::Oracle,
    trees,
};

/// Asserts that this replica serves the narinfo and the whole NAR.
#[track_caller]
fn assert_serves(url: &str, deposit: &Deposit) {
    let api = Api::new(url, None);
    let narinfo = api.get(&deposit.narinfo());
    assert_eq!(narinfo.status.as_u16(), 200, "{url}: {}", narinfo.text());
    let address = narinfo
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("URL: ").map(str::to_owned))
        .unwrap();
    let nar = api.get(&format!("/main/{}", address.trim_end_matches(".zst")));
    assert_eq!(nar.status.as_u16(), 200, "{url}: {}", nar.text());
    assert!(nar.body == deposit.nar, "{url}: the NAR differs");
}

#[test]
fn what_one_replica_acknowledges_the_others_serve_in_the_same_moment() {
    let site = Site::start();
    let server = Server::options().on(&site).start();
    let token = server.root_token();
    let urls: Vec<String> = server.replicas().iter().map(snowbank_harness::Replica::url).collect();
    let mut random = Random::fixed(107);
    for round in 0..count(30, 300) {
        let node = Node::File(random.bytes(2_000 + round * 7_000));
        let deposit = Deposit::of(&mut random, &format!("round-{round}"), &node);
        // Chunks by one replica, the path by the next; every one has been asked for it before it is
        // there.
        for url in &urls {
            assert_eq!(Api::new(url, None).get(&deposit.narinfo()).status.as_u16(), 404);
        }
        let at = |offset: usize| Api::new(&urls[(round + offset) % urls.len()], Some(&token));
        let sent = at(0).send_bundle(deposit.bundle());
        assert!(sent.status.is_success(), "{}", sent.text());
        let lines = at(1).commit(vec![deposit.commit()]).commit_lines();
        assert!(matches!(lines[..], [snowbank_core::wire::CommitLine::Receipt(_)]), "{lines:?}");
        for offset in [2, 0, 1] {
            assert_serves(&urls[(round + offset) % urls.len()], &deposit);
        }
    }
    oracle::assert_check_is_clean(&server);
}

#[test]
fn receipts_are_true_everywhere_while_pushes_go_on() {
    let (site, store) = (Site::start(), NixStore::new());
    let server = Server::options().on(&site).start();
    let mut random = Random::fixed(109);
    let mut lists = Vec::new();
    for client in 0..3 {
        let mut paths = trees::add_tiny(&store, count(60, 400), &format!("many-{client}"));
        for number in 0..6 {
            paths.push(trees::add_noise(
                &store,
                &mut random,
                &format!("noise-{client}-{number}"),
                3 << 20,
            ));
        }
        lists.push(paths);
    }
    let clients: Vec<Client> = lists.iter().map(|_| Client::of(&server, &store)).collect();
    let mut pushes: Vec<_> = clients
        .iter()
        .zip(&lists)
        .map(|(client, list)| client.start_push("main", list, &[]))
        .collect();
    let apis: Vec<Api> = server.replicas().iter().map(|one| Api::new(&one.url(), None)).collect();
    let (mut asked, started) = (HashSet::new(), Instant::now());
    loop {
        let done = pushes.iter_mut().all(snowbank_harness::client::RunningPush::is_done);
        for receipt in
            pushes.iter().flat_map(snowbank_harness::client::RunningPush::receipts_so_far)
        {
            if asked.insert(receipt.store_path.clone()) {
                for api in &apis {
                    let answer = api.get(&craft::narinfo("main", &receipt.store_path));
                    assert_eq!(answer.status.as_u16(), 200, "{} has a receipt", receipt.store_path);
                }
            }
        }
        if done {
            break;
        }
        assert!(started.elapsed() < Duration::from_mins(4), "the pushes do not end");
    }
    for push in pushes {
        let push = push.wait().success();
        Oracle::main(&server).assert_receipts(&push.receipts());
    }
    assert_eq!(asked.len(), lists.iter().map(Vec::len).sum::<usize>());
    oracle::assert_check_is_clean(&server);
}
