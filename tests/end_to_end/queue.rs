//! The queue: what the hook accepts arrives in the cache, whatever happens in between, or is
//! reported with its reason.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::Value;
use snowbank_harness::{
    Client, NixStore, Server, count, database,
    nix::NixDaemon,
    oracle::Oracle,
    process::{self, Output, Running},
    trees,
};

mod faults;
mod filters;
mod settling;

/// Hooks that run at the same time.
const AT_ONCE: usize = 8;

/// A machine that builds, its queue, and the server that it pushes to.
struct Machine {
    server: Server,
    store: NixStore,
    client: Client,
    queue: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let (server, store) = (Server::start(), NixStore::new());
        let client = Client::of(&server, &store);
        let queue = client.home().join("queue");
        Self { server, store, client, queue }
    }

    /// `snowbank hook main` as Nix runs it, not started.
    fn hook(&self, paths: &[&str], options: &[&str]) -> Command {
        let mut command = self.client.command(&["hook", "main"]);
        command
            .args(options)
            .env("SNOWBANK_QUEUE", &self.queue)
            .env("OUT_PATHS", paths.join(" "))
            .env("DRV_PATH", "/nix/store/00000000000000000000000000000000-a.drv");
        command
    }

    /// `snowbank queue ARGS`, not started.
    fn queue_command(&self, args: &[&str]) -> Command {
        let mut command = self.client.command(&["queue"]);
        command.args(args).env("SNOWBANK_QUEUE", &self.queue);
        command
    }

    /// Runs `snowbank queue ARGS` to its end.
    fn queue(&self, args: &[&str]) -> Output {
        process::run(self.queue_command(args))
    }

    /// Queues paths, with a hook for each.
    fn accept(&self, paths: &[String]) {
        for path in paths {
            let output = process::run(self.hook(&[path], &["--strict"])).success();
            assert_eq!(output.said(), "", "a hook has nothing to say");
        }
    }

    /// Starts `snowbank queue run`.
    fn run(&self) -> Running {
        Running::start(self.queue_command(&["run"]), &[])
    }

    fn entries(&self) -> Vec<Value> {
        let output = self.queue(&["list", "--json"]).success();
        let list: Value = serde_json::from_str(&output.stdout).unwrap();
        list["entries"].as_array().unwrap().clone()
    }

    fn roots(&self) -> usize {
        fs::read_dir(self.queue.join("roots")).unwrap().count()
    }

    #[track_caller]
    fn assert_done(&self, paths: &[String]) {
        Oracle::main(&self.server).assert_mirrors(&self.store, paths);
        assert_eq!(self.entries(), Vec::<Value>::new());
        assert_eq!(self.roots(), 0, "roots are left");
    }
}

/// The sum of the numbers before `word` in the summaries of a run.
fn summed(output: &str, word: &str) -> usize {
    let words: Vec<&str> = output.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| pair[1].trim_end_matches([',', ';']) == word);
    pairs.filter_map(|pair| pair[0].parse::<usize>().ok()).sum()
}

#[test]
fn what_many_hooks_queue_during_an_outage_arrives_once() {
    let mut machine = Machine::new();
    let paths = trees::add_tiny(&machine.store, count(200, 2_000), "outage");
    machine.server.terminate();
    let mut run = machine.run();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    machine.accept(std::slice::from_ref(path));
                }
            });
        }
    });
    assert!(!run.is_done(), "an outage ends nothing");
    assert_eq!((machine.entries().len(), machine.roots()), (paths.len(), paths.len()));
    let late = machine.queue(&["wait", "--timeout", "1s"]).ended_with(6);
    assert!(late.stderr.contains("is `snowbank queue run` running?"), "{late}");

    machine.server.start_again();
    machine.queue(&["wait", "--timeout", "2m"]).succeeds();
    machine.assert_done(&paths);
    assert_eq!(database::paths(&machine.server), i64::try_from(paths.len()).unwrap());
    run.signal(rustix::process::Signal::TERM);
    let ended = run.wait().ended_with(143);
    assert_eq!(summed(&ended.stderr, "uploaded"), paths.len(), "none twice: {ended}");
    let outages = ended.stderr.matches("nothing can be pushed to main").count();
    let ends = ended.stderr.matches("main takes paths again").count();
    assert_eq!((outages, ends), (1, 1), "each change is said once: {ended}");
}

#[test]
fn what_nix_builds_is_queued_by_the_script() {
    let machine = Machine::new();
    let script = machine.client.home().join("a hook");
    let mut command = machine.client.command(&["hook", "main", "--write"]);
    command.arg(&script).env("SNOWBANK_QUEUE", &machine.queue);
    let written = process::run(command).success();
    let line = format!("post-build-hook = {}", script.display());
    assert!(written.stdout.contains(&line), "{written}");

    let file = machine.client.home().join("graph.nix");
    process::write(&file, trees::graph(5, 8, "hook"));
    let mut build = machine.store.command("nix-build");
    build.args(["--no-out-link", "--option", "post-build-hook"]).arg(&script).arg(&file);
    let built = process::run(build).success();
    let outputs: Vec<String> = built.stdout.lines().map(str::to_owned).collect();
    let closure = machine.store.closure(&outputs);
    let entries = machine.entries();
    assert!(outputs.iter().all(|path| entries.iter().any(|e| e["store_path"] == **path)));
    let drv = |entry: &Value| entry["drv_path"].as_str().unwrap().strip_suffix(".drv").is_some();
    assert!(entries.iter().all(drv));
    machine.queue(&["run", "--once"]).succeeds();
    machine.assert_done(&closure);
}

#[test]
fn a_queued_path_is_kept_from_collections_until_it_is_pushed() {
    let machine = Machine::new();
    let paths = trees::add_tiny(&machine.store, 3, "gc");
    let kept = &paths[..2];
    machine.accept(kept);
    machine.accept(&kept[..1]);
    assert_eq!(machine.roots(), 2, "an entry that is there keeps its own root alone");
    machine.store.run("nix-store", &["--gc"]).succeeds();
    assert!(kept.iter().all(|path| machine.store.has(path)) && !machine.store.has(&paths[2]));
    machine.queue(&["run", "--once"]).succeeds();
    machine.assert_done(kept);
    machine.store.run("nix-store", &["--gc"]).succeeds();
    assert!(kept.iter().all(|path| !machine.store.has(path)));
    let auto = machine.store.root().join("nix/var/nix/gcroots/auto");
    assert_eq!(fs::read_dir(auto).unwrap().count(), 0, "Nix has removed its links");
}

#[test]
fn the_daemon_makes_a_root_where_the_hook_may_not() {
    let machine = Machine::new();
    let paths = trees::add_tiny(&machine.store, 2, "daemon");
    let daemon = NixDaemon::of(&machine.store);
    let mut hook = machine.hook(&[&paths[0]], &["--strict"]);
    hook.env("NIX_REMOTE", format!("{}&state=/nowhere", daemon.uri(&machine.store)));
    assert_eq!(process::run(hook).success().said(), "");
    machine.store.run("nix-store", &["--gc"]).succeeds();
    assert!(machine.store.has(&paths[0]) && !machine.store.has(&paths[1]));
}

#[test]
fn a_hook_is_fast_whatever_the_server_does() {
    let mut machine = Machine::new();
    let paths = trees::add_tiny(&machine.store, 51, "time");
    machine.server.terminate();
    machine.accept(&paths[..1]);
    let fastest = |what: &str, paths: &[String]| {
        let run = |path: &String| process::run(machine.hook(&[path], &[])).success().elapsed;
        let mut times: Vec<Duration> = paths.iter().map(run).collect();
        times.sort_unstable();
        eprintln!("{what} takes {:?}, the fastest {:?}", times[times.len() / 2], times[0]);
        times[0]
    };
    // A hook that tried to reach the server would go on for longer. The time itself is a figure, not
    // a test: it is printed.
    let limit = Duration::from_secs(1);
    assert!(fastest("a hook", &paths[1..26]) < limit);
    let _run = machine.run();
    assert!(fastest("a hook beside `queue run`", &paths[26..]) < limit);
}

#[test]
fn nothing_is_queued_for_nothing() {
    let machine = Machine::new();
    for paths in ["", " \n"] {
        let output = process::run(machine.hook(&[paths], &["--strict"])).success();
        assert_eq!(output.said(), "");
    }
    assert!(!machine.queue.exists());
    for args in [&["list"][..], &["wait"], &["retry"], &["drop", "--all"]] {
        machine.queue(args).succeeds();
    }
    let absent = machine.queue(&["drop", "/nix/store/00000000000000000000000000000000-a"]);
    assert!(absent.ended_with(15).stderr.contains("is not in the queue"));
    machine.queue(&["run", "--once"]).succeeds();
    let bad = process::run(machine.hook(&["/etc/passwd"], &[])).success();
    assert!(bad.stderr.contains("is no store path") && machine.entries().is_empty(), "{bad}");
    let _ = process::run(machine.client.command(&["hook", "a/b"])).ended_with(2);
}
