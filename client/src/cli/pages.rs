//! `snowbank completions` and `snowbank man`: their arguments.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `snowbank completions SHELL`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  snowbank completions bash > ~/.local/share/bash-completion/completions/snowbank
  snowbank completions zsh > ~/.zfunc/_snowbank
  snowbank completions fish > ~/.config/fish/completions/snowbank.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// `snowbank man`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  snowbank man | man -l -
  snowbank man --output ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Write snowbank.1 and a page per subcommand into this folder
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}
