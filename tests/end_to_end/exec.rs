//! `snowbank exec`: the command runs as it would alone, and what Nix builds for it is pushed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use snowbank_harness::{
    Client, NixStore, Server,
    nix::NixDaemon,
    nobody::Nobody,
    oracle::Oracle,
    process::{self, Output, Running},
    trees,
};

/// How long the start of a program may take.
const LIMIT: Duration = Duration::from_mins(1);

struct Machine {
    server: Server,
    store: NixStore,
    client: Client,
}

impl Machine {
    fn new() -> Self {
        let (server, store) = (Server::start(), NixStore::new());
        let client = Client::of(&server, &store);
        Self { server, store, client }
    }

    /// `snowbank exec main OPTIONS -- COMMAND`, not started. Temporary files are in a folder that
    /// the test looks into.
    fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut exec = self.client.command(&["exec", "main"]);
        exec.args(options).arg("--").args(command).env("TMPDIR", self.temporary());
        exec
    }

    fn exec(&self, options: &[&str], command: &[&str]) -> Output {
        process::run(self.command(options, command))
    }

    fn temporary(&self) -> PathBuf {
        let folder = self.client.home().join("tmp");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A file with a graph of derivations.
    fn graph(&self, tag: &str) -> String {
        let file = self.client.home().join(format!("{tag}.nix"));
        process::write(&file, trees::graph(6, 4, tag));
        file.display().to_string()
    }

    /// The closure of the outputs that a build has printed.
    fn closure(&self, output: &Output) -> Vec<String> {
        let outputs: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(outputs.len(), 6, "{output}");
        self.store.closure(&outputs)
    }

    #[track_caller]
    fn assert_clean(&self) {
        let left = fs::read_dir(self.temporary()).unwrap().count();
        assert_eq!(left, 0, "temporary files are left");
    }
}

fn script(file: &Path, text: &str) {
    process::write(file, format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn summaries(output: &Output) -> usize {
    output.stderr.matches(" uploaded, ").count()
}

#[test]
fn what_a_command_builds_is_pushed_and_its_output_is_its_own() {
    let machine = Machine::new();
    let file = machine.graph("built");
    let built = machine.exec(&["--require-push"], &["nix-build", "--no-out-link", &file]);
    let built = built.success();
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &machine.closure(&built));
    assert_eq!(summaries(&built), 1, "one summary: {built}");
    assert!(!built.stderr.contains("not pushed"), "{built}");
    machine.assert_clean();

    // Nothing new: nothing to do.
    let again = machine.exec(&["--require-push"], &["nix-build", "--no-out-link", &file]);
    let again = again.success();
    assert!(again.stderr.contains("Nothing new was built"), "{again}");
    let quiet = machine.exec(&["-q"], &["sh", "-c", "cat; echo out; echo err >&2"]).success();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("out\n", "err\n"));
    let mut piped = machine.command(&["-q"], &["cat"]);
    piped.stdin(std::process::Stdio::piped());
    assert_eq!(Running::start(piped, b"in").wait().success().stdout, "in");
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let machine = Machine::new();
    let file = machine.graph("failed");
    let line = format!("nix-build --no-out-link {file} && exit 7");
    let failed = machine.exec(&["--require-push"], &["sh", "-c", &line]).ended_with(7);
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &machine.closure(&failed));
    for (command, code) in [
        (&["sh", "-c", "kill -KILL $$"][..], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["/no/such/program"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let _ = machine.exec(&[], command).ended_with(code);
    }
    let _ = process::run(machine.client.command(&["exec", "main"])).ended_with(2);
    let _ =
        process::run(machine.client.command(&["exec", "nowhere:main", "--", "true"])).ended_with(3);
    machine.assert_clean();
}

#[test]
fn signals_end_the_command_and_what_it_built_is_pushed() {
    let machine = Machine::new();
    let file = machine.graph("signals");
    let line = format!(
        "trap 'exit 9' TERM; trap 'echo interrupted' INT; nix-build --no-out-link {file}; \
         echo ready >&2; while :; do sleep 0.1; done"
    );
    let exec = Running::start(machine.command(&[], &["sh", "-c", &line]), &[]);
    process::wait_until("the command is ready", LIMIT, || {
        exec.stderr_so_far().lines().any(|line| line == "ready")
    });
    // A terminal would send this one to both. Sent to one, it changes nothing.
    exec.signal(Signal::INT);
    exec.signal(Signal::TERM);
    let ended = exec.wait().ended_with(9);
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &machine.closure(&ended));
    assert!(!ended.stdout.contains("interrupted"), "{ended}");
    machine.assert_clean();
}

#[test]
fn a_push_that_fails_is_told_and_fails_only_where_it_must_not() {
    let mut machine = Machine::new();
    let [file, refused] = ["outage", "refused"].map(|tag| machine.graph(tag));
    machine.server.terminate();
    for (options, code) in
        [(&["--timeout", "1s"][..], 0), (&["--timeout", "1s", "--require-push"], 6)]
    {
        let file = if code == 0 { &file } else { &refused };
        let build = ["nix-build", "--no-out-link", file];
        let ended = machine.exec(options, &build).ended_with(code);
        let closure = machine.closure(&ended);
        assert!(
            ended.stderr.contains(&format!("{} paths were not pushed", closure.len())),
            "{ended}"
        );
        assert!(
            closure.iter().all(|path| ended.stderr.contains(&format!("  {path}: "))),
            "{ended}"
        );
        let _ = machine.exec(options, &["sh", "-c", "exit 5"]).ended_with(5);
    }
    machine.server.start_again();
    // A token that may not push: nobody waits for that to pass.
    let mut command = machine.command(&["--require-push"], &["nix-build", "--no-out-link"]);
    command.arg(machine.graph("forbidden"));
    command.env("SNOWBANK_TOKEN", machine.server.token("reader", &["main"], &[]));
    let forbidden = process::run(command).ended_with(10);
    assert!(forbidden.elapsed < LIMIT, "{forbidden}");
    machine.assert_clean();
}

#[test]
fn a_server_that_comes_back_gets_what_was_built_meanwhile() {
    let mut machine = Machine::new();
    let file = machine.graph("back");
    machine.server.terminate();
    let build = ["nix-build", "--no-out-link", &file];
    let exec = Running::start(machine.command(&["--require-push"], &build), &[]);
    process::wait_until("the outage is told of", LIMIT, || {
        exec.stderr_so_far().contains("nothing can be pushed to main")
    });
    machine.server.start_again();
    let built = exec.wait().success();
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &machine.closure(&built));
}

#[test]
fn a_configured_hook_runs_too_and_other_settings_stay() {
    let machine = Machine::new();
    let file = machine.graph("chained");
    let (hook, seen) =
        (machine.client.home().join("their hook"), machine.client.home().join("seen"));
    // Nix 2.8.0 leaves OUT_PATHS empty.
    script(&hook, &format!("echo $DRV_PATH >> {}", seen.display()));
    let config = format!("post-build-hook = {}\ncores = 3", hook.display());
    let mut command = machine.command(&["--require-push"], &["sh", "-c"]);
    command.arg(format!(
        "nix-build --no-out-link {file} && nix config show cores >&2 || nix show-config >&2"
    ));
    command.env("NIX_CONFIG", &config);
    let built = process::run(command).success();
    let closure = machine.closure(&built);
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &closure);
    let seen = fs::read_to_string(seen).unwrap();
    assert_eq!(seen.lines().filter(|drv| drv.contains(".drv")).count(), closure.len(), "{seen}");
    assert!(built.stderr.lines().any(|line| line == "3" || line == "cores = 3"), "{built}");

    // A hook that fails the build still fails it.
    script(&hook, "exit 1");
    let file = machine.graph("chained-failure");
    let mut command = machine.command(&[], &["nix-build", "--no-out-link", &file]);
    command.env("NIX_CONFIG", &config);
    assert_ne!(process::run(command).code(), Some(0));
}

#[test]
fn a_user_whom_the_daemon_trusts_has_a_hook_of_its_own() {
    let machine = Machine::new();
    let daemon = NixDaemon::of(&machine.store);
    let file = machine.graph("trusted");
    let mut command =
        machine.command(&["--require-push", "-v"], &["nix-build", "--no-out-link", &file]);
    command.env("NIX_REMOTE", daemon.uri(&machine.store));
    let built = process::run(command).success();
    assert!(!built.stderr.contains("the store is watched"), "{built}");
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &machine.closure(&built));
    machine.assert_clean();
}

#[test]
fn for_a_user_whom_the_daemon_does_not_trust_the_store_is_watched() {
    let machine = Machine::new();
    let _ = trees::add_tiny(&machine.store, 1, "first");
    let daemon = NixDaemon::of(&machine.store);
    let Some(nobody) = Nobody::of(&daemon, &machine.store) else { return };
    process::write(&nobody.home().join("graph.nix"), trees::graph(6, 4, "untrusted"));
    let mut exec = nobody.command(process::binary("snowbank"));
    exec.args(["exec", "main", "--require-push", "-v", "--", "nix-build", "--no-out-link"]);
    exec.arg("graph.nix").env("SNOWBANK_URL", machine.server.url());
    exec.env("SNOWBANK_TOKEN", machine.server.token("nobody", &[], &["main"]));
    let built = process::run(exec).success();
    assert!(built.stderr.contains("the store is watched"), "{built}");
    assert_eq!(built.stderr.matches("WARN").count(), 0, "{built}");
    Oracle::main(&machine.server).assert_mirrors(&machine.store, &machine.closure(&built));
}
