//! `docs/operating.md` is true: every command on it is run, in order, and succeeds. With
//! `SNOWBANK_BLESS` set, the answers on the page are replaced by those of the run.
//!
//! An answer with a line `…` leaves out lines there. The lines that it has are those of the run
//! that begin with the same words, in the same order; one that the run does not have is a failure.
//!
//! `systemctl` on the page is this test's own; what stands behind the prompt `new$ ` is run on
//! another host, which is another data folder. The last section is about SQLite and a folder, and
//! left out elsewhere.

use std::fs;
use std::process::Command;

use snowbank_harness::{Client, NixStore, Server, oracle, process, trees};

use crate::document::{Page, Programs};

/// Stands for the server's address on the page.
const ADDRESS: &str = "https://cache.example.org";
/// Stands for a server's data folder, and for a place for backups.
const DATA: &str = "/var/lib/snowbank";
const BACKUP: &str = "/backup";
/// The prompts of the two hosts.
const PROMPTS: [&str; 2] = ["$ ", "new$ "];
/// Stands on the page for lines of an answer that are left out.
const ELISION: &str = "…";
/// Where the section begins that needs SQLite and a folder.
const LOCAL: &str = "## Back up and restore";

#[test]
fn every_command_on_the_page_for_operators_works() {
    let Page { file: page, text } = Page::read("docs/operating.md");
    let (mut server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let folder = client.home().join("work");
    fs::create_dir(&folder).unwrap();
    for (link, contents) in
        [("result", "hello"), ("result-new", "hello again"), ("result-later", "later")]
    {
        let file = format!("<p>{contents}</p>").into_bytes();
        let path = trees::add_files(&store, "website", &[("index.html", file)]);
        std::os::unix::fs::symlink(store.real_path(&path), folder.join(link)).unwrap();
    }
    let backup = client.home().join("backup");
    fs::create_dir(&backup).unwrap();

    // `snowbankd` on the page is run with the server's own settings.
    let here = Programs::new(client.home().join("bin"));
    here.add_command("snowbank", &client.command(&[]));
    here.add_command("snowbankd", &server.replicas()[0].command_line());
    let there = Programs::new(client.home().join("bin-new"));
    let new_data = client.home().join("new/snowbank");
    fs::create_dir(new_data.parent().unwrap()).unwrap();
    let mut new_command = process::command(process::binary("snowbankd"), client.home());
    new_command.arg("--data-dir").arg(&new_data);
    there.add_command("snowbankd", &new_command);
    there.add("scp", "shift; exec cp -a \"$@\"");
    let mut new_server = None;

    let (mut new, mut in_session, mut commands) = (Vec::new(), false, 0);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next_if(|line| *line != LOCAL || server.shared().is_none()) {
        in_session = match line {
            "```console" => true,
            "```" => false,
            _ => in_session,
        };
        let [old_prompt, new_prompt] = PROMPTS;
        let prompts = [
            (old_prompt, &here, server.data_dir().to_owned()),
            (new_prompt, &there, new_data.clone()),
        ];
        let given = prompts.iter().find_map(|(prompt, programs, data)| {
            Some((line.strip_prefix(prompt)?, programs, data))
        });
        if in_session && let Some((command, programs, data)) = given {
            new.push(line.to_owned());
            commands += 1;
            let written: Vec<&str> =
                std::iter::from_fn(|| lines.next_if(|line| is_answer(line))).collect();
            match (command, line.starts_with(new_prompt)) {
                ("systemctl stop snowbankd", false) => assert!(server.terminate().success()),
                ("systemctl start snowbankd", false) => server.start_again(),
                ("systemctl start snowbankd", true) => {
                    new_server = Some(Server::options().data_dir(&new_data).start());
                }
                _ => {
                    let (data, backup) = (data.to_str().unwrap(), backup.to_str().unwrap());
                    let old = server.data_dir().to_str().unwrap();
                    let command =
                        command.replace(&format!("old:{DATA}"), old).replace(BACKUP, backup);
                    let mut shell = Command::new("/bin/sh");
                    shell.args(["-c", &command.replace(DATA, data)]).current_dir(&folder);
                    shell.env("PATH", format!("{}:/usr/bin:/bin", programs.folder.display()));
                    let shown = process::run(shell).success().said();
                    let shown = shown
                        .replace(&server.url(), ADDRESS)
                        .replace(data, DATA)
                        .replace(backup, BACKUP);
                    let shown = shown.lines().map(|shown| shown.trim_end().to_owned()).collect();
                    new.extend(elide(&written, shown));
                }
            }
        } else if !in_session || line.starts_with("```") {
            new.push(line.to_owned());
        }
    }
    assert!(commands > 15, "the page has {commands} commands");
    if let Some(moved) = &new_server {
        assert_eq!(moved.root_token(), server.root_token());
        let stored = |server: &Server| fs::read(server.data_dir().join("server-key")).unwrap();
        assert!(stored(moved) == stored(&server), "the keys are those of the old host");
        oracle::assert_check_is_clean(moved);
    }
    if std::env::var_os("SNOWBANK_BLESS").is_some() && server.shared().is_none() {
        fs::write(&page, new.join("\n") + "\n").unwrap();
    }
}

/// Whether a line of a session belongs to an answer.
fn is_answer(line: &str) -> bool {
    !line.starts_with("```") && !PROMPTS.iter().any(|prompt| line.starts_with(prompt))
}

/// The first word of a line, which is the same in every run.
fn first_word(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

/// The answer for the page: `shown`, without the lines that `old`, the answer on the page, leaves
/// out.
fn elide(old: &[&str], shown: Vec<String>) -> Vec<String> {
    if !old.contains(&ELISION) {
        return shown;
    }
    let (mut rest, mut kept) = (shown.iter(), Vec::new());
    for line in old {
        if *line == ELISION {
            kept.push(ELISION.to_owned());
            continue;
        }
        let found = rest.find(|shown| first_word(shown) == first_word(line));
        kept.push(found.unwrap_or_else(|| panic!("no line `{line}` in {shown:#?}")).clone());
    }
    kept
}

#[test]
fn lines_that_an_answer_leaves_out_stay_out() {
    let shown: Vec<String> = ["a  1", "b  2", "c  3", "d  4"].map(str::to_owned).to_vec();
    assert_eq!(elide(&["a  0", "…", "c  0", "…"], shown.clone()), ["a  1", "…", "c  3", "…"]);
    assert_eq!(elide(&["x  0"], shown.clone()), shown, "without `…` all of it is replaced");
}
