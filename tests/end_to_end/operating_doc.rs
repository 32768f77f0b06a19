//! `docs/operating.md` is true: every command on it is run, in order, and succeeds. With `SNOWBANK_BLESS` set, the answers on
//! the page are replaced by those of the run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use snowbank_harness::{Client, NixStore, Server, process, trees};

/// Stands for the server's address on the page.
const ADDRESS: &str = "https://cache.example.org";

#[test]
fn every_command_on_the_page_for_operators_works() {
    // Where the crate is now, not where it was built: a target folder may serve several clones.
    let page = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../docs/operating.md");
    let text = fs::read_to_string(&page).unwrap();
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let folder = client.home().join("work");
    fs::create_dir(&folder).unwrap();
    let path = trees::add_files(&store, "website", &[("index.html", b"<p>hello</p>".to_vec())]);
    std::os::unix::fs::symlink(store.real_path(&path), folder.join("result")).unwrap();

    // `snowbankd` on the page is run with the server's own settings.
    let bin = client.home().join("bin");
    fs::create_dir(&bin).unwrap();
    let words = |command: &Command| -> String {
        let all = std::iter::once(command.get_program()).chain(command.get_args());
        all.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ")
    };
    let script = |name: &str, command: &Command| {
        let variables: String = command
            .get_envs()
            .filter_map(|(name, value)| Some(format!("export {}='{}'\n", name.to_str()?, value?.to_str()?)))
            .collect();
        let file = bin.join(name);
        fs::write(&file, format!("#!/bin/sh\n{variables}exec {} \"$@\"\n", words(command))).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    script("snowbank", &client.command(&[]));
    script("snowbankd", &server.replicas()[0].command_line());

    let (mut new, mut in_session, mut commands) = (Vec::new(), false, 0);
    for line in text.lines() {
        in_session = match line {
            "```console" => true,
            "```" => false,
            _ => in_session,
        };
        if in_session && let Some(command) = line.strip_prefix("$ ") {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", command]).current_dir(&folder);
            shell.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
            let output = process::run(shell).success();
            commands += 1;
            new.push(line.to_owned());
            let shown = output.said().replace(&server.url(), ADDRESS);
            new.extend(shown.lines().map(|shown| shown.trim_end().to_owned()));
        } else if !in_session || line.starts_with("```") {
            new.push(line.to_owned());
        }
    }
    assert!(commands > 15, "the page has {commands} commands");
    if std::env::var_os("SNOWBANK_BLESS").is_some() {
        fs::write(&page, new.join("\n") + "\n").unwrap();
    }
}
