//! The object storage goes away for a while, in whole or in part: readers and pushers wait for it,
//! and hear of it only when it takes long. What an operator has to mend is said at once.

use std::{
    io::Read as _,
    sync::Arc,
    time::{Duration, Instant},
};

use snowbank_core::{hash::Sha256, wire::code};
use snowbank_harness::{
    Api, Client, NixStore, Random, Server, Site, full, oracle,
    oracle::Oracle,
    process,
    s3::BUCKET,
    site::Kind,
    storage_faults::{Faults, Trouble},
    trees,
};

const SOON: Duration = Duration::from_secs(30);

/// A server on a bucket behind a proxy.
fn server_of(seed: u64) -> (Arc<Site>, Server) {
    let site = Site::with_faults(Random::fixed(seed));
    let server = Server::options().on(&site).replicas(1).start();
    (site, server)
}

fn add_noise(store: &NixStore, seed: u64, mebibytes: usize) -> String {
    trees::add_noise(store, &mut Random::fixed(seed), &format!("noise-{seed}"), mebibytes << 20)
}

/// The address of a path's NAR.
fn nar_address(server: &Server, path: &str) -> String {
    format!("/main/{}", Oracle::main(server).narinfo(path).expect("it is visible").url)
}

/// Waits until the server says whether it is ready; gives how long that took.
fn until_ready_is(server: &Server, is_ready: bool) -> Duration {
    let started = Instant::now();
    process::wait_until("/readyz changes", SOON, || server.replicas()[0].is_ready() == is_ready);
    started.elapsed()
}

fn with_reads(reads: Trouble) -> Faults {
    Faults { reads, ..Faults::default() }
}

fn with_writes(writes: Trouble) -> Faults {
    Faults { writes, ..Faults::default() }
}

#[test]
fn a_nar_is_answered_with_503_when_the_storage_is_away_and_never_breaks_off() {
    let (site, store) = (Site::with_faults(Random::fixed(901)), NixStore::new());
    let mut server = Server::options().on(&site).replicas(1).storage("retry-for", "\"3s\"").start();
    let path = add_noise(&store, 902, 20);
    let _ = Client::of(&server, &store).push(&[&path]).success();
    server.restart_without_packs();
    let (api, address) = (Api::anonymous(&server), nar_address(&server, &path));
    let gets = || site.s3().counts().get("get").copied().unwrap_or(0);

    let before = gets();
    let head = api.head(&address);
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(gets(), before, "a HEAD asks the storage for nothing");

    for reads in
        [Trouble::Cut, Trouble::Refuse(503, "SlowDown", "Please reduce your request rate.")]
    {
        site.faults().set(with_reads(reads));
        for range in ["bytes=0-", "bytes=9000000-"] {
            let answer = api.get_with(&address, &[("range", range)]);
            let _ = answer.refused(503, code::STORAGE_UNAVAILABLE);
            assert!(
                answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0),
                "{:?}",
                answer.headers
            );
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    let asked = Instant::now();
    let answer = api.get(&address);
    let _ = answer.refused(503, code::STORAGE_UNAVAILABLE);
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "after `retry-for`, nobody waits: {:?}",
        asked.elapsed()
    );

    site.faults().set(Faults::default());
    let is_open =
        || server.counted("snowbank_storage_circuit_open", &[("direction", "read")]) > 0.5;
    process::wait_until("somebody has tried with success", SOON, || !is_open());
    let _ = Oracle::main(&server).assert_whole(&path);
}

#[test]
fn a_nar_that_is_being_sent_waits_for_the_storage() {
    let (site, store) = (Site::with_faults(Random::fixed(911)), NixStore::new());
    let mut server = Server::options().on(&site).replicas(1).start();
    let path = add_noise(&store, 912, 72);
    let _ = Client::of(&server, &store).push(&[&path]).success();
    let info = Oracle::main(&server).narinfo(&path).expect("it is visible");
    let url = format!("{}/main/{}", server.url(), info.url);
    for reads in [Trouble::Cut, Trouble::Hang] {
        server.restart_without_packs();
        let mut answer = reqwest::blocking::Client::builder()
            .timeout(None)
            .build()
            .unwrap()
            .get(&url)
            .send()
            .unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let mut nar = vec![0; 1 << 20];
        answer.read_exact(&mut nar).unwrap();
        // More is still to be read than the server has read ahead.
        site.faults().set(with_reads(reads));
        let back = std::thread::scope(|scope| {
            let rest = scope.spawn(|| answer.read_to_end(&mut nar).map(|_| Instant::now()));
            std::thread::sleep(Duration::from_secs(7));
            assert!(!rest.is_finished(), "the rest was in memory");
            site.faults().set(Faults::default());
            let back_at = Instant::now();
            rest.join().unwrap().unwrap().duration_since(back_at)
        });
        eprintln!("{reads:?}: whole {back:?} after the storage was back");
        assert_eq!(Some(nar.len() as u64), info.file_size);
        assert_eq!(info.file_hash.map(|hash| *hash.as_bytes()), Some(*Sha256::of(&nar).as_bytes()));
    }
}

#[test]
fn a_push_waits_while_only_reading_or_only_writing_fails() {
    let (site, mut server) = server_of(921);
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    let bytes = Random::fixed(922).bytes(24 << 20);
    let kept = trees::add_files(&store, "kept", &[("data", bytes.clone())]);
    let _ = client.push(&[&kept]).success();
    server.restart_without_packs();
    let gauge =
        |direction| server.counted("snowbank_storage_circuit_open", &[("direction", direction)]);

    // Reading fails, so that chunks that were there before cannot be read to verify another NAR.
    let read_back =
        trees::add_files(&store, "read-back", &[("data", bytes), ("more", b"more".to_vec())]);
    site.faults().set(with_reads(Trouble::Cut));
    let mut push = client.start_push("main", &[&read_back], &["--verbose"]);
    process::wait_until("the circuit for reading opens", SOON, || gauge("read") > 0.5);
    assert!(gauge("write") < 0.5, "nothing was wrong with writing");
    assert!(!push.is_done(), "a push needs to read");
    site.faults().set(Faults::default());
    let push = push.wait().success();
    assert!(
        !push.output.stderr.contains("trying again"),
        "the server waited: {}",
        push.output.stderr
    );

    // Writing fails: reading goes on.
    let written = add_noise(&store, 924, 20);
    site.faults().set(with_writes(Trouble::Cut));
    let mut push = client.start_push("main", &[&written], &[]);
    process::wait_until("the circuit for writing opens", SOON, || gauge("write") > 0.5);
    assert!(gauge("read") < 0.5);
    let _ = Oracle::main(&server).assert_whole(&kept);
    assert!(server.replicas()[0].is_ready(), "whoever reads can be served");
    assert!(!push.is_done());
    site.faults().set(Faults::default());
    let _ = push.wait().success();
    process::wait_until("the circuit for writing closes", SOON, || gauge("write") < 0.5);
    Oracle::main(&server).assert_mirrors(&store, &[kept, read_back, written]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn when_the_storage_is_back_nothing_fails_any_more() {
    let (site, store) = (Site::with_faults(Random::fixed(931)), NixStore::new());
    let mut server = Server::options().on(&site).replicas(1).start();
    let paths: Vec<String> = (932..936).map(|seed| add_noise(&store, seed, 12)).collect();
    let _ = Client::of(&server, &store).push(&paths).success();
    server.restart_without_packs();
    let (api, addresses) =
        (Api::anonymous(&server), paths.iter().map(|path| nar_address(&server, path)));
    let addresses: Vec<String> = addresses.collect();
    site.faults().go_away();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        // Some wait when the circuit opens, and some come when it is open.
        let ask = |(number, address): (usize, &String)| {
            let (api, address) = (api.clone(), address.clone());
            scope.spawn(move || {
                std::thread::sleep(Duration::from_secs(1) * u32::try_from(number).unwrap());
                api.get(&address).status.as_u16()
            })
        };
        let asked: Vec<_> = addresses.iter().cycle().take(10).enumerate().map(ask).collect();
        std::thread::sleep(Duration::from_secs(8));
        site.faults().come_back();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[test]
fn real_nix_and_a_push_get_through_an_outage() {
    let site = Site::of(Kind::Rclone);
    let mut server = Server::options().on(&site).replicas(1).start();
    let (store, key) = (NixStore::new(), Oracle::main(&server).public_key());
    let mut pushed = vec![add_noise(&store, 941, 24)];
    let _ = Client::of(&server, &store).push(&pushed).success();
    let gone_for = Duration::from_secs(if full() { 30 } else { 9 });
    for is_killed in [true, false] {
        server.restart_without_packs();
        let late = add_noise(&store, if is_killed { 942 } else { 943 }, 24);
        let (url, other) = (format!("{}/main", server.url()), NixStore::new());
        let (client, went_at) = (Client::of(&server, &store), Instant::now());
        if is_killed {
            site.rclone().kill();
        } else {
            site.rclone().stop();
        }
        std::thread::scope(|scope| {
            // Nix asks once (`download-attempts = 1`).
            let pull = scope.spawn(|| other.substitute(&url, &key, &pushed));
            let push = client.start_push("main", &[&late], &[]);
            std::thread::sleep(gone_for);
            if is_killed {
                site.rclone().start_again();
            } else {
                site.rclone().go_on();
            }
            let _ = pull.join().unwrap().success();
            let _ = push.wait().success();
        });
        eprintln!("an outage of {gone_for:?}: pulled and pushed after {:?}", went_at.elapsed());
        assert_eq!(other.hashes(&pushed), store.hashes(&pushed));
        pushed.push(late);
    }
    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&store, &pushed);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_push_hears_at_once_that_the_bucket_is_full_or_what_may_not_be_done() {
    let (site, server) = server_of(951);
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    let kept = add_noise(&store, 952, 8);
    let _ = client.push(&[&kept]).success();
    let refused = add_noise(&store, 953, 8);

    // As Garage words it.
    let quota = "Forbidden: Bucket size quota is reached, maximum total size of objects for this \
        bucket: 10000000.";
    site.faults().set(with_writes(Trouble::Refuse(403, "AccessDenied", quota)));
    let push = client.push(&[&refused]).ended_with(8);
    assert!(push.output.elapsed < SOON, "{}", push.output);

    let cases = [
        (403, "AccessDenied", "Access Denied.", "PutObject"),
        (403, "InvalidAccessKeyId", "The key does not exist.", "access key"),
        (403, "RequestTimeTooSkewed", "The difference is too large.", "clocks"),
        (404, "NoSuchBucket", "The specified bucket does not exist.", "bucket"),
    ];
    for (status, code, message, word) in cases {
        site.faults().set(with_writes(Trouble::Refuse(status, code, message)));
        let push = client.push_to("main", &[&refused], &["--verbose"]).ended_with(7);
        let said = &push.output.stderr;
        assert!(said.contains(word) && said.contains("refuses"), "{code}: {said}");
        assert!(!said.contains("trying again"), "waiting does not help: {said}");
        assert!(push.output.elapsed < SOON, "{}", push.output);
        assert!(server.log().contains(code), "{code} is not in the server's log");
        // Reading is not concerned.
        let _ = Oracle::main(&server).assert_whole(&kept);
        assert!(server.replicas()[0].is_ready());
    }
    site.faults().set(Faults::default());
    let _ = client.push(&[&refused]).success();
    Oracle::main(&server).assert_mirrors(&store, &[kept, refused]);
}

#[test]
fn readyz_turns_red_within_seconds_whatever_is_wrong_with_an_idle_storage() {
    let (site, server) = server_of(961);
    let up = || server.counted("snowbank_storage_up", &[]);
    process::wait_until("the storage is up", SOON, || up() > 0.5);
    let skewed = "The difference between the request time and the current time is too large.";
    let troubles = [
        Trouble::Cut,
        Trouble::Hang,
        Trouble::Refuse(404, "NoSuchBucket", "The specified bucket does not exist."),
        Trouble::Refuse(403, "RequestTimeTooSkewed", skewed),
        Trouble::Refuse(403, "InvalidAccessKeyId", "The key does not exist."),
    ];
    for trouble in troubles {
        site.faults().set(with_reads(trouble));
        let red = until_ready_is(&server, false);
        process::wait_until("the metric says so", SOON, || up() < 0.5);
        if let Trouble::Refuse(_, code, _) = trouble {
            assert!(server.log().contains(code), "{code} is not in the log");
        }
        site.faults().set(Faults::default());
        let green = until_ready_is(&server, true);
        eprintln!("{trouble:?}: red after {red:?}, green after {green:?}");
        // Ten seconds, and what a busy machine takes.
        assert!(red < Duration::from_secs(15), "{trouble:?}: red after {red:?}");
    }
    // The service's own answer.
    let bucket = site.s3().bucket(BUCKET);
    let away = bucket.with_extension("away");
    std::fs::rename(&bucket, &away).unwrap();
    let _ = until_ready_is(&server, false);
    std::fs::rename(&away, &bucket).unwrap();
    let _ = until_ready_is(&server, true);
}

#[test]
fn bodies_over_a_slow_link_arrive_although_they_take_longer_than_the_timeout() {
    let (site, store) = (Site::with_faults(Random::fixed(971)), NixStore::new());
    // In a full run 4 Mbit/s and the default timeout.
    let (mebibytes, rate, timeout) = if full() { (88, 500_000, 30) } else { (32, 2 << 20, 2) };
    let options = Server::options()
        .on(&site)
        .replicas(1)
        .storage("request-timeout", &format!("\"{timeout}s\""));
    let mut server = options.start();
    let path = add_noise(&store, 972, mebibytes);
    site.faults().set(Faults { upload_rate: rate, ..Faults::default() });
    let sent = || server.counted("snowbank_storage_sent_bytes_total", &[]);
    let (before, started) = (site.s3().counts(), Instant::now());
    let client = Client::of(&server, &store);
    let push = client.start_push("main", &[&path], &[]).wait_for(Duration::from_mins(9)).success();
    let puts = site.s3().counts().get("put").copied().unwrap_or(0)
        - before.get("put").copied().unwrap_or(0);
    eprintln!(
        "{} bytes in {puts} PUTs and {:?}: {}",
        sent(),
        started.elapsed(),
        push.output.stderr.trim()
    );
    assert!(started.elapsed() > Duration::from_secs(timeout) * 4, "the link was not slow");
    // Each object needs one; some stall at first, while too many travel at once.
    let objects = u64::try_from(mebibytes.div_ceil(8)).unwrap();
    assert!(puts <= 2 * objects + 3, "{puts} PUTs for {mebibytes} MiB");

    site.faults().set(Faults { download_rate: 3 * rate, ..Faults::default() });
    server.restart_without_packs();
    let _ = Oracle::main(&server).assert_whole(&path);
    site.faults().set(Faults::default());
    oracle::assert_check_is_clean(&server);
}
