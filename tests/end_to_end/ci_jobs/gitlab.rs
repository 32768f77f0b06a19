//! `dist/ci/gitlab`: the template, with its inputs filled in, run as a shell executor runs it.

use super::*;

/// The template's job, with these inputs.
fn template(inputs: &[(&str, &str)]) -> Yaml {
    let text = fs::read_to_string(repository("dist/ci/gitlab/snowbank.yml")).unwrap();
    let (head, mut body) = text.split_once("\n---\n").map(|(a, b)| (a, b.to_owned())).unwrap();
    let head = YamlLoader::load_from_str(head).unwrap().remove(0);
    for (name, input) in head["spec"]["inputs"].as_hash().unwrap() {
        let name = name.as_str().unwrap();
        let given = inputs.iter().find(|(one, _)| *one == name).map(|(_, value)| *value);
        let default = match &input["default"] {
            Yaml::Boolean(value) => Some(value.to_string()),
            other => other.as_str().map(str::to_owned),
        };
        let value = given.map(str::to_owned).or(default);
        let value = value.unwrap_or_else(|| panic!("{name} is required"));
        body = body.replace(&format!("$[[ inputs.{name} ]]"), &value);
    }
    assert!(!body.contains("$[["), "an input that is not declared: {body}");
    YamlLoader::load_from_str(&body).unwrap().remove(0)[".snowbank"].clone()
}

fn lines(job: &Yaml, part: &str) -> String {
    let lines = job[part].as_vec().unwrap().iter();
    lines.map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// A runner with a shell executor for a job that extends the template, and has `token`.
fn runner_of(job: &Yaml, url: &str, token: &str) -> Runner {
    let mut runner = Runner::new(&[("GITLAB_CI", "true"), ("CI", "true")]);
    let program = repository("dist/ci/snowbank-ci");
    std::os::unix::fs::symlink(program, runner.file("bin/snowbank-ci")).unwrap();
    let project = runner.file("project");
    fs::create_dir(&project).unwrap();
    runner.set("CI_PROJECT_DIR", project.to_str().unwrap());
    for (name, value) in job["variables"].as_hash().unwrap() {
        runner.set(name.as_str().unwrap(), value.as_str().unwrap());
    }
    // GitLab puts the token of `id_tokens` into the variable of that name.
    let (name, identity) = job["id_tokens"].as_hash().unwrap().iter().next().unwrap();
    assert_eq!(identity["aud"].as_str(), Some(url));
    runner.set(name.as_str().unwrap(), token);
    runner
}

#[test]
fn jobs_that_extend_the_template_push_and_fetch() {
    let server = Server::start();
    let token = server.token("ci", &["main"], &["main"]);
    let url = server.url();
    for mode in ["watch", "push"] {
        let job = template(&[("server", &url), ("cache", "main"), ("mode", mode)]);
        let mut runner = runner_of(&job, &url, &token);
        let pin = format!("run-{mode}");
        runner.set("SNOWBANK_CI_PIN", &pin);
        runner.set("SNOWBANK_CI_EXPIRES", "24h");
        runner.set("SNOWBANK_CI_RECEIPTS", "receipts.jsonl");

        // `before_script` and `script` share a shell, `after_script` has one of its own.
        let build = format!(
            "nix-build -E 'derivation {{ name = \"made-{mode}\"; system = builtins.currentSystem; \
             builder = \"/bin/sh\"; args = [ \"-c\" \"echo {mode} > $out\" ]; }}'"
        );
        let script = format!("{}\n{build}", lines(&job, "before_script"));
        let built = runner.shell(&script).success();
        let built = built.stdout.lines().last().unwrap().to_owned();
        let finished = runner.shell(&lines(&job, "after_script")).success();
        Oracle::main(&server).assert_whole(&built);
        assert!(finished.stderr.contains("section_start:"), "{finished}");
        assert!(finished.stderr.contains("section_end:"), "{finished}");
        assert!(!finished.said().contains(&token), "the token is in the log");

        // The next job, on another machine.
        let fetch = [("fetch-pin", pin.as_str()), ("fetch-receipts", "receipts.jsonl")];
        let pull = [("server", url.as_str()), ("cache", "main"), ("mode", "pull")];
        let next = template(&[&pull[..], &fetch].concat());
        let second = runner_of(&next, &url, &token);
        fs::copy(runner.file("receipts.jsonl"), second.file("receipts.jsonl")).unwrap();
        let script = lines(&next, "before_script");
        let output = second.shell(&script).success();
        assert!(second.store.has(&built), "{output}");
        assert!(output.stderr.contains("1 as their receipts say"), "{output}");
        assert_eq!(fs::read_link(second.file("result")).unwrap(), Path::new(&built));
    }
}
