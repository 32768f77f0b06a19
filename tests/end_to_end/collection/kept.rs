//! What retention, pins and expiry keep, and for how long.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use serde_json::json;
use snowbank_harness::{
    Api, Gc, Pusher, Random, Server,
    ageing::{DAY, age_everything},
    oracle,
    oracle::Oracle,
    pins::Pins,
};

use super::{assert_gone, assert_served, configure, names, path, state, wait_for_uses};

#[test]
fn what_nobody_uses_goes_and_what_a_living_path_needs_stays() {
    let (server, mut random) = (Server::start(), Random::fixed(601));
    let api = Api::root(&server);
    configure(&server, &["--retention", "10d"]);
    let library = path(&mut random, "library", 200);
    let read = path(&mut random, "read", 20).referring_to(&[&library]);
    let again = path(&mut random, "again", 20);
    let below = path(&mut random, "below", 200);
    let old = path(&mut random, "old", 20).referring_to(&[&below]);
    let pusher = Pusher::new(&api, "main");
    let _ = pusher.push(&[&library, &read, &again, &below, &old]);

    age_everything(&server, 9 * DAY);
    assert_eq!(Gc::new().run(&api).paths(), 0, "nothing is old enough");
    // A narinfo is a use, and so is to be pushed again.
    assert!(Oracle::main(&server).visible(&read.store_path));
    assert_eq!(pusher.push(&[&again]).uploaded(), 0);
    wait_for_uses(&server, 2);
    age_everything(&server, 3 * DAY);

    let before = state(&server);
    let expected: BTreeMap<_, _> = [&below, &old]
        .map(|path| (("main".to_owned(), path.base_name().to_owned()), "unused".to_owned()))
        .into_iter()
        .collect();
    for plan in [Gc::new().dry_run().run(&api), Gc::new().dry_run().command(&server)] {
        assert_eq!(plan.going(), expected, "{plan}");
    }
    let table = server.command(&["gc", "--dry-run"]).success().stdout;
    assert!(table.contains(old.base_name()) && table.contains("unused"), "{table}");
    assert!(!table.contains(library.base_name()), "{table}");
    assert_eq!(state(&server), before, "a dry run changes nothing");

    assert_eq!(Gc::new().run(&api).going(), expected);
    assert_gone(&server, &[&below, &old]);
    assert_served(&server, &[&library, &read, &again]);
    oracle::assert_check_is_clean(&server);
    assert_eq!(Gc::new().run(&api).paths(), 0, "once is enough");
}

#[test]
fn a_cache_without_retention_keeps_everything() {
    let (server, mut random) = (Server::start(), Random::fixed(607));
    let api = Api::root(&server);
    let kept = path(&mut random, "kept", 20);
    let _ = Pusher::new(&api, "main").push(&[&kept]);
    age_everything(&server, 5_000 * DAY);
    assert_eq!(Gc::without_grace().run(&api).paths(), 0);
    assert_served(&server, &[&kept]);
}

#[test]
fn the_servers_retention_is_for_caches_that_do_not_say_it_themselves() {
    let server = Server::options().config("[gc]\nretention = \"5d\"\n").start();
    let (api, mut random) = (Api::root(&server), Random::fixed(613));
    let first = path(&mut random, "first", 20);
    let _ = Pusher::new(&api, "main").push(&[&first]);
    age_everything(&server, 6 * DAY);
    configure(&server, &["--retention", "never"]);
    assert_eq!(Gc::new().run(&api).paths(), 0);
    configure(&server, &["--retention", "7d"]);
    assert_eq!(Gc::new().run(&api).paths(), 0);
    configure(&server, &["--retention", "default"]);
    assert_eq!(Gc::new().run(&api).names(), names([&first]));
    assert_gone(&server, &[&first]);
}

#[test]
fn pins_keep_what_they_stand_for_and_what_they_stood_for() {
    let (mut server, mut random) = (Server::start(), Random::fixed(617));
    let api = Api::root(&server);
    configure(&server, &["--retention", "2d"]);
    let base = path(&mut random, "base", 100);
    let versions: Vec<_> = (1..=4)
        .map(|number| path(&mut random, &format!("v{number}"), 20).referring_to(&[&base]))
        .collect();
    let timed = path(&mut random, "timed", 20);
    let (pusher, pins) = (Pusher::new(&api, "main"), Pins::of(&api, "main"));
    let _ = pusher.push(&[&base, &timed]);
    for version in &versions {
        let _ = pusher.push(&[version]);
        let answer = pins.set("latest", &version.store_path, Some(2), None);
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    let answer = pins.set("for-a-while", &timed.store_path, None, Some(6 * 86_400));
    assert!(answer.status.is_success(), "{}", answer.text());

    age_everything(&server, 5 * DAY);
    assert_eq!(
        Gc::new().run(&api).names(),
        names(&versions[..2]),
        "two generations are kept, with what they need"
    );
    assert_served(&server, &[&base, &versions[2], &versions[3]]);
    // What a server remembers of reads is written when it ends, before the time goes on.
    server.restart();
    assert_eq!(pins.resolve("latest").text().trim(), versions[3].store_path);
    let answer = pins.rollback("latest");
    assert!(answer.status.is_success(), "{}", answer.text());
    assert_eq!(pins.resolve("latest").text().trim(), versions[2].store_path);
    let delete = json!({ "paths": [versions[3].store_path] });
    let refused = api.post_json("/api/v1/caches/main/delete", &delete);
    assert!(
        refused.status.is_client_error() && refused.text().contains("latest"),
        "{}",
        refused.text()
    );

    age_everything(&server, 2 * DAY);
    assert_eq!(Gc::new().run(&api).names(), names([&timed]), "its pin is over");
    let answer = pins.remove("latest");
    assert!(answer.status.is_success(), "{}", answer.text());
    assert_eq!(pins.resolve("latest").status, StatusCode::NOT_FOUND);
    age_everything(&server, 3 * DAY);
    assert_eq!(Gc::new().run(&api).paths(), 3);
    assert_gone(&server, &[&base, &versions[2], &versions[3]]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_pin_that_comes_with_a_push_holds_from_the_commit_on() {
    let (server, mut random) = (Server::start(), Random::fixed(619));
    let api = Api::root(&server);
    configure(&server, &["--retention", "1d"]);
    let pinned = path(&mut random, "pinned", 20);
    let _ = Pusher::new(&api, "main").pinning("release").push(&[&pinned]);
    assert_eq!(Pins::of(&api, "main").resolve("release").text().trim(), pinned.store_path);
    age_everything(&server, 30 * DAY);
    assert_eq!(Gc::new().run(&api).paths(), 0);
    assert_served(&server, &[&pinned]);
}

#[test]
fn what_is_pushed_for_a_time_goes_after_it_whoever_reads_it() {
    let (server, mut random) = (Server::start(), Random::fixed(631));
    let api = Api::root(&server);
    let [short, needed, renewed, longer] =
        ["short", "needed", "renewed", "longer"].map(|name| path(&mut random, name, 20));
    let root = path(&mut random, "root", 20).referring_to(&[&needed]);
    let (for_ever, two_days) =
        (Pusher::new(&api, "main"), Pusher::new(&api, "main").expiring(2 * 86_400));
    let _ = two_days.push(&[&short, &needed, &renewed, &longer]);
    let _ = for_ever.push(&[&root]);
    let _ = for_ever.push(&[&renewed]);
    let _ = Pusher::new(&api, "main").expiring(8 * 86_400).push(&[&longer]);
    // What is there for ever does not end sooner for a push that wants less.
    let _ = two_days.push(&[&root, &renewed]);

    age_everything(&server, DAY);
    assert_eq!(Gc::new().run(&api).paths(), 0);
    assert_served(&server, &[&short]);
    age_everything(&server, 2 * DAY);
    let done = Gc::new().run(&api);
    assert_eq!(done.going().into_values().collect::<Vec<_>>(), ["expired"]);
    assert_eq!(done.names(), names([&short]));
    assert_gone(&server, &[&short]);
    age_everything(&server, 6 * DAY);
    assert_eq!(Gc::new().run(&api).names(), names([&longer]));
    age_everything(&server, 400 * DAY);
    assert_eq!(Gc::new().run(&api).paths(), 0);
    assert_served(&server, &[&needed, &root, &renewed]);
    oracle::assert_check_is_clean(&server);
}
