//! `docs/tokens.md`: its configuration, its commands, and the jobs of its two CI services.

use std::{fs, os::unix::fs::PermissionsExt};

use jsonwebtoken::Algorithm;
use snowbank_harness::{
    Client, NixStore, Server,
    issuer::{Issuer, SigningKey},
    process, token,
};

use super::{NAME, client::flake};
use crate::document::{Page, Step, Tables, Walk};

const TABLES: Tables = Tables {
    not_run: &[
        ("snowbank", NAME),
        ("snowbank use", NAME),
        ("snowbank push", NAME),
        ("snowbank queue run", NAME),
        ("snowbankd token create …", NAME),
        ("snowbankd token revoke", NAME),
    ],
    given: &[
        ("snowbankd token-key add --from key.pem", "mv ../key.pem ."),
        ("snowbank token rotate --subject ci-blog > token", MAKE_TOKEN),
        ("snowbank token revoke --subject ci-blog", MAKE_TOKEN),
    ],
    ends_with: &[],
};

const MAKE_TOKEN: &str = "snowbank token create --sub ci-blog --push 'blog*' > token";

#[test]
fn every_command_of_the_page_about_tokens_works() {
    let page = Page::read("docs/tokens.md");
    let (issuer, store) = (Issuer::with_one_key(), NixStore::new());
    let outer = Client::new(&store);
    let mut walk = Walk::new(&outer, TABLES);
    let key = |file: &str| {
        let file = outer.home().join(file);
        process::write(&file, SigningKey::new("any", Algorithm::ES256).private_pem());
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        file.display().to_string()
    };
    let _ = key("key.pem");
    for (example, value) in [
        // The configuration is written before the address is known.
        ("https://cache.example.org", "http://@address@".to_owned()),
        ("/etc/snowbank/portal.pem", key("portal.pem")),
        ("https://token.actions.githubusercontent.com", issuer.url()),
        ("my-company", "team".to_owned()),
    ] {
        walk.replace(example, value);
    }
    let config = walk.filled(&page.files("toml").concat());
    let server = Server::options().config(&config).start();
    let _ = server.command(&["cache", "create", "app-main", "--private"]).success();
    walk.programs.add_command("snowbankd", &server.replicas()[0].command_line());
    fs::write(walk.join("flake.nix"), flake()).unwrap();

    let unwanted = server.token("unwanted", &["main"], &[]);
    walk.replace("4f2a…", token::claims(&unwanted)["jti"].as_str().unwrap());
    let first = token::header(&server.root_token())["kid"].as_str().unwrap().to_owned();
    walk.replace("retire OLD", format!("retire {first}"));
    walk.replace("retire KID", "retire 2027");
    walk.replace("remove KID", "remove 2027 --yes");
    walk.replace("http://@address@", server.url());
    login(&walk, &server);

    let mut jobs = page.files("yaml").into_iter();
    for step in page.steps() {
        match &step {
            Step::File { language, .. } if language == "yaml" => {
                let job = walk.filled(&jobs.next().unwrap());
                run_job(&walk, &job, &issuer, &server);
            }
            // The login's token is signed with the key that is retired here.
            Step::Command { text, .. } if text.contains("retire OLD") => {
                walk.follow(&step);
                login(&walk, &server);
            }
            _ => walk.follow(&step),
        }
    }
    walk.finish(15);
}

/// Logs in with a new token, made on the server's host.
fn login(walk: &Walk<'_>, server: &Server) {
    let url = server.url();
    let create = "snowbankd token create --sub admin --admin --pull '*' --push '*'";
    let _ = walk.shell(&format!("{create} | snowbank login work {url}")).success();
}

/// Runs the scripts of a job as its service does, with the variables of the page and of the
/// service.
fn run_job(walk: &Walk<'_>, job: &str, issuer: &Issuer, server: &Server) {
    let url = server.url();
    assert!(job.contains(&format!("SNOWBANK_URL: {url}\n")), "{job}");
    let (name, value) = if job.contains("id-token: write") {
        let address = format!("{}/job-token?api-version=2.0", issuer.url());
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN=any ACTIONS_ID_TOKEN_REQUEST_URL", address)
    } else {
        assert!(job.contains(&format!("SNOWBANK_TOKEN:\n      aud: {url}\n")), "{job}");
        ("SNOWBANK_TOKEN", issuer.sign(&issuer.job_for(&url)))
    };
    let mut script = format!("export SNOWBANK_URL={url} {name}='{value}'\n");
    for line in job.lines().map(str::trim_start) {
        let command = line.strip_prefix("- run: ").or_else(|| line.strip_prefix("- "));
        let is_step = line.starts_with("- name:") || line.starts_with("- uses:");
        script += command.filter(|_| !is_step).unwrap_or("");
        script += "\n";
    }
    if let Some((_, block)) = job.split_once("run: |\n") {
        script += block;
    }
    let before = server.command(&["path", "list", "app-main", "--json"]).success();
    let output = walk.shell(&script).success();
    assert!(output.said().contains("app-main at "), "{output}");
    let after = server.command(&["path", "list", "app-main", "--json"]).success();
    assert!(before.stdout != after.stdout || output.said().contains("1 present"), "{output}");
}
