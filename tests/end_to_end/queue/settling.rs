//! How an entry ends that is not simply pushed.

use std::fs;

use snowbank_harness::{Client, NixStore, oracle::Oracle, process, trees};

use super::Machine;

/// The same derivation and so the same store path, whatever its builder makes of the day.
const UNREPRODUCIBLE: &str = r#"derivation {
  name = "unreproducible"; system = builtins.currentSystem;
  builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  args = [ "-ec" "head -c 3000 /dev/urandom > $out" ];
}"#;

#[test]
fn a_path_that_is_refused_is_set_aside_and_the_rest_is_pushed() {
    let machine = Machine::new();
    let other = NixStore::new();
    let different = other.build(UNREPRODUCIBLE).remove(0);
    let _ = Client::of(&machine.server, &other).push(&[&different]).success();
    assert_eq!(machine.store.build(UNREPRODUCIBLE), [different.as_str()]);
    let damaged = trees::add_files(&machine.store, "damaged", &[("text", b"a text\n".repeat(99))]);
    let file = machine.store.unlocked(&damaged).join("text");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [&b"b"[..], &whole[1..]].concat()).unwrap();
    let good = trees::add_tiny(&machine.store, 3, "good");

    machine.accept(&[different.clone(), damaged.clone()]);
    machine.accept(&good);
    let run = machine.queue(&["run", "--once"]).ended_with(13);
    for path in [&different, &damaged] {
        assert!(run.stderr.contains(&format!("{path} is set aside")), "{run}");
    }
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &good);
    let entries = machine.entries();
    assert_eq!((entries.len(), machine.roots()), (2, 2));
    for (entry, reason) in entries.iter().zip(["other contents", "damaged"]) {
        assert_eq!((&entry["state"], &entry["attempts"]), (&"aside".into(), &1.into()));
        assert!(entry["reason"].as_str().unwrap().contains(reason), "{entry}");
    }
    let said = machine.queue(&["list"]).success().stdout;
    assert!(said.contains("set aside: ") && said.contains("0 waiting, 2 set aside in"), "{said}");
    machine.queue(&["run", "--once"]).succeeds();
    let waited = machine.queue(&["wait"]).ended_with(12);
    assert!(waited.stderr.contains("2 paths are set aside"), "{waited}");

    fs::write(&file, whole).unwrap();
    let damaged_name = damaged.strip_prefix("/nix/store/").unwrap();
    machine.queue(&["retry", damaged_name]).succeeds();
    machine.queue(&["run", "--once"]).succeeds();
    assert_eq!(machine.entries().len(), 1);
    machine.queue(&["drop", &different]).succeeds();
    machine.queue(&["wait"]).succeeds();
    machine.assert_done(&[damaged]);
}

#[test]
fn a_path_that_was_collected_is_reported_and_dropped() {
    let machine = Machine::new();
    let paths = trees::add_tiny(&machine.store, 2, "collected");
    process::run(machine.hook(&[&paths[0]], &["--strict", "--no-gc-roots"])).succeeds();
    machine.accept(&paths[1..]);
    assert_eq!(machine.roots(), 1);
    machine.store.run("nix-store", &["--gc"]).succeeds();
    let run = machine.queue(&["run", "--once"]).ended_with(4);
    assert!(run.stderr.contains(&format!("{} is dropped", paths[0])), "{run}");
    machine.assert_done(&paths[1..]);
}

#[test]
fn an_unknown_cache_or_token_holds_its_own_entries_only() {
    let machine = Machine::new();
    let paths = trees::add_tiny(&machine.store, 3, "caches");
    let queue = |cache: &str, path: &str| {
        let mut command = machine.client.command(&["hook", cache]);
        command.env("SNOWBANK_QUEUE", &machine.queue).env("OUT_PATHS", path);
        process::run(command).succeeds();
    };
    queue("mian", &paths[0]);
    queue("nowhere:main", &paths[1]);
    queue("main", &paths[2]);
    let run = machine.queue(&["run", "--once"]).ended_with(11);
    assert!(run.stderr.contains("no server is named \"nowhere\""), "{run}");
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &paths[2..]);
    let entries = machine.entries();
    let states: Vec<_> = entries.iter().map(|e| (&e["state"], &e["attempts"])).collect();
    assert_eq!(states, [(&"waiting".into(), &1.into()); 2]);

    machine.queue(&["retry"]).succeeds();
    let _ = machine.queue(&["run", "--once"]).ended_with(11);
    assert!(machine.entries().iter().all(|entry| entry["attempts"].as_i64() >= Some(2)));
    machine.queue(&["drop", "--all"]).succeeds();
    machine.assert_done(&[]);
}

#[test]
fn a_second_run_is_refused() {
    let machine = Machine::new();
    machine.accept(&trees::add_tiny(&machine.store, 1, "first"));
    let first = machine.run();
    machine.queue(&["wait", "--timeout", "1m"]).succeeds();
    let second = machine.queue(&["run", "--once"]).ended_with(16);
    assert!(second.stderr.contains("one is enough"), "{second}");
    drop(first);
    machine.queue(&["run", "--once"]).succeeds();
}
