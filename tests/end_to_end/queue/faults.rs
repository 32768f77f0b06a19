//! The queue on a full disk, in a folder that may not be written, and under kills.

use std::{fs, time::Duration};

use snowbank_harness::{
    Random, count,
    oracle::Oracle,
    process::{self, Running},
    tmpfs::Tmpfs,
    trees,
};

use super::Machine;

#[test]
fn what_a_hook_has_accepted_survives_kills_at_any_moment() {
    let machine = Machine::new();
    let mut random = Random::announced("queue killed");
    let whole = {
        let paths = trees::add_tiny(&machine.store, 2, "whole");
        let started = std::time::Instant::now();
        machine.accept(&paths);
        started.elapsed() / 2
    };
    let (mut accepted, mut killed) = (Vec::new(), 0);
    for round in 0..count(10, 50) {
        let paths = trees::add_tiny(&machine.store, 8, &format!("round-{round}"));
        let mut run = machine.run();
        let start = |path: &String| Running::start(machine.hook(&[path], &["--strict"]), &[]);
        let mut hooks: Vec<Running> = Vec::new();
        for (number, path) in paths.iter().enumerate() {
            let mut hook = start(path);
            if number % 2 == 0 {
                let moment = random.below(u64::try_from(whole.as_micros()).unwrap_or(u64::MAX));
                std::thread::sleep(Duration::from_micros(moment));
                hook.kill();
            }
            hooks.push(hook);
        }
        std::thread::sleep(Duration::from_millis(random.below(700)));
        run.kill();
        let _ = run.wait();
        for (path, hook) in paths.iter().zip(hooks) {
            match hook.wait().code() {
                Some(0) => accepted.push(path.clone()),
                None => killed += 1,
                other => panic!("a hook ended with {other:?}"),
            }
        }
    }
    eprintln!("{} accepted, {killed} killed", accepted.len());
    assert!(killed > 0 && !accepted.is_empty());
    machine.queue(&["run", "--once"]).succeeds();
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &accepted);
    assert!(machine.entries().is_empty());
    assert!(machine.roots() <= killed, "only hooks that were killed leave roots behind");
}

#[test]
fn a_full_disk_fails_no_build_and_loses_nothing() {
    let mut machine = Machine::new();
    let disk = Tmpfs::mount(2);
    machine.queue = disk.path().join("queue");
    let paths = trees::add_tiny(&machine.store, 40, "full");
    machine.accept(&paths[..1]);
    let ballast = disk.path().join("ballast");
    let _full = fs::write(&ballast, vec![7; 4 << 20]);
    let mut accepted = vec![paths[0].clone()];
    let mut warned = 0;
    for path in &paths[1..] {
        let output = process::run(machine.hook(&[path], &[])).success();
        if output.stderr.is_empty() {
            accepted.push(path.clone());
            continue;
        }
        warned += 1;
        for words in ["full", &format!("snowbank push main {path}")] {
            assert!(output.stderr.contains(words), "{words} is not in: {output}");
        }
        let strict = process::run(machine.hook(&[path], &["--strict"])).ended_with(1);
        assert!(strict.stderr.contains("full"), "{strict}");
    }
    eprintln!("{} accepted, {warned} warned of", accepted.len());
    assert!(warned > 0);
    fs::remove_file(ballast).unwrap();
    machine.queue(&["run", "--once"]).succeeds();
    machine.assert_done(&accepted);
}

#[test]
fn a_queue_that_cannot_be_written_is_named() {
    let mut machine = Machine::new();
    let path = trees::add_tiny(&machine.store, 1, "denied").remove(0);
    let file = machine.client.home().join("a-file");
    process::write(&file, "");
    machine.queue = file.join("queue");
    let output = process::run(machine.hook(&[&path], &[])).success();
    for words in ["warning", "a-file", &format!("snowbank push main {path}")] {
        assert!(output.stderr.contains(words), "{words} is not in: {output}");
    }
    let _ = process::run(machine.hook(&[&path], &["--strict"])).ended_with(1);

    machine.queue = machine.client.home().join("small");
    machine.accept(std::slice::from_ref(&path));
    let other = trees::add_tiny(&machine.store, 1, "other").remove(0);
    let full = process::run(machine.hook(&[&other], &["--max-entries", "1"])).success();
    assert!(full.stderr.contains("is full (1 entries)"), "{full}");
    assert_eq!((machine.entries().len(), machine.roots()), (1, 1));
}
