//! What a push is to push, from the command line and from standard input.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use rustix::fs::FileType;
use snowbank_core::store_path::StoreDir;

use crate::push::PushError;

/// The argument that stands for standard input.
const STDIN: &str = "-";

/// What was named, before it is known where the store is.
#[derive(Debug, Default)]
pub(super) struct Input {
    arguments: Vec<String>,
    /// All of standard input, where it counts.
    text: Option<String>,
}

impl Input {
    /// The arguments, and standard input where it is asked for: by `--stdin`, or by an argument
    /// `-`.
    ///
    /// # Errors
    /// [`PushError::NothingNamed`] when there are neither; standard input cannot be read.
    pub(super) async fn read(
        arguments: &[String],
        stdin: bool,
        quiet: bool,
    ) -> Result<Self, PushError> {
        let reads = stdin || arguments.iter().any(|argument| argument == STDIN);
        let arguments: Vec<String> =
            arguments.iter().filter(|argument| *argument != STDIN).cloned().collect();
        if !reads {
            let is_piped = is_piped();
            return if arguments.is_empty() {
                Err(PushError::NothingNamed { is_piped })
            } else {
                Ok(Self { arguments, text: None })
            };
        }
        if io::stdin().is_terminal() && !quiet {
            writeln!(
                io::stderr(),
                "Reading store paths from the terminal, one per line; Ctrl-D ends the list."
            )
            .map_err(PushError::Output)?;
        }
        // A thread may wait for input while signals are answered; it starts with nothing that must
        // be undone.
        let read = tokio::task::spawn_blocking(|| {
            let mut text = String::new();
            io::stdin().lock().read_to_string(&mut text).map(|_bytes| text)
        });
        let text = read
            .await
            .map_err(|error| PushError::Internal(error.to_string()))?
            .map_err(PushError::Input)?;
        Ok(Self { arguments, text: Some(text) })
    }

    /// Whether standard input was read, and nothing is named there or elsewhere.
    pub(super) fn is_empty(&self) -> bool {
        self.arguments.is_empty() && self.text.as_ref().is_none_or(|text| text.trim().is_empty())
    }

    /// All installables: the arguments, then those of standard input. That has one on each line. A
    /// line whose words are all store paths, as Nix's `OUT_PATHS` is, has one in each word.
    pub(super) fn installables(self, store_dir: &StoreDir) -> Vec<String> {
        let mut installables = self.arguments;
        let text = self.text.unwrap_or_default();
        installables.extend(in_lines(&text, store_dir).into_iter().map(str::to_owned));
        installables
    }
}

/// The installables in the lines of a text.
pub(crate) fn in_lines<'t>(text: &'t str, store_dir: &StoreDir) -> Vec<&'t str> {
    let prefix = format!("{store_dir}/");
    let mut installables = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.split_whitespace().all(|word| word.starts_with(&prefix)) {
            installables.extend(line.split_whitespace());
        } else {
            installables.push(line);
        }
    }
    installables
}

/// Whether standard input is a pipe or a file, so that somebody may have meant it.
fn is_piped() -> bool {
    let kind = rustix::fs::fstat(io::stdin()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::RegularFile | FileType::Socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_store_paths_are_split_and_others_are_not() {
        let text = "/nix/store/a /nix/store/b\t/nix/store/c^out\n\n  ./my result \r\n/nix/store/a \
            file\n/nix/store/d\r\n";
        let input = Input { arguments: vec!["./result".to_owned()], text: Some(text.to_owned()) };
        let expected = [
            "./result",
            "/nix/store/a",
            "/nix/store/b",
            "/nix/store/c^out",
            "./my result",
            "/nix/store/a file",
            "/nix/store/d",
        ];
        assert_eq!(input.installables(&StoreDir::default()), expected);
        assert!(Input { arguments: Vec::new(), text: Some(" \n\n".to_owned()) }.is_empty());
    }
}
