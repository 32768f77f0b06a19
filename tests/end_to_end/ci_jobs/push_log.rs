//! What the commands that push show in the log and on the page of a job.

use std::time::Duration;

use snowbank_harness::process::Running;

use super::*;

#[test]
fn a_push_folds_its_lines_and_adds_its_numbers_to_the_page() {
    let server = Server::start();
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "logged").remove(0);
    let page = client.home().join("page.md");
    let push = |variables: &[(&str, &str)], options: &[&str]| {
        let mut command = client.command(&["push", "main", &path]);
        command.args(options).envs(variables.iter().copied());
        process::run(command).success()
    };
    let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", page.to_str().unwrap())];
    let output = push(&github, &["--json"]);
    assert!(output.stderr.contains("::group::Push to main at http://127."), "{output}");
    assert!(output.stderr.contains("\n::endgroup::\n"), "{output}");
    assert!(!output.stdout.contains("::"), "standard output is for programs: {output}");
    let _ = push(&github, &[]);
    let text = fs::read_to_string(&page).unwrap();
    assert_eq!(text.matches("### Pushed to main at ").count(), 2, "{text}");
    assert!(
        text.contains("| uploaded | 1 |") && text.contains("| already present | 1 |"),
        "{text}"
    );

    let output = push(&[("GITLAB_CI", "true")], &[]);
    assert!(output.stderr.contains("\x1b[0Ksection_start:"), "{output}");
    for variables in [&[][..], &[("GITHUB_ACTIONS", "true")]] {
        let output = push(variables, &["--quiet"]);
        assert_eq!(output.said(), "");
    }
    // A page that cannot be written fails no push.
    let output = push(&[github[0], ("GITHUB_STEP_SUMMARY", "/absent/page.md")], &[]);
    assert!(output.stderr.contains("the summary cannot be written"), "{output}");
}

#[test]
fn exec_and_watch_store_add_their_numbers_to_the_page() {
    let server = Server::start();
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    let page = client.home().join("page.md");
    let environment = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", page.to_str().unwrap())];
    let file = client.home().join("default.nix");
    process::write(&file, trees::graph(3, 2, "page"));
    let build = ["nix-build", "--no-out-link", file.to_str().unwrap()];
    for options in [&[][..], &["-q"]] {
        let mut exec = client.command(&["exec", "main"]);
        exec.args(options).arg("--").args(build).envs(environment);
        let _ = process::run(exec).success();
        let text = fs::read_to_string(&page).unwrap();
        assert_eq!(text.matches("### Pushed to main at ").count(), 1, "{text}");
        assert!(text.contains("| uploaded | 3 |"), "{text}");
    }

    fs::remove_file(&page).unwrap();
    let mut watch = client.command(&["watch-store", "main"]);
    watch.args(["--queue", client.home().join("queue").to_str().unwrap()]).envs(environment);
    let watch = Running::start(watch, &[]);
    let limit = Duration::from_mins(1);
    process::wait_until("the store is watched", limit, || {
        watch.stderr_so_far().contains("Watching ")
    });
    let oracle = Oracle::main(&server);
    for number in 0..2 {
        let path = trees::add_tiny(&store, 1, &format!("watched-{number}")).remove(0);
        process::wait_until("the path has arrived", limit, || oracle.visible(&path));
    }
    watch.signal(rustix::process::Signal::TERM);
    let output = watch.wait().ended_with(143);
    let text = fs::read_to_string(&page).unwrap_or_default();
    assert_eq!(text.matches("### Pushed to main at ").count(), 1, "{text}: {output}");
    assert!(text.contains("| uploaded | 2 |"), "{text}");

    // An outage is on the page too.
    let mut server = server;
    assert!(server.terminate().success());
    process::write(&file, trees::graph(3, 2, "outage"));
    let mut exec = client.command(&["exec", "main", "--timeout", "1s", "--"]);
    exec.args(build).envs(environment);
    let _ = process::run(exec).success();
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("### Pushed to main\n") && text.contains("| failed | 3 |"), "{text}");
}
