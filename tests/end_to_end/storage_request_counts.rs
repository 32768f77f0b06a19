//! What a push and a download cost in requests to the object storage, by the server's own count and
//! by the storage's.

use snowbank_harness::{
    Api, Client, NixStore, Random, Server, Site, oracle::Oracle, site::Kind, trees,
};

const MIB: u64 = 1 << 20;
const REQUESTS: &str = "snowbank_storage_requests_total";

/// Requests of one operation so far, asserted to be the same on both sides.
#[track_caller]
fn count(server: &Server, site: &Site, operation: &'static str) -> u64 {
    let seen = site.s3().counts().get(operation).copied().unwrap_or(0);
    let own = server.counted(REQUESTS, &[("operation", operation)]);
    assert!(
        (own - small(seen)).abs() < 0.5,
        "{operation}: the servers counted {own}, the storage {seen}"
    );
    seen
}

#[test]
fn a_push_takes_a_put_per_eight_mebibytes_and_a_download_a_get_for_each() {
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

    server.restart_without_packs();
    let info = Oracle::main(&server).narinfo(&path).unwrap();
    for address in [info.url.clone(), info.url.trim_end_matches(".zst").to_owned()] {
        let before = count_after_restart(&site);
        let answer = Api::anonymous(&server).get(&format!("/main/{address}"));
        assert!(answer.status.is_success(), "{}", answer.text());
        let gets = count_after_restart(&site) - before;
        eprintln!("{gets} GETs for {} MiB of {address}", stored / MIB);
        assert!(gets <= puts + puts / 2, "{gets} GETs for {} MiB in {puts} packs", stored / MIB);
        server.restart_without_packs();
    }
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

/// Bytes that a server has sent to the storage and received from it, and GETs, since it started.
#[derive(Debug, Clone, Copy)]
struct Moved {
    sent: f64,
    received: f64,
    gets: f64,
}

impl Moved {
    fn since_start(server: &Server) -> Self {
        Self {
            sent: server.counted("snowbank_storage_sent_bytes_total", &[]),
            received: server.counted("snowbank_storage_received_bytes_total", &[]),
            gets: server.counted(REQUESTS, &[("operation", "get")]),
        }
    }

    fn of(server: &Server, action: impl FnOnce()) -> Self {
        let before = Self::since_start(server);
        action();
        let after = Self::since_start(server);
        Self {
            sent: after.sent - before.sent,
            received: after.received - before.received,
            gets: after.gets - before.gets,
        }
    }
}

#[test]
fn each_byte_of_a_push_travels_once() {
    let (site, store) = (Site::of(Kind::Strict), NixStore::new());
    let mut server = Server::options().on(&site).replicas(1).start();
    let client = Client::of(&server, &store);
    let mut random = Random::fixed(223);
    let contents: Vec<Vec<u8>> = (0..3).map(|_| random.bytes(24 << 20)).collect();
    let version = |number: usize| -> Vec<String> {
        let note = format!("version {number}");
        let path = |(at, noise): (usize, &Vec<u8>)| {
            trees::add_files(
                &store,
                &format!("app-{at}"),
                &[("noise", noise.clone()), ("version", note.clone().into())],
            )
        };
        contents.iter().enumerate().map(path).collect()
    };
    let first = Moved::of(&server, || drop(client.push(&version(1)).success()));
    eprintln!("a first push: {first:?}");
    assert!(first.sent > 72e6 && first.received <= first.sent / 50.0, "{first:?}");
    let packs = f64::from(u32::try_from(site.s3().counts()["put"]).unwrap());

    // Nearly all chunks are there already, and on this server's disk.
    let next = Moved::of(&server, || drop(client.push(&version(2)).success()));
    eprintln!("a rebuild: {next:?}");
    assert!(next.sent < 500e3 && next.received < 1e3, "{next:?}");

    server.restart_without_packs();
    let cold = Moved::of(&server, || drop(client.push(&version(3)).success()));
    eprintln!("a rebuild on a server that has nothing: {cold:?}, {packs} packs");
    assert!(cold.sent < 500e3 && cold.received < 1.1 * first.sent, "{cold:?}");
    assert!(cold.gets <= 2.0 * packs, "{cold:?}");

    // Each NAR has packs of its own, but for its end.
    server.restart_without_packs();
    let oracle = Oracle::main(&server);
    for path in version(3) {
        let pull = Moved::of(&server, || drop(oracle.assert_whole(&path)));
        eprintln!("a download of 24 MiB: {pull:?}");
        assert!(pull.gets <= 24.0 / 8.0 + 4.0, "{pull:?}");
    }
}

#[test]
fn a_nar_in_many_pieces_takes_few_requests() {
    let (site, store) = (Site::of(Kind::Strict), NixStore::new());
    let mut server = Server::options().on(&site).replicas(1).start();
    let client = Client::of(&server, &store);
    let mut random = Random::fixed(227);
    let mut bytes = random.bytes(32 << 20);
    let old = trees::add_files(&store, "old", &[("noise", bytes.clone())]);
    let _ = client.push(&[&old]).success();
    // Something new in every mebibyte.
    for piece in bytes.chunks_mut(1 << 20) {
        piece[..100_000].copy_from_slice(&random.bytes(100_000));
    }
    let new = trees::add_files(&store, "new", &[("noise", bytes)]);
    let _ = client.push(&[&new]).success();
    server.restart_without_packs();
    let oracle = Oracle::main(&server);
    let pull = Moved::of(&server, || drop(oracle.assert_whole(&new)));
    eprintln!("32 MiB in some 64 runs: {pull:?}");
    // The old packs and the one or two new ones.
    assert!(pull.gets <= 16.0 && pull.received < 48e6, "{pull:?}");
}

/// What a server has counted so far: HTTP requests, transactions, requests to the storage.
fn work(server: &Server) -> [u64; 4] {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let count =
        |counter: &str, labels: &[(&str, &str)]| server.counted(counter, labels).round() as u64;
    [
        count("snowbank_http_requests_total", &[]),
        // Not those that the server makes of its own accord.
        count("snowbank_database_transactions_total", &[("kind", "commit")]),
        count(REQUESTS, &[("operation", "put")]),
        count(REQUESTS, &[("operation", "get")]),
    ]
}

/// Not a bound but the price as it is, in [HTTP requests, transactions, PUTs, GETs]. A change that
/// makes it dearer shows here; one that makes it cheaper changes these numbers.
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
    let large = trees::add_noise(&store, &mut Random::fixed(211), "priced", 10 << 20);
    let pushes = [
        cost(&server, "300 tiny paths", &mut || drop(client.push(&tiny).success())),
        cost(&server, "the same again", &mut || drop(client.push(&tiny).success())),
        cost(&server, "10 MiB of noise", &mut || drop(client.push(&[&large]).success())),
    ];
    server.restart_without_packs();
    let oracle = Oracle::main(&server);
    let pulls = [
        cost(&server, "a pull of that", &mut || drop(oracle.assert_whole(&large))),
        cost(&server, "a pull of a tiny path", &mut || drop(oracle.assert_whole(&tiny[0]))),
        cost(&server, "a pull of its neighbour", &mut || drop(oracle.assert_whole(&tiny[1]))),
        cost(&server, "a pull of a third", &mut || drop(oracle.assert_whole(&tiny[2]))),
    ];
    assert_eq!(
        (pushes, pulls),
        (
            [[6, 7, 1, 0], [2, 0, 0, 0], [8, 4, 3, 0]],
            [[2, 0, 0, 3], [2, 0, 0, 1], [2, 0, 0, 0], [2, 0, 0, 0]]
        )
    );
}
