//! A replica that stops in the middle of its work (SIGSTOP) holds others up for seconds, and harms
//! nothing when it goes on.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use snowbank_harness::{
    Api, Pusher, Random, Server, Site,
    craft::{Deposit, Node},
    full, oracle,
    oracle::Oracle,
};

/// `[database] idle-timeout` twice, and a second. The database ends a transaction of a replica that
/// is stopped after that time. Then a deletion that waited has its turn, and after it a request of
/// the same replica that had waited behind the deletion: nobody takes up its lock, until it is ended
/// in the same way.
const LONGEST_HOLD: Duration = Duration::from_secs(11);
/// Beside that, a push that is held up takes as long as so many that are not: this machine may have
/// other work.
const ALLOWANCE: u32 = 4;

/// What one pusher has made visible, and when.
#[derive(Default)]
struct Log {
    pushed: Vec<Deposit>,
    at: Vec<Instant>,
}

/// Pushes small paths, one after the other, until it is told to stop.
fn push_until(api: &Api, stop: &AtomicBool, random: &mut Random, name: &str) -> Log {
    let mut log = Log { at: vec![Instant::now()], ..Log::default() };
    while !stop.load(Ordering::Relaxed) {
        let file = Node::File(random.bytes(20_000));
        let deposit = Deposit::of(random, &format!("{name}-{}", log.pushed.len()), &file);
        let _ = Pusher::new(api, "main").push(&[&deposit]);
        log.at.push(Instant::now());
        log.pushed.push(deposit);
    }
    log.at.push(Instant::now());
    log
}

/// The times from one push to the next, in their order.
fn gaps(log: &Log) -> Vec<Duration> {
    let mut gaps: Vec<Duration> = log.at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    gaps
}

#[test]
fn pushes_through_the_others_go_on_while_one_replica_is_frozen() {
    let site = Site::start();
    let server = Server::options().on(&site).replicas(3).start();
    let mut random = Random::announced("replica frozen");
    let frozen = Pid::from_raw(i32::try_from(server.replicas()[0].id().unwrap()).unwrap()).unwrap();
    let token = server.root_token();
    let apis: Vec<Api> =
        server.replicas().iter().map(|one| Api::new(&one.url(), Some(&token))).collect();
    let (stop, frozen_stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (rounds, pause) = if full() { (8, 20) } else { (3, 14) };

    let (own, others) = thread::scope(|scope| {
        let pusher = |api: usize, stop, name: &'static str, mut random: Random| {
            let api = apis[api].clone();
            scope.spawn(move || push_until(&api, stop, &mut random, name))
        };
        // Two keep the one that is stopped busy, so that it stops within transactions.
        let own = ["own-a", "own-b"]
            .map(|name| pusher(0, &frozen_stop, name, Random::fixed(random.next())));
        let others = [(1, "one"), (2, "two")]
            .map(|(api, name)| pusher(api, &stop, name, Random::fixed(random.next())));
        // Deletions want to be alone, and commits wait behind them.
        let (deleting, mut names) = (apis[1].clone(), Random::fixed(random.next()));
        let deleter = scope.spawn({
            let stop = &stop;
            move || {
                let mut deleted = 0;
                while !stop.load(Ordering::Relaxed) {
                    let file = Node::File(names.bytes(9_000));
                    let gone = Deposit::of(&mut names, "gone", &file);
                    let _ = Pusher::new(&deleting, "main").push(&[&gone]);
                    let request = json!({ "paths": [gone.store_path] });
                    let answer = deleting.post_json("/api/v1/caches/main/delete", &request);
                    deleted += u32::from(answer.status.is_success());
                    assert!(matches!(answer.status.as_u16(), 200 | 503), "{}", answer.text());
                    thread::sleep(Duration::from_millis(500));
                }
                deleted
            }
        });
        for round in 0..rounds {
            thread::sleep(Duration::from_millis(500 + random.below(1_500)));
            kill_process(frozen, Signal::STOP).unwrap();
            thread::sleep(Duration::from_secs(pause));
            kill_process(frozen, Signal::CONT).unwrap();
            eprintln!("round {round}: frozen for {pause} s");
        }
        // It recovers: what it was asked meanwhile comes to an end, and more.
        thread::sleep(Duration::from_secs(3));
        frozen_stop.store(true, Ordering::Relaxed);
        let own = own.map(|pusher| pusher.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        assert!(deleter.join().unwrap() > 0, "deletions were among it");
        (own, others.map(|pusher| pusher.join().unwrap()))
    });
    for log in &others {
        let gaps = gaps(log);
        let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        eprintln!(
            "through another replica: {} pushes, a gap of {median:?}, the longest {longest:?}",
            log.pushed.len()
        );
        assert!(longest < LONGEST_HOLD + ALLOWANCE * median, "others were held up for {longest:?}");
        assert!(log.pushed.len() > 20);
    }
    let oracle = Oracle::main(&server);
    for log in own.iter().chain(&others) {
        for path in &log.pushed {
            assert_eq!(oracle.assert_whole(&path.store_path).nar_hash, path.nar_hash());
        }
    }
    assert!(
        own.iter()
            .all(|log| log.at[log.at.len() - 2] > log.at[0] + Duration::from_secs(pause * rounds))
    );
    oracle::assert_check_is_clean(&server);
}
