//! What a page says, in order: commands, outputs and files.
//!
//! Commands are the lines of blocks without a language (or `sh`), and code in the text that begins
//! with a program's name. A block `text` is output, and every other block is a file.

use std::{fs, path::PathBuf};

use super::words::without_comment;

/// Code in the text that begins with one of these words is a command.
const PROGRAMS: [&str; 20] = [
    "apt",
    "aws",
    "cargo",
    "chmod",
    "cp",
    "curl",
    "docker",
    "mkdir",
    "mv",
    "nix",
    "nix-build",
    "nix-store",
    "nixos-rebuild",
    "printenv",
    "rm",
    "rsync",
    "snowbank",
    "snowbankd",
    "sudo",
    "systemctl",
];

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Where it is.
    pub file: PathBuf,
    /// All of it.
    pub text: String,
}

/// A part of a page that a test runs or compares.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A command, without its comment.
    Command {
        /// Counted from 1.
        line: usize,
        /// On one line.
        text: String,
        /// Whether it stands in the text rather than in a block.
        is_inline: bool,
    },
    /// What a program prints.
    Output(String),
    /// A file, or a part of one.
    File {
        /// The language of its block.
        language: String,
        /// All of it.
        text: String,
    },
}

impl Page {
    /// Reads a page, which is named by its path in the repository.
    pub fn read(name: &str) -> Self {
        // Where the crate is now, not where it was built: a target folder may serve several clones.
        let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..");
        let file = root.join(name);
        let text = fs::read_to_string(&file).unwrap();
        Self { file, text }
    }

    /// All steps, in the order of the page.
    pub fn steps(&self) -> Vec<Step> {
        let (mut steps, mut line) = (Vec::new(), 1);
        for (number, part) in self.text.split("```").enumerate() {
            if number % 2 == 0 {
                add_inline(part, line, &mut steps);
            } else {
                add_block(part, line, &mut steps);
            }
            line += part.matches('\n').count();
        }
        steps
    }

    /// All its files of a language.
    pub fn files(&self, language: &str) -> Vec<String> {
        let of = |step| match step {
            Step::File { language: own, text } => (own == language).then_some(text),
            _ => None,
        };
        self.steps().into_iter().filter_map(of).collect()
    }

    /// The code that stands alone in the first column of a table, up to the next heading, behind
    /// the heading that contains `heading`.
    pub fn first_column(&self, heading: &str) -> Vec<String> {
        let is_heading = |line: &str| line.starts_with('#') && line.contains(heading);
        let section = self.text.lines().skip_while(|line| !is_heading(line)).skip(1);
        let cells = section
            .take_while(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once(" |")?.0.to_owned()));
        cells
            .flat_map(|cell| {
                cell.split(", ").map(|one| one.trim_matches('`').to_owned()).collect::<Vec<_>>()
            })
            .collect()
    }
}

fn add_inline(text: &str, first: usize, steps: &mut Vec<Step>) {
    let mut line = first;
    for (number, part) in text.split('`').enumerate() {
        let text = part.replace('\n', " ");
        if number % 2 == 1 && text.split(' ').next().is_some_and(|word| PROGRAMS.contains(&word)) {
            steps.push(Step::Command { line, text, is_inline: true });
        }
        line += part.matches('\n').count();
    }
}

fn add_block(block: &str, line: usize, steps: &mut Vec<Step>) {
    let (language, text) = block.split_once('\n').unwrap();
    match language {
        "" | "sh" => {
            let joined = text.replace("\\\n", " ");
            let commands = joined.lines().map(without_comment).enumerate();
            steps.extend(commands.filter(|(_, text)| !text.is_empty()).map(|(index, text)| {
                Step::Command { line: line + 1 + index, text: text.to_owned(), is_inline: false }
            }));
        }
        "text" => steps.push(Step::Output(text.to_owned())),
        _ => steps.push(Step::File { language: language.to_owned(), text: text.to_owned() }),
    }
}

#[test]
fn a_page_is_read_in_order() {
    let text = "Run `snowbank whoami`, `--json` or\n`nix\ncopy`:\n\n```\na  # b\n\n# c\nd\n```\n\n\
                ```text\ne\n```\n```toml\nf = 1\n```\n";
    let page = Page { file: PathBuf::new(), text: text.to_owned() };
    let command =
        |line, text: &str, is_inline| Step::Command { line, text: text.to_owned(), is_inline };
    let file = Step::File { language: "toml".to_owned(), text: "f = 1\n".to_owned() };
    let expected = [
        command(1, "snowbank whoami", true),
        command(2, "nix copy", true),
        command(6, "a", false),
        command(9, "d", false),
        Step::Output("e\n".to_owned()),
        file,
    ];
    assert_eq!(page.steps(), expected);
}
