//! The commands in the documents are ones that the programs take: names, options, and values as far
//! as their form says.
//!
//! Each is run with `--help` behind it, which changes nothing. The modules run the commands of
//! single pages as they stand there, as `operating_doc` does with those of `docs/operating.md`.

mod ci;
mod client;
mod getting_started;
mod migrating;
mod readme;
mod repair;
mod storage;
mod tokens;

use std::{fs, path::Path};

use snowbank_harness::{Scratch, process};

use crate::document::commands;

/// Why a command in the text of a page is not run.
const NAME: &str = "the name of a command, which needs arguments";

/// The command, where it is one of ours.
fn own(mut words: Vec<String>) -> Option<Vec<String>> {
    let is_before =
        |word: &String| matches!(word.as_str(), "$" | "new$" | "sudo") || word.contains('=');
    let start = words.iter().take_while(|word| is_before(word)).count();
    words.drain(..start);
    let is_own = words.first().is_some_and(|word| word == "snowbank" || word == "snowbankd");
    // A line of a server's own messages, or of its systemd unit, is none.
    (is_own && words.iter().all(|word| !word.contains(['…', '[']))).then_some(words)
}

#[test]
fn a_line_is_read_as_a_shell_reads_it() {
    let line = "$ A=b snowbank login 'x y' \"\" < file | snowbankd check # --no";
    let all: Vec<_> = commands(line).into_iter().filter_map(own).collect();
    assert_eq!(all, [vec!["snowbank", "login", "x y", ""], vec!["snowbankd", "check"]]);
}

#[test]
fn the_programs_take_every_command_in_the_documents() {
    // Where the crate is now, not where it was built: a target folder may serve several clones.
    let root = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..");
    let mut pages = vec![root.join("README.md")];
    pages.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let (scratch, mut count, mut wrong) = (Scratch::new("docs"), 0, Vec::new());
    for page in
        pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md"))
    {
        let text = fs::read_to_string(page).unwrap().replace("\\\n", "");
        // In a session, what has no prompt is an answer.
        let is_command =
            |block: &str, line: &str| !block.starts_with("console") || line.contains("$ ");
        let blocks = text.split("```").skip(1).step_by(2);
        for line in
            blocks.flat_map(|block| block.lines().filter(move |line| is_command(block, line)))
        {
            for words in commands(line.trim_start()).into_iter().filter_map(own) {
                let mut command = process::command(process::binary(&words[0]), scratch.path());
                // Behind `--` are the words of another program.
                let own = words[1..].iter().take_while(|word| *word != "--");
                command.args(own).arg("--help");
                let output = process::run(command);
                count += 1;
                if !output.status.success() {
                    wrong.push(format!("{}: {line}\n{}", page.display(), output.stderr));
                }
            }
        }
    }
    assert!(count > 60, "{count} commands");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
