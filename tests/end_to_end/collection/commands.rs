//! `snowbankd gc` and `snowbank gc`: beside a running server, two at once, and who may.

use snowbank_harness::{
    Api, Client, Gc, NixStore, Pusher, Random, Server,
    ageing::{DAY, age_everything},
    collection::{self, Answered, Collected},
    oracle,
};

use super::{assert_gone, assert_served, configure, path};

#[test]
fn a_collection_beside_a_running_server_is_seen_by_it() {
    let (server, mut random) = (Server::start(), Random::fixed(727));
    let api = Api::root(&server);
    configure(&server, &["--retention", "10d"]);
    let (old, young) = (path(&mut random, "old", 300), path(&mut random, "young", 300));
    let pusher = Pusher::new(&api, "main");
    let _ = pusher.push(&[&old]);
    age_everything(&server, 11 * DAY);
    let _ = pusher.push(&[&young]);
    assert_eq!(Gc::new().command(&server).paths(), 1);
    assert_gone(&server, &[&old]);
    assert_served(&server, &[&young]);
    // The server knows nothing of the old chunks any more.
    for _ in 0..3 {
        let _ = Gc::without_grace().command(&server);
    }
    collection::assert_no_pack_is_left_over(&server);
    let pushed = pusher.push(&[&old]);
    assert_eq!((pushed.uploaded(), pushed.chunks_sent), (1, old.encoded.len()));
    assert_served(&server, &[&old, &young]);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn of_two_at_once_one_says_that_another_runs() {
    let (server, mut random) = (Server::start(), Random::fixed(733));
    let api = Api::root(&server);
    let lone = path(&mut random, "lone", 50);
    assert!(api.send_bundle(lone.bundle()).status.is_success());
    let mut first = Gc::without_grace().start(&server.replicas()[0], "gc-after-mark:4000");
    assert!(collection::comes_to("gc-after-mark", &mut first), "{}", first.wait());
    let second = server.command(&["gc", "--yes"]);
    assert!(!second.status.success() && collection::is_busy(&second.stderr), "{second}");
    for replica in server.replicas() {
        let api = Api::new(&replica.url(), Some(&server.root_token()));
        let answer = Gc::new().ask(&api).unwrap();
        assert!(matches!(answer, Answered::Busy(_)), "{answer:?}");
    }
    let first = first.wait().success();
    assert_eq!(Collected::parse(&first.stdout).unwrap().chunks(), lone.encoded.len() as u64);
    let _ = Gc::new().command(&server);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn over_http_it_takes_an_administrator() {
    let (server, store) = (Server::start(), NixStore::new());
    let token = server.token("ci", &["*"], &["*"]);
    for grace in [Gc::new().dry_run(), Gc::without_grace()] {
        let answer = grace.ask(&Api::new(&server.url(), Some(&token))).unwrap();
        assert!(
            matches!(&answer, Answered::Failed(why) if why.contains("forbidden")),
            "{answer:?}"
        );
        let answer = grace.ask(&Api::anonymous(&server)).unwrap();
        assert!(
            matches!(&answer, Answered::Failed(why) if why.contains("unauthenticated")),
            "{answer:?}"
        );
    }
    let client = Client::of(&server, &store);
    let report = client.run(&["gc", "--dry-run", "--json"]).success().stdout;
    assert_eq!(Collected::parse(&report).unwrap().paths(), 0);
    let table = client.run(&["gc", "--yes"]).success().stdout;
    assert!(table.contains("main"), "{table}");
}
