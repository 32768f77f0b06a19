//! `dist/ci/github`: what GitHub's, Forgejo's and Gitea's runners do with it.

use super::*;

const SETUP: &str = "dist/ci/github";
const FINISH: &str = "dist/ci/github/finish";
const MADE: &str = r#"derivation {
  name = "made"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  args = [ "-c" "echo made > $out" ];
}"#;

/// A runner for a job of GitHub's service.
fn github() -> Runner {
    let mut runner = Runner::new(&[("GITHUB_ACTIONS", "true"), ("CI", "true")]);
    for (name, file) in [
        ("GITHUB_ENV", "github-env"),
        ("GITHUB_PATH", "github-path"),
        ("GITHUB_STEP_SUMMARY", "summary.md"),
    ] {
        let file = runner.file(file);
        fs::write(&file, "").unwrap();
        runner.set(name, file.to_str().unwrap());
    }
    let temporary = runner.file("runner-temp");
    fs::create_dir(&temporary).unwrap();
    runner.set("RUNNER_TEMP", temporary.to_str().unwrap());
    runner
}

impl Runner {
    /// Runs the steps of an action with these inputs; others have their defaults.
    fn uses(&mut self, action: &str, inputs: &[(&str, &str)]) -> Output {
        let definition = yaml(&format!("{action}/action.yml")).remove(0);
        let declared = definition["inputs"].as_hash().unwrap();
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for (name, input) in declared {
            assert!(input["description"].as_str().is_some_and(|text| !text.is_empty()), "{name:?}");
            if let Some(default) = input["default"].as_str() {
                values.insert(name.as_str().unwrap().to_owned(), default.to_owned());
            }
        }
        for (name, value) in inputs {
            assert!(declared.contains_key(&Yaml::from_str(name)), "{action} has no input {name}");
            values.insert((*name).to_owned(), (*value).to_owned());
        }
        assert_eq!(definition["runs"]["using"].as_str(), Some("composite"));
        let steps = definition["runs"]["steps"].as_vec().unwrap();
        assert_eq!(steps.len(), 1);
        let before = self.variables.clone();
        for (name, value) in steps[0]["env"].as_hash().unwrap() {
            let input = value.as_str().unwrap().trim_start_matches("${{ inputs.");
            let input = input.trim_end_matches(" }}");
            let value = values.get(input).unwrap_or_else(|| panic!("{input} is required"));
            self.set(name.as_str().unwrap(), value);
        }
        assert_eq!(steps[0]["shell"].as_str(), Some("bash"));
        self.set("GITHUB_ACTION_PATH", repository(action).to_str().unwrap());
        let output = self.shell(steps[0]["run"].as_str().unwrap());
        // The next step has what this one wrote to the runner's files, and none of its variables.
        self.variables = before;
        for line in fs::read_to_string(self.file("github-env")).unwrap().lines() {
            let (name, value) = line.split_once('=').unwrap();
            self.set(name, value);
        }
        output
    }

    /// The inputs that name the cache, and some more.
    fn inputs<'a>(
        server: &'a str,
        token: &'a str,
        more: &[(&'a str, &'a str)],
    ) -> Vec<(&'a str, &'a str)> {
        let mut inputs = vec![("server", server), ("cache", "main"), ("token", token)];
        inputs.extend(more);
        inputs
    }

    fn build(&self) -> String {
        fs::write(self.file("made.nix"), MADE).unwrap();
        let output = self.shell("nix-build made.nix").success();
        output.stdout.trim().to_owned()
    }

    fn summary(&self) -> String {
        fs::read_to_string(self.file("summary.md")).unwrap()
    }
}

#[test]
fn what_is_built_while_the_job_runs_is_pushed() {
    let server = Server::start();
    let token = server.token("ci", &["main"], &["main"]);
    let mut runner = github();
    let url = server.url();
    let _ = runner.uses(SETUP, &Runner::inputs(&url, &token, &[])).success();
    let built = runner.build();
    let other = trees::add_tiny(&runner.store, 1, "added").remove(0);
    let finished = runner.uses(FINISH, &Runner::inputs(&url, &token, &[])).success();
    let oracle = Oracle::main(&server);
    oracle.assert_whole(&built);
    oracle.assert_whole(&other);
    assert!(finished.said().contains("uploaded"), "{finished}");
    let summary = runner.summary();
    assert_eq!(summary.matches("### Pushed to main at ").count(), 1, "{summary}");
    assert!(summary.contains("| uploaded | 2 |"), "{summary}");
    assert!(!finished.said().contains(&token), "the token is in the log");
    assert!(!runner.file("runner-temp/snowbank-ci/token").exists(), "the token is left behind");
}

#[test]
fn a_result_goes_from_one_job_to_the_next_and_is_the_same() {
    let server = Server::start();
    let token = server.token("ci", &["main"], &["main"]);
    let url = server.url();
    let mut first = github();
    let _ = first.uses(SETUP, &Runner::inputs(&url, &token, &[("mode", "push")])).success();
    let built = first.build();
    let receipts = first.file("receipts.jsonl");
    let more = [("pin", "run-7"), ("expires", "24h"), ("receipts", receipts.to_str().unwrap())];
    let finished = first.uses(FINISH, &Runner::inputs(&url, &token, &more)).success();
    assert!(finished.stderr.contains("::group::Push to main"), "{finished}");
    assert!(finished.stderr.contains("::endgroup::"), "{finished}");
    let summary = first.summary();
    assert!(summary.contains("| uploaded | 1 |"), "{summary}");
    assert!(summary.contains("| pin | run-7, generation 1 |"), "{summary}");

    // Another machine, whose store is empty. Its setup fetches the result.
    let mut second = github();
    fs::copy(&receipts, second.file("receipts.jsonl")).unwrap();
    let more = [("mode", "pull"), ("fetch-pin", "run-7"), ("fetch-receipts", "receipts.jsonl")];
    let _ = second.uses(SETUP, &Runner::inputs(&url, "", &more)).success();
    assert_eq!(fs::read_link(second.file("result")).unwrap(), Path::new(&built));
    assert!(second.store.has(&built));
    assert!(second.summary().contains("| as their receipts say | 1 |"), "{}", second.summary());
    let fetch = "path=$(snowbank fetch main --pin run-7 --receipts receipts.jsonl) && echo $path";
    assert_eq!(second.shell(fetch).success().stdout.trim(), built);

    // A receipt of something else.
    let text = fs::read_to_string(&receipts).unwrap();
    let at = text.find("sha256:").unwrap() + 7;
    let changed = if &text[at..=at] == "0" { "1" } else { "0" };
    let text = format!("{}{changed}{}", &text[..at], &text[at + 1..]);
    let mut third = github();
    fs::write(third.file("receipts.jsonl"), text).unwrap();
    let output = third.uses(SETUP, &Runner::inputs(&url, "", &more));
    assert_eq!(output.code(), Some(14), "{output}");
    assert!(output.said().contains(&built) && !third.file("result").is_symlink(), "{output}");
    let verified = third.shell("snowbank verify-receipts receipts.jsonl");
    assert_eq!(verified.code(), Some(14), "{verified}");
    let more = [("mode", "pull"), ("fetch-pin", "run-8")];
    let output = third.uses(SETUP, &Runner::inputs(&url, "", &more));
    assert_eq!(output.code(), Some(15), "{output}");
}

#[test]
fn a_job_builds_what_it_cannot_fetch_in_an_outage() {
    let mut server = Server::start();
    let url = server.url();
    assert!(server.terminate().success());
    let mut runner = github();
    let more = [("mode", "pull"), ("fetch-pin", "run-7")];
    let output = runner.uses(SETUP, &Runner::inputs(&url, "", &more)).success();
    assert!(output.stderr.contains("the pin run-7 was not fetched"), "{output}");
    let _ = runner.build();
}

/// The second of two jobs: a container without a home folder, on another network.
#[test]
fn a_blog_is_built_in_a_container_on_another_network() {
    const PAGES: &str = r#"{ theme }: derivation {
      name = "blog"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
      theme = builtins.storePath theme;
      args = [ "-ec" "mkdir $out; cat $theme > $out/index.html; echo $theme > $out/theme" ];
    }"#;
    let server = Server::start();
    let token = server.token("ci", &["main"], &["main"]);
    let mut host = github();
    let url = server.url();
    let _ = host.uses(SETUP, &Runner::inputs(&url, &token, &[("mode", "push")])).success();
    let theme = host.build();
    let more = [("pin", "run-9"), ("expires", "24h"), ("receipts", "receipts.jsonl")];
    let _ = host.uses(FINISH, &Runner::inputs(&url, &token, &more)).success();

    let mut blog = github();
    if !blog.enter_container(server.address()) {
        return;
    }
    let url = blog.server_url(&server);
    let _ = blog.shell("[ -z \"${HOME+set}\" ] && [ -z \"$(ls -A /home)\" ]").success();
    let network = blog.shell("readlink /proc/self/ns/net").success().stdout;
    assert_ne!(Path::new(network.trim()), fs::read_link("/proc/self/ns/net").unwrap());
    let here = format!("curl --max-time 5 {}/readyz", server.url());
    assert!(!blog.shell(&here).status.success(), "this network is reached from the container");

    fs::copy(host.file("receipts.jsonl"), blog.file("receipts.jsonl")).unwrap();
    let inputs = [
        ("mode", "push"),
        ("fetch-pin", "run-9"),
        ("fetch-receipts", "receipts.jsonl"),
        ("fetch-link", "./theme"),
    ];
    let _ = blog.uses(SETUP, &Runner::inputs(&url, &token, &inputs)).success();
    assert_eq!(fs::read_link(blog.file("theme")).unwrap(), Path::new(&theme));
    fs::write(blog.file("pages.nix"), PAGES).unwrap();
    let build = "nix-build pages.nix --argstr theme $(readlink ./theme)";
    let pages = blog.shell(build).success().stdout.trim().to_owned();
    let finished = blog.uses(FINISH, &Runner::inputs(&url, &token, &[])).success();
    assert!(finished.stderr.contains("1 uploaded, 1 present"), "{finished}");
    Oracle::main(&server).assert_whole(&pages);
    assert!(!finished.said().contains(&token), "the token is in the log");
}

#[test]
fn a_job_without_a_token_pulls_only_and_says_so() {
    let server = Server::start();
    let url = server.url();
    let mut runner = github();
    let inputs = Runner::inputs(&url, "", &[("oidc-audience", "https://cache.example.org")]);
    let output = runner.uses(SETUP, &inputs).success();
    assert!(output.said().contains("this job pulls and does not push"), "{output}");
    assert!(output.said().contains("may not ask for an OIDC token"), "{output}");
    let built = runner.build();
    let _ = runner.uses(FINISH, &Runner::inputs(&url, "", &[])).success();
    assert!(!Oracle::main(&server).visible(&built));
}

#[test]
fn an_outage_fails_no_job_but_one_that_requires_the_push() {
    for mode in ["watch", "push"] {
        let mut server = Server::start();
        let token = server.token("ci", &["main"], &["main"]);
        let url = server.url();
        let mut runner = github();
        let _ = runner.uses(SETUP, &Runner::inputs(&url, &token, &[("mode", mode)])).success();
        // In the middle of the job.
        server.terminate();
        let _ = runner.build();
        let output = runner.uses(FINISH, &Runner::inputs(&url, &token, &[])).success();
        assert!(output.said().contains("not everything was pushed"), "{output}");

        let _ = runner.uses(SETUP, &Runner::inputs(&url, &token, &[("mode", "push")])).success();
        let required = [("require-push", "true")];
        let output = runner.uses(FINISH, &Runner::inputs(&url, &token, &required));
        assert_eq!(output.code(), Some(6), "{output}");
    }
}

#[test]
fn what_somebody_has_to_mend_fails_the_job_with_a_word() {
    let server = Server::start();
    let url = server.url();
    let mut runner = github();
    let none = [("server", ""), ("cache", "main")];
    let output = runner.uses(SETUP, &none);
    assert!(output.code() == Some(1) && output.stderr.contains("no server is named"), "{output}");
    let output = runner.uses(SETUP, &Runner::inputs(&url, "", &[("mode", "both")]));
    assert!(output.code() == Some(1) && output.stderr.contains("pull, push or watch"), "{output}");

    let archive = runner.file("client.tar.gz");
    fs::write(&archive, "no archive").unwrap();
    let address = format!("file://{}", archive.display());
    let inputs = Runner::inputs(&url, "", &[("release", &address)]);
    let output = runner.uses(SETUP, &inputs);
    assert!(output.code() == Some(1) && output.stderr.contains("checksum"), "{output}");
    let wrong = "0".repeat(64);
    let inputs = Runner::inputs(&url, "", &[("release", &address), ("sha256", &wrong)]);
    let output = runner.uses(SETUP, &inputs);
    assert!(output.code() == Some(1) && output.stderr.contains(&wrong), "{output}");

    let output = runner.uses(SETUP, &Runner::inputs(&url, "not-a-token", &[("mode", "push")]));
    assert!(!output.status.success(), "{output}");
    assert!(!output.said().contains("not-a-token"), "{output}");
    let injected = format!("{url}\nEVIL=1");
    let output = runner.uses(SETUP, &Runner::inputs(&injected, "", &[("mode", "pull")]));
    assert!(output.code() == Some(1) && output.stderr.contains("line break"), "{output}");
    let required = [("require-push", "true")];
    let output = runner.uses(FINISH, &Runner::inputs(&url, "", &required));
    assert!(output.code() == Some(1) && output.stderr.contains("nothing was set up"), "{output}");
}

#[test]
fn a_watcher_that_was_killed_is_no_push_that_went_well() {
    let server = Server::start();
    let token = server.token("ci", &["main"], &["main"]);
    let url = server.url();
    for required in ["true", "false"] {
        let mut runner = github();
        let _ = runner.uses(SETUP, &Runner::inputs(&url, &token, &[])).success();
        let _ = runner.shell("kill -KILL $(cat runner-temp/snowbank-ci/watch.pid)").success();
        let gone = "until [ -e runner-temp/snowbank-ci/watch.code ]; do sleep 0.05; done";
        let _ = runner.shell(gone).success();
        let inputs = Runner::inputs(&url, &token, &[("require-push", required)]);
        let output = runner.uses(FINISH, &inputs);
        assert_eq!(output.code(), Some(i32::from(required == "true")), "{output}");
        assert!(output.stderr.contains("no longer watched"), "{output}");
        assert!(!runner.file("runner-temp/snowbank-ci/token").exists(), "the token is left");
    }
}

#[test]
fn the_client_comes_out_of_a_release_with_its_checksum() {
    let server = Server::start();
    let url = server.url();
    let mut runner = github();
    fs::remove_file(runner.file("bin/snowbank")).unwrap();
    let folder = runner.file("snowbank-0.1.0-any/bin");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(process::binary("snowbank"), folder.join("snowbank")).unwrap();
    let _ = runner.shell("tar -czf client.tar.gz snowbank-0.1.0-any").success();
    let sum = runner.shell("sha256sum client.tar.gz").success();
    let sum = sum.stdout.split_whitespace().next().unwrap().to_owned();
    let address = format!("file://{}", runner.file("client.tar.gz").display());
    let more = [("release", address.as_str()), ("sha256", sum.as_str()), ("mode", "pull")];
    let _ = runner.uses(SETUP, &Runner::inputs(&url, "", &more)).success();
    let path = fs::read_to_string(runner.file("github-path")).unwrap();
    assert!(Path::new(path.trim()).join("snowbank").is_file(), "{path}");
}
