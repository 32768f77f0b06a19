//! Collection without a grace period, in a loop, against pushes of what it is about to take away.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use snowbank_core::receipt::Receipt;
use snowbank_harness::{
    Api, Client, NixStore, Pusher, Random, Server, collection::Collected, count, full, oracle,
    oracle::Oracle, trees,
};

use super::{
    all, assert_only_these_are_left, assert_served, closure, collect_every, collect_until,
    contents, delete, push,
};

#[test]
fn collection_takes_nothing_that_a_push_relies_on() {
    let server = Server::start();
    let (api, stop) = (Api::root(&server), AtomicBool::new(false));
    let mut random = Random::announced("collection against pushes");
    let contents = contents(&mut random, 3);
    let until = Instant::now() + Duration::from_secs(if full() { 170 } else { 15 });
    // Two that push and delete the same contents under names of their own.
    let push_for = |number: usize, mut random: Random| {
        let (api, oracle) = (Api::root(&server), Oracle::main(&server));
        let paths = closure(&mut random, &contents, &format!("pusher-{number}"));
        let (mut rounds, mut gone) = (0_usize, 0);
        while Instant::now() < until || rounds < 4 {
            gone += Pusher::new(&api, "main").push(&all(&paths)).chunks_gone;
            for path in &paths {
                assert_eq!(oracle.assert_whole(&path.store_path).nar_hash, path.nar_hash());
            }
            rounds += 1;
            // The root goes with any of its references.
            let first = usize::from(random.below(3) == 0);
            delete(&api, &paths[first..]);
            thread::sleep(Duration::from_millis(random.below(40)));
        }
        (rounds, gone, paths[0].clone())
    };
    let (collected, pushed) = thread::scope(|scope| {
        let collector = scope.spawn(|| collect_until(&api, &stop));
        let pushers = [0, 1].map(|number| {
            let random = Random::fixed(random.next());
            scope.spawn(move || push_for(number, random))
        });
        let pushed = pushers.map(thread::ScopedJoinHandle::join);
        stop.store(true, Ordering::Relaxed);
        (collector.join().unwrap(), pushed.map(Result::unwrap))
    });
    let removed: u64 = collected.iter().map(Collected::chunks).sum();
    let met = pushed.each_ref().map(|(rounds, gone, _)| (*rounds, *gone));
    eprintln!(
        "{} collections removed {removed} chunks; rounds, and chunks gone: {met:?}",
        collected.len()
    );
    assert!(
        collected.len() > 3 && removed > 0,
        "the two have met: {} collections",
        collected.len()
    );

    let last = closure(&mut random, &contents, "last");
    push(&api, &last);
    oracle::assert_check_is_clean(&server);
    // What the pushers left of their own goes too, so that only the last closure's rows are there.
    for first in pushed.map(|(.., first)| first) {
        push(&api, std::slice::from_ref(&first));
        delete(&api, &[first]);
    }
    assert_only_these_are_left(&server, &last);
    assert_served(&server, &last);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn the_real_client_pushes_what_is_being_collected() {
    let (server, store) = (Server::start(), NixStore::new());
    let (api, stop, client) =
        (Api::root(&server), AtomicBool::new(false), Client::of(&server, &store));
    let mut paths = trees::build_graph(&store, 6, 64, "collected");
    paths.push(trees::add_noise(&store, &mut Random::fixed(739), "noise", 6 << 20));
    // A client that is told a dozen times that its chunks are gone takes the storage for broken:
    // between two collections there is time for a push, however slow the machine and the storage
    // are.
    let began = Instant::now();
    let _ = client.push(&paths).success();
    let pause = began.elapsed().max(Duration::from_millis(300));
    client.run(&["delete", "main", "--yes", "--referrers", &paths[0]]).succeeds();
    let began = Instant::now();
    let collected = thread::scope(|scope| {
        let collector = scope.spawn(|| collect_every(pause, &api, &stop));
        let (mut round, mut sent_again) = (0, false);
        while round < count(8, 60) || (!sent_again && began.elapsed() < Duration::from_mins(1)) {
            let push = client.push(&paths).success();
            assert_eq!(push.receipts().len(), paths.len());
            sent_again |= push.receipts().iter().any(was_sent);
            // A receipt is true at once, whatever is collected meanwhile.
            Oracle::main(&server).assert_receipts(&push.receipts());
            let mut delete = vec!["delete", "main", "--yes", "--referrers"];
            delete.extend(paths.iter().skip(round % 2).map(String::as_str));
            client.run(&delete).succeeds();
            round += 1;
        }
        stop.store(true, Ordering::Relaxed);
        collector.join().unwrap()
    });
    assert!(collected.iter().map(Collected::chunks).sum::<u64>() > 0, "{collected:?}");
    let _ = client.push(&paths).success();
    Oracle::main(&server).assert_mirrors(&store, &paths);
    oracle::assert_check_is_clean(&server);
}

fn was_sent(receipt: &Receipt) -> bool {
    receipt.stats.is_some_and(|stats| stats.chunks_sent > 0)
}
