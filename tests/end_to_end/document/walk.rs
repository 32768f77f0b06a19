//! Runs the commands of a page, in order, in a folder of their own.
//!
//! Every command is run or named by [`Tables::not_run`]. An entry of a table and a stand-in for an
//! example that no command uses fail the test, so that the tables keep up with the page.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use snowbank_harness::{Client, Output, process};

use super::{Programs, Step, commands};

/// The programs that the commands of a page may call. Everything that is not ours is harmless.
const MAY_RUN: [&str; 18] = [
    "cat",
    "chmod",
    "curl",
    "echo",
    "export",
    "jq",
    "mkdir",
    "mv",
    "nix",
    "nix-build",
    "nix-store",
    "printenv",
    "readlink",
    "rm",
    "snowbank",
    "snowbankd",
    "sudo",
    "token",
];

/// How the commands of a page differ from others. The first text of each entry is a command, as on
/// the page and without its comment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tables {
    /// Commands that are not run, and the reason.
    pub not_run: &'static [(&'static str, &'static str)],
    /// What is run before a command: what the page takes for granted.
    pub given: &'static [(&'static str, &'static str)],
    /// Exit codes, where the page names one that is not 0.
    pub ends_with: &'static [(&'static str, i32)],
}

/// A user at a shell who follows a page.
#[derive(Debug)]
pub struct Walk<'c> {
    /// Where the commands run.
    pub folder: PathBuf,
    /// What is on their `PATH` before the machine's programs.
    pub programs: Programs,
    client: &'c Client,
    tables: Tables,
    stand_ins: Vec<(&'static str, String)>,
    environment: Vec<(&'static str, String)>,
    used: BTreeSet<&'static str>,
    wrong: Vec<String>,
    runs: usize,
}

impl<'c> Walk<'c> {
    /// Prepares a folder in the home folder of `client`, whose Nix store the commands use.
    pub fn new(client: &'c Client, tables: Tables) -> Self {
        let folder = client.home().join("work");
        fs::create_dir(&folder).unwrap();
        let programs = Programs::new(client.home().join("bin"));
        programs.add_command("snowbank", &Command::new(process::binary("snowbank")));
        programs.add("sudo", "exec \"$@\"");
        let mut walk = Self {
            folder,
            programs,
            client,
            tables,
            stand_ins: Vec::new(),
            environment: Vec::new(),
            used: BTreeSet::new(),
            wrong: Vec::new(),
            runs: 0,
        };
        let system = client.home().join("etc/snowbank/client.toml");
        walk.set("SNOWBANK_SYSTEM_CONFIG", system.to_str().unwrap());
        walk.set("NIX_CONFIG", "experimental-features = nix-command flakes");
        walk
    }

    /// Lets `value` stand for an example of the page.
    pub fn replace(&mut self, example: &'static str, value: impl Into<String>) {
        self.stand_ins.push((example, value.into()));
    }

    /// Sets a variable for all commands.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.push((name, value.into()));
    }

    /// Replaces the page's examples in a text.
    pub fn filled(&mut self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (example, value) in &self.stand_ins {
            if filled.contains(example) {
                self.used.insert(example);
                filled = filled.replace(example, value);
            }
        }
        filled
    }

    /// Runs a step that is a command; others are none of this function's.
    pub fn follow(&mut self, step: &Step) {
        let Step::Command { line, text, .. } = step else { return };
        if let Some((command, _)) = self.tables.not_run.iter().find(|(one, _)| one == text) {
            self.used.insert(command);
            return;
        }
        if let Some((command, before)) = self.tables.given.iter().find(|(one, _)| one == text)
            && self.used.insert(command)
        {
            let before = self.shell(before);
            if !before.status.success() {
                self.wrong.push(format!("before line {line}: {before}"));
            }
        }
        let code = self.tables.ends_with.iter().find(|(one, _)| one == text);
        self.used.extend(code.map(|(command, _)| command));
        let script = self.filled(text);
        assert_known(*line, &script);
        let output = self.shell(&script);
        let expected = code.map_or(0, |(_, code)| *code);
        if output.code() != Some(expected) {
            self.wrong.push(format!("line {line}: {text}\nrun as {script}\n{output}"));
        }
        self.runs += 1;
    }

    /// Runs a script with `sh -e`, as a job's service does.
    pub fn shell(&self, script: &str) -> Output {
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().args(["-e", "-c", script]).current_dir(&self.folder);
        let own = self.client.command(&[]);
        shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let path = std::env::var("PATH").unwrap();
        shell.env("PATH", format!("{}:{path}", self.programs.folder.display()));
        shell.envs(self.environment.iter().map(|(name, value)| (name, value)));
        process::run(shell)
    }

    /// Where a name in the commands' folder leads.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// The page is at its end: all commands did as it says, all that was prepared for it was used,
    /// and it has at least so many commands.
    pub fn finish(self, least: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        let Tables { not_run, given, ends_with } = self.tables;
        let texts = not_run.iter().chain(given).map(|(command, _)| *command);
        let all = texts.chain(ends_with.iter().map(|(command, _)| *command));
        let all = all.chain(self.stand_ins.iter().map(|(example, _)| *example));
        let unused: Vec<_> = all.filter(|one| !self.used.contains(one)).collect();
        assert!(unused.is_empty(), "not on the page any more: {unused:?}");
        assert!(self.runs >= least, "only {} commands ran", self.runs);
    }
}

fn assert_known(line: usize, script: &str) {
    for words in script.lines().flat_map(commands) {
        let word = words.iter().find(|word| !word.contains('='));
        let is_known = word.is_none_or(|word| MAY_RUN.contains(&word.as_str()));
        assert!(is_known, "line {line}: {words:?} is neither run nor named as not run");
    }
}
