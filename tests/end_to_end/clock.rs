//! The clock jumps a year ahead and back: nothing that was pushed within the grace period is lost,
//! and nothing is old that only seems to be.
//!
//! Tests that begin with `faked` give the server's processes another clock; the rest moves the
//! times in the database, which is what a jump looks like to a server.

use reqwest::StatusCode;
use snowbank_core::wire::MissingChunksResponse;
use snowbank_harness::{
    Api, FakeClock, Gc, Pusher, Random, Server,
    ageing::{self, DAY},
    collection::{Answered, Collected},
    craft::{Deposit, Node},
    oracle,
};

const YEAR: i64 = 365 * DAY;
const CONFIG: &str = "[gc]\ninterval = \"never\"\nretention = \"30d\"\n";

fn path(random: &mut Random, name: &str) -> Deposit {
    let node = Node::File(random.bytes(300 << 10));
    Deposit::of(random, name, &node)
}

/// A path that is pushed, and one of which only the chunks are sent.
fn push_and_send(api: &Api, random: &mut Random) -> (Deposit, Deposit) {
    let (pushed, sent) = (path(random, "pushed"), path(random, "sent"));
    let _ = Pusher::new(api, "main").push(&[&pushed]);
    assert!(api.send_bundle(sent.bundle()).status.is_success());
    (pushed, sent)
}

/// Collects as the server would of its own accord. It may refuse while it cannot believe the clock.
#[track_caller]
fn collect(api: &Api) -> Option<Collected> {
    match Gc::new().ask(api).unwrap() {
        Answered::Done(done) => Some(done),
        Answered::Failed(why) if why.contains("clock") => None,
        other => panic!("{other:?}"),
    }
}

/// The same by a command, whose process has no memory of what was.
#[track_caller]
fn collect_by_command(server: &Server) -> Option<Collected> {
    let output = server.command(&["gc", "--json", "--yes"]);
    assert!(output.status.success() || output.said().contains("clock"), "{output}");
    Collected::parse(&output.stdout)
}

/// Asserts that nothing went: these paths are served, and the chunks of this one are there.
#[track_caller]
fn assert_nothing_went(
    server: &Server,
    api: &Api,
    done: Option<&Collected>,
    paths: &[&Deposit],
    sent: &Deposit,
) {
    if let Some(done) = done {
        let went = [done.paths(), done.nars(), done.chunks(), done.packs(), done.objects()];
        assert_eq!(went, [0; 5], "{done}");
    }
    for path in paths {
        let narinfo = api.get(&path.narinfo());
        assert_eq!(narinfo.status, StatusCode::OK, "{}: {}", path.store_path, narinfo.text());
        let nar = api.get(&format!("/main/nar/{}.nar", path.nar_hash().to_nix32()));
        assert!(
            nar.body == path.nar,
            "{}: {}, {} bytes",
            path.store_path,
            nar.status,
            nar.body.len()
        );
    }
    assert_eq!(missing(api, sent), 0, "what was sent and is not committed yet is there");
    oracle::assert_check_is_clean(server);
}

fn missing(api: &Api, path: &Deposit) -> usize {
    let names: Vec<u8> =
        path.encoded.iter().flat_map(|chunk| *chunk.header.name.as_bytes()).collect();
    let answer = api.post_bytes("/api/v1/caches/main/missing-chunks", names);
    answer.json::<MissingChunksResponse>().missing.len()
}

#[test]
fn faked_a_year_ahead_and_back_while_the_server_runs() {
    let clock = FakeClock::ahead(0);
    let server = Server::options().config(CONFIG).clock(&clock).start();
    let (api, mut random) = (Api::root(&server), Random::fixed(787));
    assert!(collect(&api).is_some(), "the clock is right");
    let (before, sent) = push_and_send(&api, &mut random);

    clock.set_ahead(365);
    let done = collect(&api);
    assert_nothing_went(&server, &api, done.as_ref(), &[&before], &sent);
    let done = collect_by_command(&server);
    assert_nothing_went(&server, &api, done.as_ref(), &[&before], &sent);
    let during = path(&mut random, "during");
    let pushed = Pusher::new(&api, "main").push(&[&before, &during]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let ahead = pushed.receipts[&during.store_path].time - i64::try_from(now).unwrap();
    assert!(ahead > YEAR - DAY, "the server goes by the clock of this test: {ahead} s ahead");

    clock.set_ahead(0);
    for _ in 0..2 {
        let done = collect(&api);
        assert_nothing_went(&server, &api, done.as_ref(), &[&before, &during], &sent);
        let done = collect_by_command(&server);
        assert_nothing_went(&server, &api, done.as_ref(), &[&before, &during], &sent);
    }
    // Pushed again, now that it is right, nothing is different.
    assert_eq!(Pusher::new(&api, "main").push(&[&before, &during, &sent]).uploaded(), 1);

    // Two years ahead, an operator who knows that they have really passed says so.
    clock.set_ahead(730);
    let done = Gc::new().trusting_the_clock().run(&api);
    assert_eq!(done.paths(), 3, "{done}");
    oracle::assert_check_is_clean(&server);
}

#[test]
fn faked_a_clock_that_was_a_year_ahead_is_put_right() {
    let clock = FakeClock::ahead(365);
    let mut server = Server::options().config(CONFIG).clock(&clock).start();
    let mut random = Random::fixed(797);
    let (early, sent) = push_and_send(&Api::root(&server), &mut random);
    assert!(collect(&Api::root(&server)).is_some());

    assert!(server.terminate().success());
    clock.set_ahead(0);
    server.start_again();
    // Its first tokens are of next year, and not valid yet.
    let token = [
        "token",
        "create",
        "--sub",
        "now",
        "--admin",
        "--push",
        "*",
        "--pull",
        "*",
        "--expires",
        "1d",
    ];
    let token = server.command(&token).success().stdout;
    let api = Api::new(&server.url(), Some(token.trim()));
    for _ in 0..2 {
        let done = collect(&api);
        assert_nothing_went(&server, &api, done.as_ref(), &[&early], &sent);
        let done = collect_by_command(&server);
        assert_nothing_went(&server, &api, done.as_ref(), &[&early], &sent);
    }
    assert_eq!(Pusher::new(&api, "main").push(&[&early, &sent]).uploaded(), 1);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_jump_of_a_year_makes_nothing_old_and_a_year_that_passes_does() {
    let server = Server::options().config(CONFIG).start();
    let (api, mut random) = (Api::root(&server), Random::fixed(809));
    // It notes the time.
    assert!(collect(&api).is_some());
    let (pushed, sent) = push_and_send(&api, &mut random);
    ageing::jump(&server, YEAR);
    let done = collect(&api);
    assert_nothing_went(&server, &api, done.as_ref(), &[&pushed], &sent);
    // The clock goes back to where it was, and some more.
    ageing::jump(&server, -YEAR - DAY);
    let done = collect(&api);
    assert_nothing_went(&server, &api, done.as_ref(), &[&pushed], &sent);

    ageing::age_everything(&server, 2 * YEAR);
    let done = Gc::new().trusting_the_clock().run(&api);
    assert!(done.names().contains(pushed.base_name()), "{done}");
    assert_eq!(missing(&api, &sent), sent.encoded.len());
    oracle::assert_check_is_clean(&server);
}

#[test]
fn nights_in_which_no_server_runs_make_nothing_old() {
    let server = Server::options().config(CONFIG).start();
    let (api, mut random) = (Api::root(&server), Random::fixed(811));
    assert!(collect(&api).is_some());
    let (pushed, sent) = push_and_send(&api, &mut random);
    // Forty days of the calendar, of which servers ran for thirteen.
    for _ in 0..40 {
        ageing::age_everything(&server, DAY / 3);
        ageing::jump(&server, DAY * 2 / 3);
        assert_eq!(collect(&api).map_or(0, |done| done.paths()), 0);
    }
    // Two days and nights on duty: fifteen in all.
    ageing::age_everything(&server, 2 * DAY);
    let done = collect(&api).expect("the clock has been right for two days");
    assert_eq!(done.paths(), 0);
    assert_eq!(
        missing(&api, &sent),
        sent.encoded.len(),
        "a day of a server's own time is over for these"
    );
    ageing::age_everything(&server, 20 * DAY);
    let done = collect(&api).expect("the clock is right");
    assert!(done.names().contains(pushed.base_name()), "{done}");
    oracle::assert_check_is_clean(&server);
}
