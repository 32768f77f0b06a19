//! `docs/getting-started.md`: a newcomer's walk, from the first start to the first substitution.

use std::{fs, process::Command};

use snowbank_harness::{Client, NixStore, Server, oracle::Oracle, process};

use crate::document::{Page, Step, Tables, Walk};

const TABLES: Tables = Tables {
    not_run: &[
        ("snowbank", super::NAME),
        (
            "cargo install --locked --path server && cargo install --locked --path client",
            "it builds what this test runs",
        ),
        ("sudo snowbank use main --system", "it changes this machine; `use_cache` does the same"),
    ],
    given: &[],
    ends_with: &[],
};

#[test]
fn a_newcomer_gets_from_the_first_start_to_the_first_substitution() {
    let page = Page::read("docs/getting-started.md");
    let store = NixStore::new();
    let client = Client::new(&store);
    let mut walk = Walk::new(&client, TABLES);
    let data = client.home().join(".local/share/snowbank");
    let server = Server::options().data_dir(&data).start();
    walk.programs.add_command("snowbankd", &Command::new(process::binary("snowbankd")));
    walk.replace("http://127.0.0.1:8080", server.url());
    // Each command has a shell of its own.
    walk.replace("path=$(readlink ./result)", "readlink ./result > ../path".to_owned());
    walk.replace("\"$path\"", "\"$(cat ../path)\"".to_owned());

    let mut has_started = false;
    for step in page.steps() {
        match &step {
            // Its start without any option is `first_start`'s matter.
            Step::Command { text, .. } if text == "snowbankd" => has_started = true,
            Step::File { language, text } => {
                assert_eq!(language, "nix");
                fs::write(walk.join("first.nix"), text).unwrap();
            }
            Step::Command { text, .. } if text == "rm ./result" => {
                walk.follow(&step);
                let path = fs::read_to_string(client.home().join("path")).unwrap();
                assert!(Oracle::main(&server).visible(path.trim()));
            }
            Step::Command { text, .. } if text.contains("--realise") => {
                let path = fs::read_to_string(client.home().join("path")).unwrap();
                let valid = store.run("nix-store", &["--check-validity", path.trim()]);
                assert!(!valid.status.success(), "it is gone before it is fetched");
                walk.follow(&step);
                let _ = store.run("nix-store", &["--check-validity", path.trim()]).success();
            }
            _ => walk.follow(&step),
        }
    }
    assert!(has_started);
    walk.finish(10);
}
