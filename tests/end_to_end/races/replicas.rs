//! More than one collector, and more than one server that thinks a bucket is its own.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use snowbank_harness::{
    Api, Gc, Pusher, Random, Scratch, Server, Site, collection, collection::Collected, full, oracle,
};

use super::{
    all, assert_only_these_are_left, assert_served, closure, collect_until, contents, delete, path,
    push,
};

#[test]
fn replicas_that_all_collect_take_nothing_from_pushes() {
    let site = Site::start();
    let server = Server::options().on(&site).start();
    let (api, stop) = (Api::root(&server), AtomicBool::new(false));
    let mut random = Random::announced("replicas that collect");
    let contents = contents(&mut random, 2);
    let paths = closure(&mut random, &contents, "pushed");
    let until = Instant::now() + Duration::from_secs(if full() { 120 } else { 12 });
    let (collected, rounds) = thread::scope(|scope| {
        let stop = &stop;
        let collect = |api: Api| scope.spawn(move || collect_until(&api, stop));
        let apis = server
            .replicas()
            .iter()
            .map(|replica| Api::new(&replica.url(), Some(&server.root_token())));
        let collectors: Vec<_> = apis.map(collect).collect();
        let mut rounds = 0;
        while Instant::now() < until || rounds < 4 {
            let _ = Pusher::new(&api, "main").push(&all(&paths));
            assert_served(&server, &paths);
            delete(&api, &paths[usize::from(rounds % 3 == 0)..]);
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
        (collectors.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>(), rounds)
    });
    let counts: Vec<usize> = collected.iter().map(Vec::len).collect();
    eprintln!("{rounds} rounds; collections by replica: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "every replica has its turn: {counts:?}");
    assert!(collected.iter().flatten().map(Collected::chunks).sum::<u64>() > 0);
    push(&api, &paths);
    oracle::assert_check_is_clean(&server);
    assert_only_these_are_left(&server, &paths);
    assert_served(&server, &paths);
}

/// Takes away the lock that says who collects, as a network that fails would: its holder notices
/// nothing.
fn take_the_lock_away(server: &Server) {
    if let Some(site) = server.shared() {
        // The key is "snwork" and 2, in two halves.
        site.postgres().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND \
             classid = 1936619375 AND objid = 1919614978",
        );
    } else {
        fs::remove_file(server.data_dir().join("snowbank.db-collecting")).unwrap();
    }
}

#[test]
fn a_collector_that_wakes_after_another_took_over_harms_nothing() {
    let (server, mut random) = (Server::start(), Random::fixed(769));
    let api = Api::root(&server);
    for step in [
        "gc-after-mark",
        "gc-before-nars",
        "gc-before-chunks",
        "gc-before-dead",
        "gc-before-object-delete",
    ] {
        let paths = [path(&mut random, "one", 500), path(&mut random, "other", 500)];
        push(&api, &paths[..1]);
        push(&api, &paths[1..]);
        delete(&api, &paths);
        let mut sleeper =
            Gc::without_grace().start(&server.replicas()[0], &format!("{step}:6000:1"));
        assert!(
            collection::comes_to(step, &mut sleeper),
            "it did not come to {step}: {}",
            sleeper.wait()
        );
        take_the_lock_away(&server);
        // Another one does all of the work, and what it took away is pushed again.
        let _ = collection::collect_all(&api);
        push(&api, &paths);
        let _ = Gc::without_grace().run(&api);
        assert!(!sleeper.is_done(), "{step}: it woke too early for this test: {}", sleeper.wait());
        // It may find out and say so, or finish: both are well.
        let ended = sleeper.wait();
        assert_served(&server, &paths);
        oracle::assert_check_is_clean(&server);
        assert_only_these_are_left(&server, &paths);
        delete(&api, &paths);
        assert_only_these_are_left(&server, &[]);
        eprintln!("{step}: the one that slept ended with {:?}", ended.code());
    }
}

#[test]
fn another_instance_on_the_same_bucket_collects_nothing() {
    let (site, mut random) = (Site::start(), Random::fixed(773));
    let server = Server::options().on(&site).replicas(1).start();
    let api = Api::root(&server);
    let paths = [path(&mut random, "owned", 500)];
    push(&api, &paths);
    // One that was set up well, and is then given the other's address.
    let data = Scratch::new("staging");
    let staging =
        || Server::options().on(&site).database("staging").data_dir(data.path()).replicas(1);
    let mut second = staging().storage("prefix", "\"staging\"").start();
    assert!(second.terminate().success());
    let output = staging().start_in_vain(Duration::from_secs(30));
    assert!(
        !output.status.success() && output.said().contains("belongs to Snowbank instance"),
        "{output}"
    );
    for args in [&["gc", "--grace", "0s", "--yes"][..], &["gc", "--dry-run"][..]] {
        let output = staging().command(args);
        assert!(
            !output.status.success() && output.said().contains("belongs to"),
            "{args:?}: {output}"
        );
    }
    assert_eq!((collection::objects(&server), collection::packs(&server)), (1, [1, 0]));
    assert_served(&server, &paths);
    oracle::assert_check_is_clean(&server);
}
