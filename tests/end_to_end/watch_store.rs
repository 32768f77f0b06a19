//! `snowbank watch-store`: what appears in a Nix store arrives in the cache, whoever put it there.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use rustix::process::Signal;
use snowbank_harness::{
    Client, NixStore, Server, count,
    nix::NixDaemon,
    nobody::Nobody,
    oracle::Oracle,
    process::{self, Output, Running},
    trees,
};

/// How long a path may take from the store to the cache.
const LIMIT: Duration = Duration::from_mins(2);

/// A machine, its queue, and the server that it pushes to.
struct Machine {
    server: Server,
    store: NixStore,
    client: Client,
    queue: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let (server, store) = (Server::start(), NixStore::new());
        // Nix makes the folder of a store with the first path.
        let _ = trees::add_tiny(&store, 1, "first");
        let client = Client::of(&server, &store);
        let queue = client.home().join("queue");
        Self { server, store, client, queue }
    }

    /// Starts `snowbank watch-store main OPTIONS`, and waits until it watches.
    fn watch(&self, options: &[&str]) -> Running {
        let mut command = self.client.command(&["watch-store", "main", "-v"]);
        command.args(options).env("SNOWBANK_QUEUE", &self.queue);
        let mut running = Running::start(command, &[]);
        process::wait_until("the store is watched", LIMIT, || {
            assert!(!running.is_done(), "{}", running.stderr_so_far());
            running.stderr_so_far().contains("Watching ")
        });
        running
    }

    /// Waits until the cache has all these paths.
    #[track_caller]
    fn arrive(&self, paths: &[String]) {
        let oracle = Oracle::main(&self.server);
        let mut left: BTreeSet<&String> = paths.iter().collect();
        process::wait_until("all paths arrive", LIMIT, || {
            while let Some(path) = left.first() {
                if !oracle.visible(path) {
                    return false;
                }
                left.pop_first();
            }
            true
        });
        oracle.assert_mirrors(&self.store, paths);
    }

    fn visible(&self, path: &str) -> bool {
        Oracle::main(&self.server).visible(path)
    }
}

fn end(running: Running) -> Output {
    running.signal(Signal::TERM);
    running.wait().ended_with(143)
}

#[test]
fn what_is_built_and_added_arrives_with_its_closure_and_nothing_older() {
    let machine = Machine::new();
    let older = trees::add_tiny(&machine.store, 3, "older");
    let watch = machine.watch(&[]);
    let added = trees::add_tiny(&machine.store, count(300, 5_000), "burst");
    let built = trees::build_graph(&machine.store, 12, 4, "watched");
    machine.arrive(&added);
    machine.arrive(&built);
    assert!(older.iter().all(|path| !machine.visible(path)));
    let output = end(watch);
    assert_eq!(output.stderr.matches("WARN").count(), 0, "{output}");
    assert_eq!(fs::read_dir(machine.queue.join("roots")).unwrap().count(), 0, "{output}");
    let drvs = fs::read_dir(machine.store.root().join("nix/store")).unwrap();
    let drvs = drvs.map(|drv| drv.unwrap().file_name().into_string().unwrap());
    let mut drvs = drvs.filter(|name| name.contains(".drv")).peekable();
    assert!(drvs.peek().is_some());
    assert!(drvs.all(|drv| !machine.visible(&format!("/nix/store/{drv}"))));
}

#[test]
fn what_is_substituted_is_left_out_unless_it_is_wanted() {
    let machine = Machine::new();
    let (upstream, other) = (Server::start(), NixStore::new());
    let key = Oracle::main(&upstream).public_key();
    let url = format!("{}/main", upstream.url());
    for wanted in [false, true] {
        let theirs = trees::build_graph(&other, 3, 4, &format!("theirs-{wanted}"));
        let _ = Client::of(&upstream, &other).push(&theirs).success();
        let watch = machine.watch(if wanted { &["--include-substituted"] } else { &[] });
        let _ = machine.store.substitute(&url, &key, &theirs).success();
        // What comes later and arrives shows that what came before was looked at.
        let mark = trees::add_tiny(&machine.store, 1, &format!("mark-{wanted}"));
        machine.arrive(&mark);
        let output = end(watch);
        let is_queued = |path: &&String| output.stderr.contains(&format!("queued {path}"));
        let queued = theirs.iter().filter(is_queued).count();
        assert_eq!(queued, if wanted { theirs.len() } else { 0 }, "{theirs:?}: {output}");
    }
}

#[test]
fn another_root_is_watched_and_what_waits_at_the_end_is_pushed_or_told() {
    let mut machine = Machine::new();
    let other = NixStore::new();
    let _ = trees::add_tiny(&other, 1, "first");
    let uri = other.uri();
    let watch = machine.watch(&["--store", &uri]);
    let ours = trees::add_tiny(&machine.store, 1, "ours");
    let theirs = trees::add_tiny(&other, 3, "theirs");
    // At once: the paths may not have been asked about.
    let output = end(watch);
    Oracle::main(&machine.server).assert_mirrors(&other, &theirs);
    assert!(!machine.visible(&ours[0]), "{output}");

    machine.server.terminate();
    let watch = machine.watch(&[]);
    let late = trees::add_tiny(&machine.store, 2, "late");
    let output = end(watch);
    assert!(output.stderr.contains("2 paths wait in "), "{output}");
    machine.server.start_again();
    let next = machine.watch(&[]);
    machine.arrive(&late);
    let _ = end(next);
}

#[test]
fn an_outage_costs_nothing() {
    let mut machine = Machine::new();
    machine.server.terminate();
    let watch = machine.watch(&[]);
    let paths = trees::add_tiny(&machine.store, 20, "outage");
    process::wait_until("the outage is told of", LIMIT, || {
        watch.stderr_so_far().contains("nothing can be pushed to main")
    });
    machine.server.start_again();
    machine.arrive(&paths);
    let _ = end(watch);
}

#[test]
fn nothing_is_missed_when_the_system_loses_events() {
    let machine = Machine::new();
    let watch = machine.watch(&[]);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // While the watcher stands still, the events of these files fill the system's queue: each is
    // made, opened, closed and removed.
    watch.signal(Signal::STOP);
    let folder = machine.store.root().join("nix/store");
    for number in 0..limit / 3 + 100 {
        let file = folder.join(format!(".fill-{number}"));
        fs::write(&file, "").unwrap();
        fs::remove_file(&file).unwrap();
    }
    let paths = trees::add_tiny(&machine.store, 30, "lost");
    watch.signal(Signal::CONT);
    machine.arrive(&paths);
    let output = end(watch);
    assert!(output.stderr.contains("the system lost events"), "{output}");
}

#[test]
fn a_queue_run_beside_it_pushes_what_it_queues() {
    let machine = Machine::new();
    let mut command = machine.client.command(&["queue", "run"]);
    command.env("SNOWBANK_QUEUE", &machine.queue);
    let run = Running::start(command, &[]);
    let lock = machine.queue.join("queue.db");
    process::wait_until("the queue is there", LIMIT, || lock.exists());
    let watch = machine.watch(&[]);
    let paths = trees::add_tiny(&machine.store, 5, "beside");
    machine.arrive(&paths);
    let _ = end(watch);
    let ended = end(run);
    assert!(ended.stderr.contains("uploaded"), "{ended}");
}

#[test]
fn a_user_whom_the_daemon_does_not_trust_watches_its_store() {
    let machine = Machine::new();
    let daemon = NixDaemon::of(&machine.store);
    let Some(nobody) = Nobody::of(&daemon, &machine.store) else { return };
    let mut command = nobody.command(process::binary("snowbank"));
    command.args(["watch-store", "main"]).env("SNOWBANK_URL", machine.server.url());
    command.env("SNOWBANK_TOKEN", machine.server.token("nobody", &[], &["main"]));
    let watch = Running::start(command, &[]);
    process::wait_until("the store is watched", LIMIT, || {
        watch.stderr_so_far().contains("Watching ")
    });
    process::write(&nobody.home().join("text"), "a text");
    let mut add = nobody.command("nix-store");
    add.arg("--add").arg(nobody.home().join("text"));
    let added = process::run(add).success().stdout.trim().to_owned();
    machine.arrive(&[added]);
    let output = end(watch);
    assert_eq!(output.stderr.matches("WARN").count(), 0, "{output}");
}

#[test]
fn a_store_that_is_not_there_and_a_cache_without_a_server_are_errors() {
    let machine = Machine::new();
    let absent = machine.client.run(&["watch-store", "main", "--store", "local?root=/no/such"]);
    assert!(absent.ended_with(4).stderr.contains("/no/such"));
    let unknown = machine.client.run(&["watch-store", "nowhere:main"]).ended_with(3);
    assert!(unknown.stderr.contains("nowhere"), "{unknown}");
}
