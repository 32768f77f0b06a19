//! `snowbank fetch`: paths come from one cache and nowhere else, and are what their receipts say.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use snowbank_harness::{
    Api, Client, NixStore, Output, Push, Random, Server, count,
    nix::NixDaemon,
    nobody::Nobody,
    process::{self, Running},
    trees,
};

/// How long the start of a program may take.
const LIMIT: Duration = Duration::from_mins(1);

/// A derivation whose contents are others with each build.
const UNREPRODUCIBLE: &str = r#"derivation {
  name = "unreproducible"; system = builtins.currentSystem;
  builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  args = [ "-ec" "head -c 3000 /dev/urandom > $out" ];
}"#;

/// A machine with a Nix store of its own.
struct Machine {
    store: NixStore,
    client: Client,
}

impl Machine {
    fn new(server: &Server) -> Self {
        let store = NixStore::new();
        let client = Client::of(server, &store);
        Self { store, client }
    }

    /// `snowbank fetch ARGS`, not started. Temporary files are in a folder that the test looks
    /// into.
    fn command(&self, args: &[&str]) -> Command {
        let temporary = self.client.home().join("tmp");
        fs::create_dir_all(&temporary).unwrap();
        let mut command = self.client.command(&["fetch"]);
        command.args(args).env("TMPDIR", temporary);
        command
    }

    fn fetch(&self, args: &[&str]) -> Output {
        let output = process::run(self.command(args));
        self.assert_clean();
        output
    }

    #[track_caller]
    fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.client.home().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "temporary files are left: {left:?}");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.client.home().join(name)
    }
}

/// A closure in a cache, and in the store that it was pushed from.
struct Pushed {
    server: Server,
    store: NixStore,
    closure: Vec<String>,
    root: String,
    push: Push,
    // The receipts are in its home folder.
    _client: Client,
}

impl Pushed {
    /// One whose root has the pin `run-1`.
    fn new(tag: &str) -> Self {
        let (server, store) = (Server::start(), NixStore::new());
        let (closure, root) = graph(&store, 6, tag);
        let client = Client::of(&server, &store);
        let push = client.push_to("main", &[&root], &["--pin", "run-1"]).success();
        Self { server, store, closure, root, push, _client: client }
    }

    fn receipts(&self) -> &str {
        self.push.receipts_file.to_str().unwrap()
    }

    #[track_caller]
    fn assert_in(&self, other: &NixStore) {
        assert_eq!(other.hashes(&self.closure), self.store.hashes(&self.closure));
        assert_eq!(other.closure(&[&self.root]), self.store.closure(&[&self.root]));
        other.verify();
    }
}

/// A closure, and its root.
fn graph(store: &NixStore, count: usize, tag: &str) -> (Vec<String>, String) {
    let all = trees::build_graph(store, count, 2, tag);
    let last = format!("{tag}-{}", count - 1);
    let root = all.iter().find(|path| path.ends_with(&last)).unwrap().clone();
    (store.closure(&[&root]), root)
}

fn key(server: &Server, cache: &str) -> String {
    Api::root(server).cache_info(cache).public_keys.remove(0)
}

/// The lines of a receipts file but those of `path`, and those that `change` gives for it.
fn changed(receipts: &str, path: &str, change: impl Fn(Value) -> Option<Value>) -> String {
    let text = fs::read_to_string(receipts).unwrap();
    let mut lines = String::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        if value["store_path"] == path {
            lines.extend(change(value).map(|value| format!("{value}\n")));
        } else {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

#[test]
fn a_pin_and_a_path_come_into_an_empty_store() {
    let pushed = Pushed::new("empty");
    let (root, line) = (&pushed.root, format!("{}\n", pushed.root));
    let base = root.rsplit('/').next().unwrap();
    for args in [
        &["main", "--pin", "run-1", "--receipts", pushed.receipts(), "--verify"][..],
        &["main", root],
        &["main", base, "--pin", "run-1"],
    ] {
        let machine = Machine::new(&pushed.server);
        let output = machine.fetch(args).success();
        assert_eq!(output.stdout, line, "{output}");
        assert!(output.stderr.contains(&format!("{} fetched", pushed.closure.len())), "{output}");
        pushed.assert_in(&machine.store);
        // Nothing is left to do.
        let again = machine.fetch(args).success();
        assert_eq!(again.stdout, line, "{again}");
        assert!(again.stderr.contains(&format!("0 fetched, {} present", pushed.closure.len())));
        let quiet = machine.fetch(&[args, &["-q"]].concat()).success();
        assert_eq!((quiet.stdout, quiet.stderr.as_str()), (line.clone(), ""));
    }

    let machine = Machine::new(&pushed.server);
    symlink(root, machine.file("result")).unwrap();
    let args = ["main", "./result", "--json", "--receipts", pushed.receipts()];
    let output = machine.fetch(&args).success();
    let lines: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, paths) = lines.split_last().unwrap();
    assert_eq!(paths.len(), pushed.closure.len(), "{output}");
    for path in paths {
        assert_eq!(path["requested"].as_bool(), Some(path["store_path"] == root.as_str()));
        assert_eq!(
            (path["status"].as_str(), path["holds"].as_bool()),
            (Some("fetched"), Some(true))
        );
        assert_eq!(path["signed_by"].as_str(), key(&pushed.server, "main").split(':').next());
    }
    let summary = &summary["summary"];
    let all = pushed.closure.len() as u64;
    assert_eq!((summary["fetched"].as_u64(), summary["holding"].as_u64()), (Some(all), Some(all)));
    assert_eq!(summary["failing"].as_u64(), Some(0), "{output}");
}

#[test]
fn an_out_link_keeps_the_path_from_a_collection() {
    let pushed = Pushed::new("link");
    let machine = Machine::new(&pushed.server);
    let _ = machine.fetch(&["main", &pushed.root]).success();
    let _ = machine.store.run("nix-store", &["--gc"]).success();
    assert!(!machine.store.has(&pushed.root), "nothing keeps it");

    let link = machine.file("result");
    let args = ["main", "--pin", "run-1", "--out-link", "result"];
    let _ = machine.fetch(&args).success();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new(&pushed.root));
    let _ = machine.store.run("nix-store", &["--gc"]).success();
    pushed.assert_in(&machine.store);

    // A second path has a link with a number. What is no symlink is not replaced.
    let other = pushed.closure.iter().find(|path| **path != pushed.root).unwrap();
    let _ = machine.fetch(&["main", &pushed.root, other, "--out-link", "result"]).success();
    assert_eq!(fs::read_link(machine.file("result-2")).unwrap(), Path::new(other));
    fs::remove_file(&link).unwrap();
    fs::write(&link, "mine").unwrap();
    let output = machine.fetch(&args).ended_with(16);
    assert!(output.stderr.contains("no symlink") && output.stdout.is_empty(), "{output}");
    assert_eq!(fs::read_to_string(&link).unwrap(), "mine");
}

#[test]
fn a_path_that_differs_from_its_receipt_fails() {
    let pushed = Pushed::new("receipts");
    let path = &pushed.closure[1];
    let machine = Machine::new(&pushed.server);
    let file = machine.file("receipts.jsonl");
    let file_text = file.to_str().unwrap();
    let fetch = |text: String, more: &[&str]| {
        fs::write(&file, text).unwrap();
        let args = ["main", "--pin", "run-1", "--out-link", "result", "--receipts", file_text];
        machine.fetch(&[&args, more].concat())
    };
    let fails = |text: String, more: &[&str], says: &[&str]| {
        let output = fetch(text, more).ended_with(14);
        assert_eq!(output.stdout, "", "{output}");
        assert!(!machine.file("result").is_symlink(), "{output}");
        for word in says.iter().chain(&[path.as_str()]) {
            assert!(output.stderr.contains(word), "{word}: {output}");
        }
        assert!(output.stderr.contains(", 1 not; "), "only one fails: {output}");
    };
    let hash = machine_hash(&pushed.store, path);
    let other_hash = machine_hash(&pushed.store, &pushed.closure[0]);
    let with = |field: &str, value: Value| {
        changed(pushed.receipts(), path, |mut line| {
            line[field] = value.clone();
            Some(line)
        })
    };
    fails(with("nar_hash", other_hash.clone().into()), &[], &[&hash, &other_hash]);
    fails(with("nar_size", 5.into()), &[], &["(5 bytes)"]);
    fails(with("time", 5.into()), &[], &["no valid signature by a key of the cache"]);
    fails(with("signatures", Value::Array(vec![])), &[], &["not signed"]);
    let removed = changed(pushed.receipts(), path, |_| None);
    fails(removed.clone(), &[], &["no receipt"]);
    let output = fetch(removed, &["--partial-receipts"]).success();
    assert_eq!(output.stdout.trim(), pushed.root);
    fs::remove_file(machine.file("result")).unwrap();
    let failed = |_| {
        Some(serde_json::json!({ "status": "failed", "store_path": path, "reason": "was full" }))
    };
    fails(changed(pushed.receipts(), path, failed), &[], &["was full"]);

    // Receipts of another server, for the very same paths.
    let other = Server::start();
    let client = Client::of(&other, &pushed.store);
    let push = client.push(&[&pushed.root]).success();
    let foreign = fs::read_to_string(&push.receipts_file).unwrap();
    let output = fetch(foreign.clone(), &[]).ended_with(14);
    assert!(output.stderr.contains("no valid signature"), "{output}");
    // Its key alone counts, and has not signed what this cache serves.
    fs::write(&file, foreign).unwrap();
    let key = key(&other, "main");
    let args = ["main", &pushed.root, "--receipts", file_text, "--public-key", &key];
    let empty = Machine::new(&pushed.server);
    let output = empty.fetch(&args).ended_with(14);
    assert!(output.stderr.contains("without a signature by"), "{output}");
    assert!(!empty.store.has(&pushed.root), "nothing was fetched");

    fs::write(&file, "no receipt\n").unwrap();
    let output = machine.fetch(&["main", &pushed.root, "--receipts", file_text]).ended_with(14);
    assert!(output.stderr.contains("line 1: no receipt"), "{output}");
    fs::write(&file, "").unwrap();
    let output = machine.fetch(&["main", &pushed.root, "--receipts", file_text]).ended_with(2);
    assert!(output.stderr.contains("is empty"), "{output}");
}

/// The NAR hash of a path, as Nix says it.
fn machine_hash(store: &NixStore, path: &str) -> String {
    store.hashes(&[path]).remove(0)
}

#[test]
fn a_local_path_with_other_contents_fails() {
    let (server, store) = (Server::start(), NixStore::new());
    let path = store.build(UNREPRODUCIBLE).remove(0);
    let client = Client::of(&server, &store);
    let push = client.push(&[&path]).success();
    let receipts = push.receipts_file.to_str().unwrap();
    let machine = Machine::new(&server);
    assert_eq!(machine.store.build(UNREPRODUCIBLE), [path.as_str()]);
    let output = machine.fetch(&["main", &path, "--receipts", receipts]).ended_with(14);
    for store in [&store, &machine.store] {
        assert!(output.stderr.contains(&machine_hash(store, &path)), "{output}");
    }
    assert!(output.stderr.contains(&path) && output.stdout.is_empty(), "{output}");

    // What Nix has registered is right, and the disk is not.
    let other = Machine::new(&server);
    let args = ["main", &path, "--receipts", receipts];
    let _ = other.fetch(&args).success();
    fs::write(other.store.unlocked(&path), "damaged").unwrap();
    let _ = other.fetch(&args).success();
    let output = other.fetch(&[&args[..], &["--verify"]].concat()).ended_with(5);
    assert!(output.stderr.contains("nix-store --repair-path"), "{output}");
    other.store.lose(&path);
    let output = other.fetch(&["main", &path, "--verify"]).ended_with(5);
    assert!(output.stderr.contains("missing from the disk"), "{output}");
}

#[test]
fn a_path_that_the_cache_lacks_comes_from_nowhere_else() {
    let (server, upstream, store) = (Server::start(), Server::start(), NixStore::new());
    let (closure, root) = graph(&store, 4, "lacks");
    let left: Vec<&String> = closure.iter().filter(|path| **path != root).collect();
    let upstream_url = format!("{}/main", upstream.url());
    let _ = Client::of(&upstream, &store).push(&left).success();
    let client = Client::of(&server, &store);
    let push = client.push_to("main", &[&root], &["--check-upstream", &upstream_url]).success();
    assert_eq!(push.uploaded(), 1, "{}", push.output);

    let machine = Machine::new(&server);
    let config = format!(
        "substituters = {upstream_url}\ntrusted-public-keys = {}\n",
        key(&upstream, "main")
    );
    let run = |args: &[&str]| {
        let mut command = machine.command(args);
        command.env("NIX_CONFIG", &config);
        process::run(command)
    };
    let receipts = push.receipts_file.to_str().unwrap();
    let args = ["main", &root, "--receipts", receipts];
    let output = run(&args).ended_with(15);
    assert!(left.iter().any(|path| output.stderr.contains(path.as_str())), "{output}");
    for word in ["main at http://127.", "left it to an upstream", "--upstream URL", &root] {
        assert!(output.stderr.contains(word), "{word}: {output}");
    }
    assert!(output.stdout.is_empty() && !machine.store.has(&root), "{output}");
    assert!(left.iter().all(|path| !machine.store.has(path)), "nothing came from elsewhere");
    // A root that only the other cache has.
    let output = run(&["main", left[0]]).ended_with(15);
    assert!(output.stderr.contains(left[0].as_str()), "{output}");
    assert!(output.stderr.contains("snowbank push") && !machine.store.has(left[0]), "{output}");

    let output = run(&[&args[..], &["--upstream", &upstream_url]].concat()).success();
    assert_eq!(output.stdout.trim(), root);
    assert!(output.stderr.contains("1 fetched"), "{output}");
    assert!(output.stderr.contains(&format!("{} from upstream", left.len())), "{output}");
    assert_eq!(machine.store.hashes(&closure), store.hashes(&closure));
    // Whose key Nix does not trust.
    let other = Machine::new(&server);
    let output = other.fetch(&["main", &root, "--upstream", &upstream_url]).ended_with(15);
    assert!(output.stderr.contains(&upstream_url), "{output}");
}

#[test]
fn what_cannot_be_fetched_is_named_with_its_code() {
    let mut pushed = Pushed::new("named");
    let machine = Machine::new(&pushed.server);
    let output = machine.fetch(&["main", "--pin", "run-2"]).ended_with(15);
    assert!(output.stderr.contains("there is no pin `run-2` in `main`"), "{output}");
    let client = Client::of(&pushed.server, &pushed.store);
    let _ = client.run(&["pin", "main", "brief", &pushed.root, "--expires", "1s"]).success();
    process::wait_until("the pin has ended", LIMIT, || {
        machine.fetch(&["main", "--pin", "brief"]).code() == Some(15)
    });
    for (args, code, says) in [
        (&["main"][..], 2, "PATH"),
        (&["main", "--partial-receipts", &pushed.root], 2, "--receipts"),
        (&["main", "nonsense"], 2, "nonsense"),
        (&["main", &format!("{}.drv", pushed.root)], 2, "is a derivation"),
        (&["main", &pushed.root, "--public-key", "x"], 2, "--public-key"),
        (&["nowhere:main", &pushed.root], 3, "nowhere"),
        (&["main", &pushed.root, "--receipts", "/absent"], 3, "/absent"),
        (&["other", &pushed.root], 11, "other"),
    ] {
        let output = machine.fetch(args).ended_with(code);
        assert!(output.stderr.contains(says) && output.stdout.is_empty(), "{output}");
    }

    assert!(pushed.server.terminate().success());
    let output = machine.fetch(&["main", "--pin", "run-1"]).ended_with(6);
    assert!(output.stderr.contains("connection refused"), "{output}");
}

#[test]
fn an_outage_while_nix_fetches_is_waited_for() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let path = large(&store);
    let _ = Client::of(&server, &store).push(&[&path]).success();
    let machine = Machine::new(&server);
    let mut fetch = Running::start(machine.command(&["main", &path]), &[]);
    let _ = nix_store_of(&mut fetch);
    server.kill9();
    process::wait_until("Nix has failed", LIMIT, || fetch.stderr_so_far().contains("error:"));
    assert!(!machine.store.has(&path), "the outage was in the middle");
    server.start_again();
    let output = fetch.wait().success();
    assert_eq!(output.stdout.trim(), path, "{output}");
    assert_eq!(machine.store.hashes(&[&path]), store.hashes(&[&path]));
    // One that does not end.
    let other = Machine::new(&server);
    assert!(server.terminate().success());
    let output = other.fetch(&["main", &path]).ended_with(6);
    assert!(output.stderr.contains("connection refused"), "{output}");
}

/// A path whose download takes a while.
fn large(store: &NixStore) -> String {
    trees::add_noise(store, &mut Random::announced("large"), "large", 64 << 20)
}

/// Waits until a fetch has started Nix, and gives its process.
fn nix_store_of(fetch: &mut Running) -> u32 {
    let id = fetch.id();
    let find = || {
        let is_realising = |id: &u32| command_line(*id).contains("--realise");
        process::children(id).into_iter().find(is_realising)
    };
    process::wait_until("Nix fetches", LIMIT, || find().is_some() || fetch.is_done());
    find().expect("Nix is still at work")
}

#[test]
fn a_private_cache_gets_its_token_by_a_file_that_no_signal_leaves_behind() {
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "secret", "--private"]).success();
    let path = large(&store);
    let _ = Client::of(&server, &store).push_to("secret", &[&path], &[]).success();
    let (reader, stranger) =
        (server.token("reader", &["secret"], &[]), server.token("other", &["main"], &[]));

    let other = NixStore::new();
    let client = Client::at(&server.url(), &stranger, &other);
    let output = client.run(&["fetch", "secret", &path]).ended_with(11);
    assert!(!output.said().contains(&stranger), "{output}");
    let pusher = Client::at(&server.url(), &server.token("pusher", &[], &["secret"]), &other);
    let output = pusher.run(&["fetch", "secret", &path]).ended_with(10);
    assert!(output.stderr.contains("may not fetch from the private cache `secret`"), "{output}");

    let machine = Machine { client: Client::at(&server.url(), &reader, &other), store: other };
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 143)] {
        let mut fetch = Running::start(machine.command(&["secret", &path]), &[]);
        let nix_store = nix_store_of(&mut fetch);
        let id = fetch.id();
        let server_id = server.replicas()[0].id().unwrap();
        // So that it goes on for as long as this test looks.
        let stop = |signal: &str| {
            let status = Command::new("kill").args([signal, &server_id.to_string()]).status();
            assert!(status.unwrap().success());
        };
        stop("-STOP");
        let folder = fs::read_dir(machine.file("tmp")).unwrap().next().unwrap().unwrap().path();
        let netrc = folder.join("netrc");
        for (file, mode) in [(&folder, 0o700), (&netrc, 0o600)] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, mode);
        }
        assert!(fs::read_to_string(&netrc).unwrap().contains(&reader));
        for id in [id, nix_store] {
            assert!(!command_line(id).contains(&reader), "the token is among the arguments");
        }
        fetch.signal(signal);
        let output = fetch.wait().ended_with(code);
        assert!(!output.said().contains(&reader), "{output}");
        machine.assert_clean();
        assert!(!process::is_alive(nix_store), "Nix goes on");
        stop("-CONT");
    }
    let output = machine.fetch(&["secret", &path]).success();
    assert!(!output.said().contains(&reader), "{output}");
    assert_eq!(machine.store.hashes(&[&path]), store.hashes(&[&path]));
}

fn command_line(id: u32) -> String {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

#[test]
fn a_daemon_fetches_for_users_whom_it_trusts() {
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "secret", "--private"]).success();
    let (closure, root) = graph(&store, 4, "daemon");
    for cache in ["main", "secret"] {
        let _ = Client::of(&server, &store).push_to(cache, &[&root], &[]).success();
    }
    for cache in ["main", "secret"] {
        let machine = Machine::new(&server);
        let daemon = NixDaemon::of(&machine.store);
        let mut command = machine.command(&[cache, &root]);
        command.env("NIX_REMOTE", daemon.uri(&machine.store));
        let output = process::run(command).success();
        assert_eq!(output.stdout.trim(), root, "{output}");
        assert_eq!(machine.store.hashes(&closure), store.hashes(&closure));
        machine.assert_clean();
    }
}

#[test]
fn a_daemon_that_trusts_nobody_has_to_know_the_cache() {
    let (server, store) = (Server::start(), NixStore::new());
    let _ = server.command(&["cache", "create", "secret", "--private"]).success();
    let (closure, root) = graph(&store, 4, "nobody");
    let client = Client::of(&server, &store);
    let receipts = client.push_to("secret", &[&root], &[]).success();
    let token = server.token("nobody", &["secret"], &[]);
    let machine = Machine::new(&server);
    let fetch = |nobody: &Nobody| {
        let mut command = nobody.command(process::binary("snowbank"));
        command.args(["fetch", "secret", &root, "--receipts", "receipts.jsonl"]);
        command.args(["--out-link", "result"]);
        command.env("SNOWBANK_URL", server.url()).env("SNOWBANK_TOKEN", &token);
        process::run(command)
    };
    let hand_over = |nobody: &Nobody| {
        let file = nobody.home().join("receipts.jsonl");
        fs::copy(&receipts.receipts_file, &file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    };
    {
        let daemon = NixDaemon::of(&machine.store);
        let Some(nobody) = Nobody::of(&daemon, &machine.store) else { return };
        hand_over(&nobody);
        let output = fetch(&nobody).ended_with(3);
        for word in ["nobody is not among its trusted-users", "snowbank use secret --system"] {
            assert!(output.stderr.contains(word), "{word}: {output}");
        }
        assert!(!machine.store.has(&root) && output.stdout.is_empty(), "{output}");
    }
    let _ = machine.client.run(&["use", "secret", "--system", "--priority", "7"]).success();
    let daemon = NixDaemon::of(&machine.store);
    let Some(nobody) = Nobody::of(&daemon, &machine.store) else { return };
    hand_over(&nobody);
    let output = fetch(&nobody).success();
    assert_eq!(output.stdout.trim(), root, "{output}");
    assert!(!output.stderr.contains("warning"), "the daemon ignores nothing: {output}");
    assert_eq!(machine.store.hashes(&closure), store.hashes(&closure));
    let link = nobody.home().join("result");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new(&root));
    assert_eq!(fs::symlink_metadata(&link).unwrap().uid(), 65_534);
    let _ = machine.store.run("nix-store", &["--gc"]).success();
    assert!(machine.store.has(&root), "the link keeps it");
}

#[test]
fn a_large_closure_is_fetched_and_compared() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let (mut closure, root) = graph(&store, 40, "large");
    let tiny = trees::add_tiny(&store, count(800, 10_000), "tiny");
    let mut roots = tiny.clone();
    roots.push(root);
    let push = client.push(&roots).success();
    closure.extend(tiny);
    let machine = Machine::new(&server);
    let mut command = machine.command(&["main", "--verify", "--receipts"]);
    command.arg(&push.receipts_file).args(&roots);
    let output = process::run(command).success();
    assert_eq!(output.stdout.lines().count(), roots.len());
    assert!(output.stderr.contains(&format!("{} as their receipts say", closure.len())));
    assert_eq!(machine.store.hashes(&closure), store.hashes(&closure));
    println!("{} paths in {:.1} s", closure.len(), output.elapsed.as_secs_f32());
}

#[test]
fn the_numbers_are_on_the_page_of_the_run() {
    let pushed = Pushed::new("page");
    let machine = Machine::new(&pushed.server);
    let page = machine.file("page.md");
    let mut command = machine.command(&["main", "--pin", "run-1", "--receipts", pushed.receipts()]);
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &page);
    let output = process::run(command).success();
    assert!(output.stderr.contains("::group::Fetch from main at http://127."), "{output}");
    assert!(output.stderr.contains("\n::endgroup::\n"), "{output}");
    assert_eq!(output.stdout, format!("{}\n", pushed.root));
    let text = fs::read_to_string(page).unwrap();
    assert!(text.contains("### Fetched from main at "), "{text}");
    let all = pushed.closure.len();
    assert!(text.contains(&format!("| fetched | {all} |")), "{text}");
    assert!(text.contains(&format!("| as their receipts say | {all} |")), "{text}");
}
