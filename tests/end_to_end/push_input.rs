//! What a push is given: by arguments, by a hook, by a pipe. What names a path is pushed, what does
//! not is named, and a summary is printed where something was tried.

use std::{fs, process::Command};

use serde_json::Value;
use snowbank_core::receipt::ReceiptLine;
use snowbank_harness::{
    Client, NixStore, Server,
    oracle::Oracle,
    process::{self, Output, Running},
    trees,
};

const ABSENT: &str = "/nix/store/00000000000000000000000000000000-absent";

fn with_input(command: Command, input: &str) -> Output {
    Running::start(command, input.as_bytes()).wait()
}

/// What is printed on standard output, line by line.
fn json_lines(output: &Output) -> Vec<Value> {
    output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn what_a_post_build_hook_has_in_out_paths_is_pushed() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let paths = trees::add_tiny(&store, 5, "hook");
    // `echo $OUT_PATHS | snowbank push main --stdin`, and `-` for `--stdin`.
    let line = format!("{} {}\t{}\n", paths[0], paths[1], paths[2]);
    let _ = with_input(client.command(&["push", "main", "--stdin"]), &line).success();
    let mixed = format!("\n  {}\r\n", paths[3]);
    let _ = with_input(client.command(&["push", "main", "-", &paths[4]]), &mixed).success();
    Oracle::main(&server).assert_mirrors(&store, &paths);

    // Other lines are one name each.
    let folder = client.home().join("a folder");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&paths[0], folder.join("my result")).unwrap();
    let _ = with_input(client.command(&["push", "main", "--stdin"]), "./a folder/my result\n")
        .success();
}

#[test]
fn an_empty_list_is_nothing_to_push() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    for options in [&["--stdin"][..], &["-"], &["--stdin", "--json"]] {
        let command = client.command(&[&["push", "main"], options].concat());
        let output = with_input(command, "\n \n").success();
        assert!(
            output.stderr.contains("Nothing to push") && !output.said().contains("uploaded"),
            "{output}"
        );
    }
    let quiet = with_input(client.command(&["push", "main", "--stdin", "--quiet"]), "\n").success();
    assert_eq!(quiet.said(), "");
    // A pin is wanted, and there is nothing to pin.
    let pinned = with_input(client.command(&["push", "main", "--stdin", "--pin", "latest"]), "\n")
        .ended_with(2);
    assert!(pinned.stderr.contains("latest"), "{pinned}");
}

#[test]
fn whoever_forgets_to_say_that_there_is_a_pipe_is_told() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "pipe").remove(0);
    let piped = with_input(client.command(&["push", "main"]), &path).ended_with(2);
    assert!(piped.stderr.contains("add --stdin"), "{piped}");
    let alone = client.run(&["push", "main"]).ended_with(2);
    assert!(alone.stderr.contains("./result") && !alone.stderr.contains("add --stdin"), "{alone}");

    // On a terminal the command says that it waits.
    let mut script = Command::new("script");
    let inner = format!("{} push main --stdin", process::binary("snowbank").display());
    script.args(["--quiet", "--return", "--command", &inner, "/dev/null"]);
    script
        .envs(store.environment())
        .env("HOME", client.home())
        .env("XDG_CONFIG_HOME", client.home().join(".config"));
    let output = with_input(script, &format!("{path}\n\u{4}")).success();
    assert!(
        output.stdout.contains("Ctrl-D ends the list") && output.stdout.contains("1 uploaded"),
        "{output}"
    );
}

#[test]
fn a_bad_path_does_not_stop_the_others() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let mut list = trees::add_tiny(&store, 4, "good");
    let good = list.clone();
    list.insert(1, ABSENT.to_owned());
    list.insert(3, "./nothing-here".to_owned());
    let push = client.push(&list).ended_with(4);
    assert_eq!(push.uploaded(), good.len());
    Oracle::main(&server).assert_mirrors(&store, &good);
    for bad in [ABSENT, "./nothing-here"] {
        assert!(push.output.stderr.contains(&format!("error: {bad:?}")), "{}", push.output);
        let failed = |line: &ReceiptLine| matches!(line, ReceiptLine::Failed { store_path, .. } if store_path == bad);
        assert!(push.lines.iter().any(failed), "{:?}", push.lines);
    }
    assert!(push.output.stderr.contains("4 uploaded, 0 present, 2 failed"), "{}", push.output);

    // One path is pinned, and it is not clear which.
    let pinned = client.push_to("main", &[&good[0], ABSENT], &["--pin", "latest"]).ended_with(2);
    assert!(pinned.output.stderr.contains("2 were given"), "{}", pinned.output);
}

#[test]
fn there_is_no_summary_where_nothing_was_tried() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "summary").remove(0);
    let nowhere = format!("http://{}", process::own_address());
    let run = |cache: &str, path: &str, url: Option<&str>, json: bool| {
        let mut command = client.command(&["push", cache, path]);
        command.args(json.then_some("--json"));
        if let Some(url) = url {
            command.env("SNOWBANK_URL", url).env("SNOWBANK_TOKEN", "a.b.c");
        }
        process::run(command)
    };
    for (cache, path, url, code) in [
        ("mian", path.as_str(), None, 11),
        ("main", &path, Some(nowhere.as_str()), 6),
        ("main", ABSENT, None, 4),
    ] {
        let output = run(cache, path, url, false).ended_with(code);
        assert!(!output.said().contains("uploaded") && output.stdout.is_empty(), "{output}");
        let output = run(cache, path, url, true).ended_with(code);
        assert!(!output.stdout.contains("summary"), "{output}");
    }
    // What failed has its line, and where something was tried there is a summary that says so.
    let lines = json_lines(&run("main", ABSENT, None, true));
    assert_eq!(
        (lines.len(), &lines[0]["status"], &lines[0]["store_path"]),
        (1, &"failed".into(), &ABSENT.into())
    );
    let both =
        json_lines(&client.push_to("main", &[ABSENT, &path], &["--json"]).ended_with(4).output);
    let summary = &both.last().unwrap()["summary"];
    assert_eq!((&summary["uploaded"], &summary["failed"]), (&1.into(), &1.into()), "{summary}");
}

#[test]
fn a_receipts_file_is_not_replaced_in_silence() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "receipts").remove(0);
    let file = client.home().join("receipts.jsonl");
    let push =
        || client.run(&["push", "main", &path, "--receipts", file.to_str().unwrap()]).success();
    assert!(!push().stderr.contains("is replaced"));
    let said = push().stderr;
    assert!(said.contains("receipts.jsonl is replaced"), "{said}");
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "typo").remove(0);
    let typo = client.home().join("no/such/store");
    for uri in [typo.display().to_string(), format!("local?root={}", typo.display())] {
        let output = client.run(&["push", "main", &path, "--store", &uri]).ended_with(4);
        assert!(
            output.stderr.contains("there is no Nix store at") && output.stderr.contains("no/such"),
            "{output}"
        );
    }
    assert!(!client.home().join("no").exists());
}

#[test]
fn a_temporary_folder_that_is_gone_is_no_matter() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "tmpdir").remove(0);
    let mut command = client.command(&["push", "main", &path]);
    command.env("TMPDIR", client.home().join("gone"));
    let _ = process::run(command).success();

    // A Nix that is not there is still called so.
    let mut command = client.command(&["push", "main", &path]);
    command.env("PATH", client.home());
    let output = process::run(command).ended_with(4);
    assert!(output.stderr.contains("is Nix installed and in PATH?"), "{output}");
}

#[test]
fn the_store_that_nix_conf_names_is_pushed_from() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "conf").remove(0);
    let push = |config: &str| {
        let mut command = client.command(&["push", "main", &path]);
        command
            .env("NIX_REMOTE", "daemon")
            .env("NIX_DAEMON_SOCKET_PATH", "/nowhere")
            .env("NIX_CONFIG", config);
        process::run(command)
    };
    let _ = push(&format!("store = {}", store.uri())).success();
    let elsewhere = push("store = ssh-ng://builder").ended_with(4);
    assert!(
        elsewhere.stderr.contains("in nix.conf") && elsewhere.stderr.contains("--store"),
        "{elsewhere}"
    );
    assert!(push("").ended_with(4).stderr.contains("/nowhere"));
}
