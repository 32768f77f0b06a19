//! The server's disk is full: the push says so, reading goes on, and with room the same push
//! succeeds.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::statvfs;
use snowbank_harness::{
    Api, Client, NixStore, Random, Server, oracle, oracle::Oracle, process, tmpfs::Tmpfs, trees,
};

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
    // The reserve is what the next tests are about.
    let config = "[database]\nreserve = \"0B\"\n[storage]\nmin-free = \"48MiB\"\n";
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
    assert!(
        free > 16 << 20,
        "{free} bytes are left: bundles under way go below the limit, and not to the end"
    );
    let _ = client.push(&trees::add_tiny(&store, 1, "tiny")).ended_with(8);

    let anonymous = Api::anonymous(&server);
    assert!(
        anonymous.get("/readyz").status.is_success(),
        "a full disk is no reason to send readers elsewhere"
    );
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

fn free(folder: &Path) -> u64 {
    let room = statvfs(folder).unwrap();
    room.f_bavail * room.f_frsize
}

/// Somebody else's file that takes all that is left of a disk. The server may believe for a second
/// that there is room.
fn fill(disk: &Tmpfs) -> PathBuf {
    let file = disk.path().join("ballast");
    let mut ballast = File::create(&file).unwrap();
    while ballast.write_all(&vec![7; 1 << 16]).is_ok() {}
    while ballast.write_all(&[7; 512]).is_ok() {}
    assert_eq!(free(disk.path()), 0, "the disk is full");
    std::thread::sleep(Duration::from_secs(2));
    file
}

/// [`fill`], while the server's database has written nothing: the reserve is still there. Where it
/// has, what it released belongs to somebody else now, and the disk is filled once more.
fn fill_beside_reserve(disk: &Tmpfs, server: &Server) -> PathBuf {
    for _ in 0..10 {
        let ballast = fill(disk);
        if reserve(server).exists() {
            return ballast;
        }
        fs::remove_file(ballast).unwrap();
        process::wait_until("the reserve", Duration::from_secs(15), || reserve(server).exists());
    }
    panic!("the database writes all the time");
}

/// Six pushes of three paths of 3 MiB each.
fn pushes(store: &NixStore, client: &Client) -> Vec<Vec<String>> {
    let mut random = Random::fixed(43);
    let one = |push: usize| {
        let paths: Vec<String> = (0..3)
            .map(|path| {
                trees::add_noise(store, &mut random, &format!("noise-{push}-{path}"), 3 << 20)
            })
            .collect();
        let _ = client.push(&paths).success();
        paths
    };
    (0..6).map(one).collect()
}

fn delete(server: &Server, paths: &[String]) {
    let args: Vec<&str> = ["delete", "main"]
        .into_iter()
        .chain(paths.iter().map(String::as_str))
        .chain(["--yes"])
        .collect();
    server.command(&args).succeeds();
}

/// The file that is kept for the database.
fn reserve(server: &Server) -> PathBuf {
    server.data_dir().join("snowbank.db-reserve")
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_is_collected_and_takes_pushes_again() {
    let disk = Tmpfs::mount(128);
    let server = Server::options().data_dir(&disk.path().join("data")).start();
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    process::wait_until("the reserve", Duration::from_secs(15), || reserve(&server).exists());
    let pushed = pushes(&store, &client);
    let ballast = fill_beside_reserve(&disk, &server);
    let more = trees::add_noise(&store, &mut Random::fixed(47), "more", 2 << 20);
    let _ = client.push(&[&more]).ended_with(8);

    // Two pushes go as a whole, and of the others two thirds: packs that are free at once, and
    // packs to be rewritten.
    let gone: Vec<String> = pushed
        .iter()
        .enumerate()
        .flat_map(|(push, paths)| &paths[usize::from(push > 1)..])
        .cloned()
        .collect();
    let kept: Vec<String> = pushed[2..].iter().map(|paths| paths[0].clone()).collect();
    delete(&server, &gone);
    assert!(!reserve(&server).exists(), "the deletion was written into what was kept for it");
    let before = server.stored_bytes();
    let output = server.command(&["gc", "--grace", "0s", "--yes"]).success();
    let after = server.stored_bytes();
    assert!(after < before / 3, "{before} bytes became {after}: {output}");
    assert!(free(disk.path()) > 30 << 20, "{output}");
    let _ = client.push(&[&more]).success();
    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&store, &[kept, vec![more]].concat());

    fs::remove_file(ballast).unwrap();
    process::wait_until("the reserve is made again", Duration::from_secs(15), || {
        reserve(&server).exists()
    });
    oracle::assert_check_is_clean(&server);
}

#[test]
fn packs_are_rewritten_in_what_the_database_left() {
    let disk = Tmpfs::mount(128);
    let server = Server::options().data_dir(&disk.path().join("data")).start();
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    process::wait_until("the reserve", Duration::from_secs(15), || reserve(&server).exists());
    let pushed = pushes(&store, &client);
    let _ballast = fill_beside_reserve(&disk, &server);
    // No pack is free as a whole.
    delete(&server, &pushed.iter().flat_map(|paths| &paths[1..]).cloned().collect::<Vec<_>>());
    let before = server.stored_bytes();
    let output = server.command(&["gc", "--grace", "0s", "--yes"]).success();
    let after = server.stored_bytes();
    assert!(after < before * 2 / 3, "{before} bytes became {after}: {output}");
    let kept: Vec<String> = pushed.iter().map(|paths| paths[0].clone()).collect();
    Oracle::main(&server).assert_mirrors(&store, &kept);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn packs_that_there_is_no_room_to_rewrite_are_left_with_a_word() {
    let disk = Tmpfs::mount(128);
    let config = "[database]\nreserve = \"0B\"\n";
    let server = Server::options().config(config).data_dir(&disk.path().join("data")).start();
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    let pushed = pushes(&store, &client);
    let ballast = fill(&disk);
    assert!(!reserve(&server).exists());
    // Enough for rows, too little for a pack.
    let len = fs::metadata(&ballast).unwrap().len();
    File::options().write(true).open(&ballast).unwrap().set_len(len - (3 << 20)).unwrap();
    delete(&server, &pushed.iter().flat_map(|paths| &paths[1..]).cloned().collect::<Vec<_>>());
    let output = server.command(&["gc", "--grace", "0s", "--yes"]).success();
    assert!(
        output.stdout.contains("for want of room") && output.stdout.contains("compacted  0 packs"),
        "{output}"
    );

    fs::remove_file(ballast).unwrap();
    let before = server.stored_bytes();
    let output = server.command(&["gc", "--grace", "0s", "--yes"]).success();
    assert!(!output.stdout.contains("for want of room"), "{output}");
    assert!(server.stored_bytes() < before / 2, "{output}");
    oracle::assert_check_is_clean(&server);
}

#[test]
fn the_metrics_show_how_much_room_there_is() {
    let address = snowbank_harness::process::own_address();
    let server = Server::options().config(&format!("[metrics]\nlisten = \"{address}\"\n")).start();
    let page =
        || reqwest::blocking::get(format!("http://{address}/metrics")).unwrap().text().unwrap();
    let room = statvfs(server.data_dir()).unwrap();
    for of in ["storage", "database"] {
        let series = format!("snowbank_disk_free_bytes{{of=\"{of}\"}} ");
        let shown =
            || page().lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok());
        snowbank_harness::process::wait_until(&series, std::time::Duration::from_secs(10), || {
            shown().is_some()
        });
        #[expect(clippy::cast_precision_loss, reason = "a disk's size, roughly")]
        let total = (room.f_blocks * room.f_frsize) as f64;
        assert!(shown().is_some_and(|free| free > 0.0 && free <= total));
    }
}
