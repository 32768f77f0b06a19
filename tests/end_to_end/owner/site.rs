//! PostgreSQL and a bucket: copies of the database, a frozen replica, and replicas that are killed
//! at every step.

use std::{process::Command, time::Duration};

use snowbank_harness::{
    Api, Pusher, Random, Scratch, Server, Site, collection, oracle, oracle::Oracle,
    postgres::PASSWORD, process,
};

use super::{ADVICE, LIMIT, deposit, freeze_and_wake, objects, pauses, wait_red_because};

/// Copies the database as `pg_dump` does.
fn copy_database(site: &Site, scratch: &Scratch, name: &str) {
    let _ = site.postgres().create_database(name);
    let [from, to] = ["snowbank", name].map(|database| site.database_url(database));
    let mut shell: Command = process::command("sh", scratch.path());
    shell.args([
        "-ec",
        "pg_dump --format=custom --file=copy \"$FROM\"; pg_restore --no-owner --dbname=\"$TO\" \
        copy",
    ]);
    shell.env("FROM", from).env("TO", to);
    process::run(shell).succeeds();
}

#[test]
fn a_copied_database_takes_nothing_from_the_replicas_that_are_at_work() {
    let (site, scratch, mut random) = (Site::start(), Scratch::new("copy"), Random::fixed(919));
    let server = Server::options().on(&site).replicas(2).start();
    let api = Api::root(&server);
    let [before, since] = ["before", "since"].map(|name| deposit(&mut random, name));
    let _ = Pusher::new(&api, "main").push(&[&before]);
    copy_database(&site, &scratch, "copy");
    let _ = Pusher::new(&api, "main").push(&[&since]);
    let options = || Server::options().on(&site).database("copy");
    let refused = options().start_in_vain(LIMIT);
    assert!(!refused.status.success() && refused.stderr.contains(ADVICE), "{refused}");
    assert!(!refused.said().contains(PASSWORD), "{refused}");
    let refused = options().command(&["gc", "--grace", "0s", "--yes"]);
    assert!(!refused.status.success() && refused.stderr.contains(ADVICE), "{refused}");
    assert!(server.replicas().iter().all(snowbank_harness::Replica::is_ready));
    for path in [&before, &since] {
        let _ = Oracle::main(&server).assert_whole(&path.store_path);
    }
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_frozen_replica_that_wakes_up_does_nothing_more() {
    let (site, scratch, mut random) = (Site::start(), Scratch::new("frozen"), Random::fixed(929));
    let server = Server::options().on(&site).replicas(1).env(collection::PAUSE, &pauses()).start();
    let (mut other, mut kept) = (None, None);
    let woken = freeze_and_wake(&server, &mut random, || {
        copy_database(&site, &scratch, "copy");
        let options = || Server::options().on(&site).replicas(1).database("copy");
        options().command(&["restore", "--in-place"]).succeeds();
        other = Some(options().start());
        kept = Some(objects(&server.objects()));
    });
    woken.assert_nothing_was_done();
    assert_eq!(objects(&server.objects()), kept.unwrap(), "no object went, and none came");
    let _ = wait_red_because(&server, "taken over", Duration::from_secs(15));
    assert!(other.unwrap().replicas()[0].is_ready());
}

#[test]
fn replicas_that_are_killed_between_the_steps_of_a_link_start_again() {
    let site = Site::start();
    let mut server = Server::options().on(&site).replicas(2).start();
    for step in ["chain-before-marker", "chain-after-marker"] {
        // A start right after another one adds no link.
        std::thread::sleep(Duration::from_secs(31));
        server.replica(1).kill9();
        server.replicas()[1].kill_at(step);
        assert!(server.replicas()[0].is_ready());
        server.command(&["check"]).succeeds();
        server.replica(1).start_again();
    }
    server.kill9();
    server.start_again();
    let _ = Pusher::new(&Api::root(&server), "main")
        .push(&[&deposit(&mut Random::fixed(937), "after")]);
    oracle::assert_check_is_clean(&server);
}
