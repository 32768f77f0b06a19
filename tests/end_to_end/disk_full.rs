//! The server's disk is full: the push says so, reading goes on, and with room the same push succeeds.

use snowbank_harness::{Api, Client, NixStore, Random, Server, oracle, oracle::Oracle, tmpfs::Tmpfs, trees};

#[test]
fn a_full_disk_fails_the_push_only_and_room_mends_it() {
    let disk = Tmpfs::mount(32);
    let server = Server::options().data_dir(&disk.path().join("data")).start();
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    let mut random = Random::fixed(17);
    let small = trees::add_noise(&store, &mut random, "small", 1 << 20);
    let _ = client.push(&[&small]).success();

    let large = trees::add_noise(&store, &mut random, "large", 64 << 20);
    let failed = client.push(&[&large]).ended_with(8);
    assert!(failed.output.stderr.contains("full"), "a person is told: {}", failed.output);

    let oracle = Oracle::main(&server);
    assert!(!oracle.visible(&large), "nothing of the failed push is visible");
    oracle.assert_mirrors(&store, std::slice::from_ref(&small));
    assert!(Api::anonymous(&server).get("/healthz").status.is_success());

    let forgiven = client.push_to("main", &[&large], &["--best-effort"]).success();
    assert!(forgiven.output.stderr.contains("full"), "the warning says why: {}", forgiven.output);

    disk.resize(512);
    let _ = client.push(&[&large]).success();
    oracle.assert_mirrors(&store, &[small, large]);
    oracle::assert_check_is_clean(&server);
}
