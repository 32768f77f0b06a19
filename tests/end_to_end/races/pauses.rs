//! Writers and collectors that sleep at the worst moment, for as long as another one needs to
//! finish.

use std::{thread, time::Duration};

use snowbank_harness::{
    Api, Gc, Pusher, Random, Server,
    ageing::{HOUR, age_everything},
    collection,
    craft::{self, Deposit},
    database, oracle,
    pins::Pins,
    process,
    pusher::Pushed,
};

use super::{STEPS, assert_only_these_are_left, assert_served, delete, path, push};

/// How long a writer sleeps; collections over HTTP take a small part of it.
const SLEEP: &str = "3000";

/// How often a server has gone to sleep at a step.
fn slept(server: &Server, step: &str) -> usize {
    server.log().matches(&format!("{}: {step} begins", collection::PAUSE)).count()
}

/// Pushes, and calls `meanwhile` while the server sleeps at `step` on its behalf.
fn push_while(server: &Server, step: &str, paths: &[&Deposit], meanwhile: impl FnOnce()) -> Pushed {
    let (api, before) = (Api::root(server), slept(server, step));
    thread::scope(|scope| {
        let pusher = scope.spawn(|| Pusher::new(&api, "main").push(paths));
        process::wait_until(
            &format!("the server sleeps at {step}"),
            Duration::from_secs(30),
            || slept(server, step) > before || pusher.is_finished(),
        );
        assert!(
            slept(server, step) > before,
            "the push did not come to {step}; is snowbankd a debug build?"
        );
        meanwhile();
        pusher.join().unwrap()
    })
}

#[test]
fn a_writer_that_sleeps_past_the_grace_period_finds_its_object_claimed() {
    let server =
        Server::options().env(collection::PAUSE, &format!("pack-after-put:{SLEEP}:1")).start();
    let (api, mut random) = (Api::root(&server), Random::fixed(751));
    let path = path(&mut random, "slept", 700);
    let pushed = push_while(&server, "pack-after-put", &[&path], || {
        assert_eq!(
            (collection::objects(&server), collection::packs(&server)),
            (1, [0, 0]),
            "W1 without W2"
        );
        let done = collection::collect_all(&api);
        assert_eq!(collection::objects(&server), 0, "the object is gone: {done:?}");
    });
    // Its rows could not be made under that key: it was stored once more, under another one.
    assert_eq!((pushed.chunks_sent, pushed.uploaded()), (path.encoded.len(), 1), "{pushed:?}");
    assert_served(&server, std::slice::from_ref(&path));
    oracle::assert_check_is_clean(&server);
    assert_only_these_are_left(&server, &[path]);
}

#[test]
fn a_commit_that_sleeps_past_the_grace_period_is_told_to_send_again() {
    let server =
        Server::options().env(collection::PAUSE, &format!("commit-before-tx:{SLEEP}")).start();
    let (api, mut random) = (Api::root(&server), Random::fixed(757));
    let first = path(&mut random, "first", 700);
    let chunks = first.encoded.len();
    // It has read back all of its chunks, and before it takes its lock they are gone.
    let pushed = push_while(&server, "commit-before-tx", &[&first], || {
        let _ = collection::collect_all(&api);
        assert_eq!(database::chunks(&server), 0, "nothing names them");
    });
    assert_eq!(
        (pushed.uploaded(), pushed.chunks_gone, pushed.chunks_sent),
        (1, chunks, 2 * chunks),
        "{pushed:?}"
    );
    assert_served(&server, std::slice::from_ref(&first));

    // The same with a NAR that was known, and that no path has any more.
    let twin = Deposit::at(format!("/nix/store/{}-twin", random.hash_chars()), first.nar.clone());
    delete(&api, std::slice::from_ref(&first));
    let pushed = push_while(&server, "commit-before-tx", &[&twin], || {
        let _ = collection::collect_all(&api);
        assert_eq!((database::nars(&server), database::chunks(&server)), (0, 0));
    });
    assert_eq!(
        (pushed.uploaded(), pushed.chunks_gone, pushed.chunks_sent),
        (1, chunks, chunks),
        "{pushed:?}"
    );
    assert_served(&server, std::slice::from_ref(&twin));
    oracle::assert_check_is_clean(&server);
    assert_only_these_are_left(&server, &[twin]);
}

#[test]
fn a_collector_that_sleeps_takes_nothing_that_was_pushed_meanwhile() {
    let (server, mut random) = (Server::start(), Random::fixed(761));
    let api = Api::root(&server);
    let kept = path(&mut random, "kept", 400);
    let taken_up = path(&mut random, "taken-up", 1_200);
    let alone = path(&mut random, "alone", 300);
    // It comes to the other steps for other reasons.
    for step in
        STEPS.into_iter().filter(|step| !["gc-before-paths", "gc-before-claim"].contains(step))
    {
        let mixed = api.send_bundle(craft::bundle(kept.encoded.iter().chain(&taken_up.encoded)));
        assert!(mixed.status.is_success(), "{}", mixed.text());
        let all = [kept.clone(), taken_up.clone(), alone.clone()];
        push(&api, &all[2..]);
        push(&api, &all[..2]);
        delete(&api, &all[1..]);
        let start = || Gc::without_grace().start(&server.replicas()[0], &format!("{step}:2500:1"));
        let mut running = start();
        if !collection::comes_to(step, &mut running) {
            running = start();
        }
        assert!(
            collection::comes_to(step, &mut running),
            "no collection came to {step}: {}",
            running.wait()
        );
        // Its plan is that these go, or they have gone already.
        push(&api, &all[1..]);
        assert!(!running.is_done(), "{step}: the push waited for the collector's sleep to end");
        running.wait().succeeds();
        assert_served(&server, &all);
        oracle::assert_check_is_clean(&server);
        assert_only_these_are_left(&server, &all);
        // The next round begins with nothing stored.
        delete(&api, &all);
        assert_only_these_are_left(&server, &[]);
    }
}

#[test]
fn a_path_that_is_wanted_while_the_collector_sleeps_stays() {
    let (server, mut random) = (Server::start(), Random::fixed(821));
    let api = Api::root(&server);
    for step in ["gc-after-mark", "gc-before-paths"] {
        let [again, pinned, referred, longer, unwanted] =
            ["again", "pinned", "referred", "longer", "unwanted"]
                .map(|name| path(&mut random, name, 100));
        let going = [&again, &pinned, &referred, &longer, &unwanted];
        let _ = Pusher::new(&api, "main").expiring(3_600).push(&going);
        age_everything(&server, 2 * HOUR);
        let plan = Gc::without_grace().dry_run().run(&api);
        assert_eq!(plan.paths(), 5, "all of them are to go: {plan}");
        let mut running =
            Gc::without_grace().start(&server.replicas()[0], &format!("{step}:3000:1"));
        assert!(
            collection::comes_to(step, &mut running),
            "it did not come to {step}: {}",
            running.wait()
        );
        push(&api, std::slice::from_ref(&again));
        let answer = Pins::of(&api, "main").set("wanted", &pinned.store_path, None, None);
        assert!(answer.status.is_success(), "{}", answer.text());
        let root = path(&mut random, "root", 10).referring_to(&[&referred]);
        push(&api, std::slice::from_ref(&root));
        let _ = Pusher::new(&api, "main").expiring(7_200).push(&[&longer]);
        assert!(!running.is_done(), "{step}: what wants the paths came too late for this test");
        running.wait().succeeds();
        assert_eq!(
            api.get(&unwanted.narinfo()).status.as_u16(),
            404,
            "{step}: nobody wanted this one"
        );
        let kept = [again, pinned, referred, longer, root];
        assert_served(&server, &kept);
        oracle::assert_check_is_clean(&server);
        assert_only_these_are_left(&server, &kept);
        assert!(Pins::of(&api, "main").remove("wanted").status.is_success());
        delete(&api, &kept);
        assert_only_these_are_left(&server, &[]);
    }
}
