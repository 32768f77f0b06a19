//! The object storage is gone for a while: 503 with Retry-After, not ready, and back by itself.

use std::time::{Duration, Instant};

use snowbank_harness::{
    Api, Client, NixStore, Random, Server, Site, craft, full, oracle, oracle::Oracle, process,
    trees,
};

#[test]
fn a_storage_that_is_gone_is_said_with_503_and_the_server_recovers_by_itself() {
    let (site, store) = (Site::with_faults(Random::fixed(113)), NixStore::new());
    let server = Server::options().on(&site).storage("retry-for", "\"2s\"").start();
    let client = Client::of(&server, &store);
    let mut random = Random::fixed(127);
    let kept = trees::add_noise(&store, &mut random, "kept", 20 << 20);
    let late = trees::add_noise(&store, &mut random, "late", 20 << 20);
    let _ = client.push(&[&kept]).success();
    let (api, root) = (Api::anonymous(&server), Api::root(&server));
    let node = craft::Node::File(random.bytes(100_000));
    let deposit = craft::Deposit::of(&mut random, "refused", &node);

    let gone_for = Duration::from_secs(if full() { 30 } else { 12 });
    site.faults().go_away();
    let started = Instant::now();
    // A push that begins now, and goes on until it succeeds.
    let push = client.start_push("main", &[&late], &[]);

    let answer = root.send_bundle(deposit.bundle());
    assert_eq!(answer.status.as_u16(), 503, "{}", answer.text());
    assert!(
        answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0),
        "{:?}",
        answer.headers
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "it says so soon: {:?}",
        started.elapsed()
    );
    process::wait_until("/readyz turns red", gone_for.saturating_sub(started.elapsed()), || {
        server.replicas().iter().any(|one| !one.is_ready())
    });
    // The circuit is open: now the answer comes at once.
    assert_eq!(api.get("/healthz").status.as_u16(), 200, "the process itself is well");
    let narinfo = api.get(&craft::narinfo("main", &kept));
    assert_eq!(narinfo.status.as_u16(), 200, "what needs no storage is served: {}", narinfo.text());
    std::thread::sleep(gone_for.saturating_sub(started.elapsed()));

    site.faults().come_back();
    process::wait_until("every replica is ready again", Duration::from_secs(15), || {
        server.replicas().iter().all(snowbank_harness::Replica::is_ready)
    });
    let _ = push.wait().success();
    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&store, &[kept, late]);
    oracle::assert_check_is_clean(&server);
}
