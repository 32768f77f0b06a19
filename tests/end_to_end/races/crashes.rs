//! SIGKILL at every step of a collection, and at random moments: nothing is lost, and the next
//! collection finishes.

use std::{
    thread,
    time::{Duration, Instant},
};

use snowbank_core::pack::PackKey;
use snowbank_harness::{
    Api, Gc, Pusher, Random, Server,
    ageing::{HOUR, age_everything},
    collection::{self, Answered},
    count,
    craft::{self, Deposit},
    oracle,
    oracle::Oracle,
    process,
    pusher::PushFailed,
};

use super::{STEPS, all, assert_only_these_are_left, assert_served, delete, path, push};

/// Leaves a bit of everything that a collection removes, and gives the path that needs a part of a
/// pack that is mostly dead.
fn leave_garbage(server: &Server, random: &mut Random, name: &str) -> Deposit {
    let api = Api::root(server);
    let [kept, dead, alone, short] =
        [("kept", 400), ("dead", 1_200), ("alone", 300), ("short", 50)]
            .map(|(what, kibibytes)| path(random, &format!("{name}-{what}"), kibibytes));
    let mixed = api.send_bundle(craft::bundle(kept.encoded.iter().chain(&dead.encoded)));
    assert!(mixed.status.is_success(), "{}", mixed.text());
    let _ = Pusher::new(&api, "main").push(&[&kept, &dead]);
    push(&api, std::slice::from_ref(&alone));
    delete(&api, &[dead, alone]);
    // A path whose time is over,
    let _ = Pusher::new(&api, "main").expiring(3_600).push(&[&short]);
    age_everything(server, 2 * HOUR);
    // and an object without rows, as a crash leaves it.
    let key = PackKey::from_bytes(random.bytes(16).try_into().unwrap()).to_string();
    process::write(&server.objects().join("packs").join(&key[..2]).join(&key), random.bytes(9_000));
    kept
}

#[test]
fn a_collector_killed_at_any_step_leaves_work_for_the_next_one_and_nothing_else() {
    let (server, mut random) = (Server::start(), Random::fixed(743));
    let api = Api::root(&server);
    let mut kept = Vec::new();
    for step in STEPS {
        kept.push(leave_garbage(&server, &mut random, step));
        let mut running =
            Gc::without_grace().start(&server.replicas()[0], &format!("{step}:60000"));
        // What one collection prepares, another may finish: some steps come with the second.
        for _ in 0..2 {
            if collection::comes_to(step, &mut running) {
                break;
            }
            running = Gc::without_grace().start(&server.replicas()[0], &format!("{step}:60000"));
        }
        assert!(
            collection::comes_to(step, &mut running),
            "no collection came to {step}: {}",
            running.wait()
        );
        running.kill();
        let ended = running.wait();
        assert!(!ended.status.success(), "it was killed: {ended}");

        oracle::assert_check_is_clean(&server);
        assert_served(&server, &kept);
        // Whatever was half done: what is pushed now is whole.
        let late = path(&mut random, &format!("{step}-late"), 300);
        push(&api, std::slice::from_ref(&late));
        kept.push(late);
        assert_only_these_are_left(&server, &kept);
        assert_served(&server, &kept);
        oracle::assert_check_is_clean(&server);
    }
}

#[test]
fn a_server_killed_while_it_collects_and_takes_pushes() {
    let mut server = Server::start();
    let mut random = Random::announced("server killed while it collects");
    let mut kept = vec![leave_garbage(&server, &mut random, "first")];
    let began = Instant::now();
    let _ = Gc::without_grace().run(&Api::root(&server));
    kept.push(path(&mut random, "measured", 700));
    push(&Api::root(&server), &kept[1..]);
    let whole = began.elapsed();

    // More rounds where the machine ends one of them before the other begins.
    let (mut cut, rounds) = ([0, 0], count(10, 80));
    for round in 0..4 * rounds {
        if round >= rounds && cut.iter().all(|times| *times > 0) {
            break;
        }
        let api = Api::root(&server);
        kept.push(leave_garbage(&server, &mut random, &format!("round-{round}")));
        let pushed_now = [path(&mut random, &format!("pushed-{round}"), 700)];
        let moment = Duration::from_micros(
            random.below(u64::try_from(whole.as_micros()).unwrap_or(u64::MAX)),
        );
        let (collected, pushed) = thread::scope(|scope| {
            let collector = scope.spawn(|| Gc::without_grace().ask(&api));
            let pusher = scope.spawn(|| Pusher::new(&api, "main").try_push(&all(&pushed_now)));
            thread::sleep(moment);
            server.kill9();
            (collector.join().unwrap(), pusher.join().unwrap())
        });
        server.start_again();
        cut[0] += usize::from(!matches!(collected, Ok(Answered::Done(_))));
        let receipts = match pushed {
            Ok(pushed) => pushed.receipts,
            Err(PushFailed::Unavailable(_, pushed)) => {
                cut[1] += 1;
                pushed.receipts
            }
            Err(PushFailed::Refused(why)) => panic!("round {round}: {why}"),
        };
        let oracle = Oracle::main(&server);
        for receipt in receipts.values() {
            oracle.assert_receipt(receipt);
        }
        oracle::assert_check_is_clean(&server);
        assert_served(&server, &kept[kept.len() - 2..]);
        push(&Api::root(&server), &pushed_now);
        kept.extend(pushed_now);
        eprintln!("round {round}: killed after {moment:?} of {whole:?}; cut off so far: {cut:?}");
    }
    assert!(cut.iter().all(|times| *times > 0), "collections and pushes cut off: {cut:?}");
    assert_only_these_are_left(&server, &kept);
    assert_served(&server, &kept);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_collecting_command_killed_at_random_moments() {
    let (server, mut random) = (Server::start(), Random::announced("collector killed"));
    let mut kept = vec![leave_garbage(&server, &mut random, "first")];
    let began = Instant::now();
    let _ = Gc::without_grace().command(&server);
    let whole = began.elapsed();
    let mut killed = 0;
    for round in 0..count(12, 100) {
        kept.push(leave_garbage(&server, &mut random, &format!("round-{round}")));
        let moment = Duration::from_micros(
            random.below(u64::try_from(whole.as_micros()).unwrap_or(u64::MAX)),
        );
        let mut running = Gc::without_grace().start(&server.replicas()[0], "");
        thread::sleep(moment);
        running.kill();
        killed += usize::from(!running.wait().status.success());
        oracle::assert_check_is_clean(&server);
        assert_served(&server, &kept[kept.len() - 1..]);
    }
    assert!(killed > 0, "it was always faster than {whole:?}");
    assert_only_these_are_left(&server, &kept);
    assert_served(&server, &kept);
    oracle::assert_check_is_clean(&server);
}
