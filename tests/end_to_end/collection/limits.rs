//! Size limits, of a cache and of the server: what was used least recently goes, and no more of it
//! than has to.

use snowbank_harness::{
    Api, Gc, Pusher, Random, Server,
    ageing::{DAY, HOUR, age_everything},
    collection,
    craft::Deposit,
    oracle,
    oracle::Oracle,
    pins::Pins,
};

use super::{assert_gone, assert_served, configure, names, path, wait_for_uses};

const MIB: u64 = 1 << 20;
/// What the paths here take, and a little.
const PATH: u64 = 2 * MIB;
const LIMIT: u64 = 20 * MIB;

/// Paths of 2 MiB, pushed a day apart; the last one was pushed a day ago.
fn days_apart(server: &Server, cache: &str, random: &mut Random, count: usize) -> Vec<Deposit> {
    let pusher = Pusher::new(&Api::root(server), cache);
    let push = |number: usize| {
        let path = path(random, &format!("{cache}-{number}"), 2 << 10);
        let _ = pusher.push(&[&path]);
        age_everything(server, DAY + HOUR);
        path
    };
    (0..count).map(push).collect()
}

/// Asserts that between the low-water mark and one path less than that is in use.
#[track_caller]
fn assert_at_low_water(stored: u64) {
    let low_water = LIMIT * 85 / 100;
    assert!(
        (low_water - PATH - MIB..=low_water).contains(&stored),
        "{stored} bytes, the mark is at {low_water}"
    );
}

#[test]
fn a_cache_above_its_limit_loses_what_was_used_least_recently() {
    let (server, mut random) = (Server::start(), Random::fixed(641));
    let api = Api::root(&server);
    let paths = days_apart(&server, "main", &mut random, 12);
    let answer = Pins::of(&api, "main").set("oldest", &paths[0].store_path, None, None);
    assert!(answer.status.is_success(), "{}", answer.text());
    assert!(Oracle::main(&server).visible(&paths[1].store_path));
    wait_for_uses(&server, 1);
    configure(&server, &["--max-size", "20MiB"]);

    // 24 MiB: the high-water mark is 19, the low-water mark 17.
    let plan = Gc::new().dry_run().run(&api);
    assert!(plan.going().values().all(|reason| reason == "cache-size"), "{plan}");
    let done = Gc::new().run(&api);
    assert_eq!((done.names(), done.going()), (names(&paths[2..6]), plan.going()));
    assert_at_low_water(done.sizes("main")[1]);
    assert_gone(&server, &[&paths[2], &paths[5]]);
    // Not those that are to go next: this is a use.
    assert_served(&server, &[&paths[0], &paths[1], &paths[11]]);

    assert_eq!(Gc::new().run(&api).paths(), 0, "below the high-water mark nothing goes");
    // One more is still below it, and two more are not.
    let more = days_apart(&server, "main", &mut random, 1);
    assert_eq!(Gc::new().run(&api).paths(), 0);
    let most = days_apart(&server, "main", &mut random, 1);
    assert!(Gc::new().run(&api).names().contains(paths[6].base_name()));
    assert_served(&server, &[&paths[0], &paths[1], &more[0], &most[0]]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_closure_counts_by_its_root_and_is_kept_whole() {
    let (server, mut random) = (Server::start(), Random::fixed(643));
    let api = Api::root(&server);
    // The oldest of all, and needed by the youngest root.
    let base = days_apart(&server, "main", &mut random, 1).remove(0);
    let paths = days_apart(&server, "main", &mut random, 10);
    let root = path(&mut random, "root", 64).referring_to(&[&base]);
    let _ = Pusher::new(&api, "main").push(&[&root]);
    age_everything(&server, 2 * DAY);
    configure(&server, &["--max-size", "20MiB"]);
    let done = Gc::new().run(&api);
    assert!(done.paths() > 0 && names(&paths).is_superset(&done.names()), "{done}");
    assert_served(&server, &[&base, &root, &paths[9]]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn nothing_young_goes_for_a_limit_and_pins_above_it_are_told() {
    let (server, mut random) = (Server::start(), Random::fixed(647));
    let api = Api::root(&server);
    configure(&server, &["--max-size", "20MiB"]);
    let paths: Vec<Deposit> =
        (0..12).map(|number| path(&mut random, &format!("p{number}"), 2 << 10)).collect();
    let _ = Pusher::new(&api, "main").push(&paths.iter().collect::<Vec<_>>());
    age_everything(&server, 20 * HOUR);
    assert_eq!(Gc::new().run(&api).paths(), 0, "all of it is younger than a day");
    let pins = Pins::of(&api, "main");
    for (number, path) in paths.iter().enumerate() {
        let answer = pins.set(&format!("pin-{number}"), &path.store_path, None, None);
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    age_everything(&server, 10 * DAY);
    let done = Gc::new().run(&api);
    assert_eq!(done.paths(), 0);
    assert!(done.notes().contains("pin") && done.notes().contains("main"), "{}", done.notes());
    assert!(pins.remove("pin-3").status.is_success());
    assert_eq!(
        Gc::new().run(&api).names(),
        names([&paths[3]]),
        "no further than what is not pinned"
    );
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_server_above_its_limit_looks_at_all_caches() {
    let server = Server::options().config("[gc]\nmax-size = \"20MiB\"\n").start();
    let (api, mut random) = (Api::root(&server), Random::fixed(653));
    server.command(&["cache", "create", "other", "--public"]).succeeds();
    let first = days_apart(&server, "main", &mut random, 3);
    let second = days_apart(&server, "other", &mut random, 6);
    let third = days_apart(&server, "main", &mut random, 3);
    let done = Gc::without_grace().run(&api);
    assert!(done.going().values().all(|reason| reason == "server-size"), "{done}");
    assert_eq!(done.names(), names(first.iter().chain(&second[..1])));
    let _ = collection::collect_all(&api);
    assert_at_low_water(server.stored_bytes());
    assert_gone(&server, &[&first[0], &first[2]]);
    assert_served(&server, &[&third[0], &third[2]]);
    let other = Oracle::new(&server, "other", api);
    let left = second.iter().filter(|path| other.visible(&path.store_path)).count();
    assert_eq!(left, 5);
    oracle::assert_check_is_clean(&server);
}
