//! The server's disk is full: the push says so, reading goes on, and with room the same push succeeds.

use rustix::fs::statvfs;
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

#[test]
fn pushes_are_refused_while_there_is_still_room_for_the_database() {
    let disk = Tmpfs::mount(96);
    let config = "[storage]\nmin-free = \"48MiB\"\n";
    let server = Server::options().config(config).data_dir(&disk.path().join("data")).start();
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    let mut random = Random::fixed(19);
    let small = trees::add_noise(&store, &mut random, "small", 1 << 20);
    let _ = client.push(&[&small]).success();

    let large = trees::add_noise(&store, &mut random, "large", 80 << 20);
    let began = std::time::Instant::now();
    let failed = client.push(&[&large]).ended_with(8);
    assert!(began.elapsed().as_secs() < 60, "it does not try for ever: {}", failed.output);
    let folder = disk.path().join("data/storage").display().to_string();
    for part in ["full", &folder, "48.0 MiB", "`[storage] min-free`", "`snowbankd gc`"] {
        assert!(failed.output.stderr.contains(part), "{part} is not in: {}", failed.output);
    }
    let room = statvfs(disk.path()).unwrap();
    let free = room.f_bavail * room.f_frsize;
    assert!(free > 16 << 20, "{free} bytes are left: bundles under way go below the limit, and not to the end");
    let _ = client.push(&trees::add_tiny(&store, 1, "tiny")).ended_with(8);

    let anonymous = Api::anonymous(&server);
    assert!(anonymous.get("/readyz").status.is_success(), "a full disk is no reason to send readers elsewhere");
    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&store, std::slice::from_ref(&small));
    assert!(!oracle.visible(&large));
    // What frees room is done beside it, and needs none to speak of.
    server.command(&["delete", "main", &small, "--yes"]).succeeds();
    disk.resize(512);
    let _ = client.push(&[&small, &large]).success();
    oracle.assert_mirrors(&store, &[small, large]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn the_metrics_show_how_much_room_there_is() {
    let address = snowbank_harness::process::own_address();
    let server = Server::options().config(&format!("[metrics]\nlisten = \"{address}\"\n")).start();
    let page = || reqwest::blocking::get(format!("http://{address}/metrics")).unwrap().text().unwrap();
    let room = statvfs(server.data_dir()).unwrap();
    for of in ["storage", "database"] {
        let series = format!("snowbank_disk_free_bytes{{of=\"{of}\"}} ");
        let shown = || page().lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok());
        snowbank_harness::process::wait_until(&series, std::time::Duration::from_secs(10), || shown().is_some());
        #[expect(clippy::cast_precision_loss, reason = "a disk's size, roughly")]
        let total = (room.f_blocks * room.f_frsize) as f64;
        assert!(shown().is_some_and(|free| free > 0.0 && free <= total));
    }
}
