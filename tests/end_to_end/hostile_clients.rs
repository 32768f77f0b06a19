//! Honest clients go on beside hostile ones, and the server's memory stays bounded. `snowbank-bench
//! hostile` has the same loads at their real size.

use std::{sync::Arc, thread::sleep, time::Duration};

use snowbank_harness::{
    Server,
    honest::HonestClients,
    hostile::{Attack, Ground, GroundSize, Reading, Silence, get},
};

/// Few places and little memory, so that a small attack would take all of them.
const LIMITS: &str = "[limits]\nconnections = 64\nmemory = \"64MiB\"\nbody-timeout = \"2s\"\n";
const PLACES: usize = 64;
/// Attackers, where some places are left.
const MANY: usize = 48;
/// How long honest clients are watched.
const WATCH: Duration = Duration::from_secs(5);
const MAX_MEMORY: u64 = 192 << 20;
const LISTING: &str = "/api/v1/caches/main/paths?pattern=*";

/// Asserts that a server with few places and little memory serves honest clients while it is
/// attacked.
#[track_caller]
fn assert_serves_beside(begin: impl FnOnce(&Attack, &Ground)) {
    let mut server = Server::options().config(LIMITS).start();
    let ground = Ground::prepare(&server, GroundSize::SMALL);
    let attack = Attack::on(server.address(), 8);
    begin(&attack, &ground);
    sleep(Duration::from_secs(1));
    let honest = HonestClients::begin(server.address(), &ground);
    sleep(WATCH);
    let met = honest.finish();
    eprintln!("attackers: {}", attack.tally());

    for (what, waits) in [
        ("narinfo", &met.narinfo),
        ("/readyz", &met.readyz),
        ("push", &met.pushes),
        ("download", &met.downloads),
    ] {
        assert!(
            waits.failed == 0 && waits.done > 0,
            "{what}: {waits}; attackers: {}",
            attack.tally()
        );
    }
    let peak = server.peak_rss_bytes();
    assert!(peak < MAX_MEMORY, "{} MiB; attackers: {}", peak >> 20, attack.tally());
}

fn gets(targets: &[String]) -> Arc<Vec<Vec<u8>>> {
    Arc::new(targets.iter().map(|target| get(target)).collect())
}

#[test]
fn silent_sockets() {
    assert_serves_beside(|attack, _| attack.silent(PLACES, Silence::Nothing));
}

#[test]
fn heads_that_drip_and_prefaces_in_part() {
    assert_serves_beside(|attack, _| {
        attack.silent(PLACES / 2, Silence::DrippedHead);
        attack.silent(PLACES / 2, Silence::PartOfPreface);
    });
}

#[test]
fn connections_that_are_silent_after_one_request() {
    assert_serves_beside(|attack, _| {
        attack.silent(PLACES / 2, Silence::AfterOneRequest);
        attack.silent(PLACES / 2, Silence::NoStream);
    });
}

#[test]
fn streams_that_nobody_reads() {
    assert_serves_beside(|attack, ground| {
        attack.unread_streams(2, 50, 0, &ground.large);
        attack.unread_streams(2, 50, 1, &ground.large);
        attack.unread_streams(1, 50, 0, &Arc::new(vec![LISTING.to_owned()]));
    });
}

#[test]
fn nars_that_nobody_reads() {
    assert_serves_beside(|attack, ground| {
        attack.unread(MANY / 2, &gets(&ground.large), Reading::NothingForLong);
        attack.unread(MANY / 2, &gets(&ground.large), Reading::Rate(1000));
    });
}

#[test]
fn listings() {
    assert_serves_beside(|attack, _| {
        attack.asking(MANY / 2, &Arc::new(get("/api/v1/caches/main/paths?pattern=nosuch*")));
        attack.unread(MANY / 2, &Arc::new(vec![get(LISTING)]), Reading::NothingForLong);
    });
}

#[test]
fn bodies_that_drip() {
    assert_serves_beside(|attack, ground| attack.dripping(MANY / 2, &ground.drips(1126)));
}

#[test]
fn answers_to_pushes_that_nobody_reads() {
    assert_serves_beside(|attack, ground| {
        attack.unread(8, &ground.long_commits(), Reading::Nothing);
        attack.unread(8, &ground.long_questions(), Reading::Nothing);
        attack.unread(16, &ground.manifests_as_chunks(), Reading::Nothing);
    });
}

#[test]
fn commits_that_are_more_than_they_seem() {
    assert_serves_beside(|attack, ground| {
        attack.unread(4, &ground.empty_references(), Reading::Nothing);
        attack.unread(4, &ground.claims(), Reading::Nothing);
    });
}
