//! What a push and a download cost in requests to the object storage, by the server's own count and by the storage's.

use snowbank_harness::{Api, Client, NixStore, Random, Server, Site, oracle::Oracle, site::Kind, trees};

const MIB: u64 = 1 << 20;
const REQUESTS: &str = "snowbank_storage_requests_total";

/// Requests of one operation so far, asserted to be the same on both sides.
#[track_caller]
fn count(server: &Server, site: &Site, operation: &'static str) -> u64 {
    let seen = site.s3().counts().get(operation).copied().unwrap_or(0);
    let own = server.counted(REQUESTS, &[("operation", operation)]);
    assert!((own - small(seen)).abs() < 0.5, "{operation}: the servers counted {own}, the storage {seen}");
    seen
}

#[test]
fn a_push_takes_a_put_per_eight_mebibytes_and_a_download_two_gets() {
    let (site, store) = (Site::of(Kind::Strict), NixStore::new());
    // Without replicas that a request might meet first: what counts is the same with any number.
    let mut server = Server::options().on(&site).replicas(1).start();
    let mut random = Random::fixed(131);
    let mebibytes = 96;
    let path = trees::add_noise(&store, &mut random, "noise", 96 << 20);
    let (puts, lists) = (count(&server, &site, "put"), count(&server, &site, "list"));

    let _ = Client::of(&server, &store).push(&[&path]).success();
    let puts = count(&server, &site, "put") - puts;
    let stored = server.stored_bytes();
    eprintln!("{puts} PUTs for {} MiB stored", stored / MIB);
    assert!(puts <= mebibytes / 8 + 4, "{puts} PUTs for {mebibytes} MiB");
    assert_eq!(count(&server, &site, "list"), lists, "a push lists nothing");
    assert_eq!(site.s3().counts().get("multipart"), None);

    // A replica that has nothing in memory.
    server.restart();
    let gets = count_after_restart(&site);
    let info = Oracle::main(&server).narinfo(&path).unwrap();
    for address in [info.url.clone(), info.url.trim_end_matches(".zst").to_owned()] {
        let before = count_after_restart(&site);
        let answer = Api::anonymous(&server).get(&format!("/main/{address}"));
        assert!(answer.status.is_success(), "{}", answer.text());
        let gets = count_after_restart(&site) - before;
        eprintln!("{gets} GETs for {} MiB of {address}", stored / MIB);
        // Two for each pack, which is what one PUT made.
        assert!(gets <= 2 * puts + 2, "{gets} GETs for {} MiB in {puts} packs", stored / MIB);
    }
    let own = server.counted(REQUESTS, &[("operation", "get")]);
    let seen = count_after_restart(&site) - gets;
    assert!(own >= small(seen), "the server counted {own}, the storage {seen} since");
    assert_eq!(site.s3().refused().len(), 0, "no rule is broken: {:?}", site.s3().refused());
}

/// A count as a metric's value.
fn small(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// GETs that the storage has seen; the server's own count began anew.
fn count_after_restart(site: &Site) -> u64 {
    site.s3().counts().get("get").copied().unwrap_or(0)
}

#[test]
fn a_small_closure_takes_few_requests_each_way() {
    let (site, store) = (Site::of(Kind::Strict), NixStore::new());
    let server = Server::options().on(&site).replicas(1).start();
    let paths = trees::add_tiny(&store, 200, "small");
    let puts = count(&server, &site, "put");
    let _ = Client::of(&server, &store).push(&paths).success();
    let puts = count(&server, &site, "put") - puts;
    let gets = count(&server, &site, "get");
    let oracle = Oracle::main(&server);
    for path in &paths {
        let _ = oracle.assert_whole(path);
    }
    let gets = count(&server, &site, "get") - gets;
    eprintln!("200 tiny paths: {puts} PUTs up, {gets} GETs down");
    assert!(puts <= 12, "{puts} PUTs");
    assert!(gets <= 200, "{gets} GETs");
}

/// What a server has counted so far: HTTP requests, transactions, requests to the storage.
fn work(server: &Server) -> [u64; 4] {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let count = |counter: &str, labels: &[(&str, &str)]| server.counted(counter, labels).round() as u64;
    [
        count("snowbank_http_requests_total", &[]),
        // Not those that the server makes of its own accord.
        count("snowbank_database_transactions_total", &[("kind", "commit")]),
        count(REQUESTS, &[("operation", "put")]),
        count(REQUESTS, &[("operation", "get")]),
    ]
}

/// Not a bound but the price as it is, in [HTTP requests, transactions, PUTs, GETs]. A change that makes it dearer shows here;
/// one that makes it cheaper changes these numbers.
#[test]
fn the_price_of_pushes_and_pulls_is_known_exactly() {
    let (site, store) = (Site::of(Kind::Strict), NixStore::new());
    let mut server = Server::options().on(&site).replicas(1).start();
    let client = Client::of(&server, &store);
    let cost = |server: &Server, what: &str, action: &mut dyn FnMut()| {
        let before = work(server);
        action();
        let after = work(server);
        let cost: [u64; 4] = std::array::from_fn(|at| after[at] - before[at]);
        eprintln!("{what}: {cost:?}");
        cost
    };
    let tiny = trees::add_tiny(&store, 300, "priced");
    // Within what the server keeps of packs just written: of more, how much is read back depends on who is faster.
    let large = trees::add_noise(&store, &mut Random::fixed(211), "priced", 10 << 20);
    let pushes = [
        cost(&server, "300 tiny paths", &mut || drop(client.push(&tiny).success())),
        cost(&server, "the same again", &mut || drop(client.push(&tiny).success())),
        cost(&server, "10 MiB of noise", &mut || drop(client.push(&[&large]).success())),
    ];
    // With nothing in memory.
    server.restart();
    let oracle = Oracle::main(&server);
    let pulls = [
        cost(&server, "a pull of that", &mut || drop(oracle.assert_whole(&large))),
        cost(&server, "a pull of a tiny path", &mut || drop(oracle.assert_whole(&tiny[0]))),
        cost(&server, "a pull of its neighbour", &mut || drop(oracle.assert_whole(&tiny[1]))),
        cost(&server, "a pull of a third", &mut || drop(oracle.assert_whole(&tiny[2]))),
    ];
    assert_eq!(
        (pushes, pulls),
        ([[6, 7, 1, 0], [2, 0, 0, 0], [8, 4, 3, 0]], [[2, 0, 0, 3], [2, 0, 0, 1], [2, 0, 0, 1], [2, 0, 0, 0]])
    );
}
