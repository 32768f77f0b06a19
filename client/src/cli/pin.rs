//! `snowbank pin`: its arguments.

use clap::{Args, Subcommand};
use snowbank_cli::args::PinKeepArgs;
use snowbank_core::pin_name::PinName;

use super::operator::CacheArgs;

/// `snowbank pin CACHE NAME PATH`, and `snowbank pin COMMAND …`.
#[derive(Debug, Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "A pinned path is kept, with all that it refers to, and so is what the name stood \
        for before, as many \
generations as --keep says. `SERVER/CACHE/pins/NAME` is the path that it stands for.

Examples:
  snowbank pin main latest ./result
  snowbank push main ./result --pin latest
  snowbank pin work:main pr-17 /nix/store/…-website --expires 30d
  snowbank pin list main
  snowbank pin rollback main latest
  snowbank pin set list latest ./result   # for a cache that is called like one of the commands"
)]
pub struct PinArgs {
    #[command(subcommand)]
    pub command: Option<PinCommand>,
    /// The cache
    #[arg(value_name = "[SERVER:]CACHE", required = true)]
    pub cache: Option<String>,
    /// The pin: 1 to 100 letters, digits, `.`, `_`, `+` and `-`
    #[arg(value_name = "NAME", required = true)]
    pub name: Option<PinName>,
    /// A store path in the cache, its base name or its hash part, or a symlink to one
    #[arg(value_name = "PATH", required = true)]
    pub path: Option<String>,
    #[command(flatten)]
    pub keep: PinKeepArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `snowbank pin set CACHE NAME PATH`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  snowbank pin set main latest ./result --keep 10")]
pub struct SetPinArgs {
    #[command(flatten)]
    pub target: CacheArgs,
    /// The pin: 1 to 100 letters, digits, `.`, `_`, `+` and `-`
    #[arg(value_name = "NAME")]
    pub name: PinName,
    /// A store path in the cache, its base name or its hash part, or a symlink to one
    #[arg(value_name = "PATH")]
    pub path: String,
    #[command(flatten)]
    pub keep: PinKeepArgs,
}

/// Which pin is meant, and how the answer is printed.
#[derive(Debug, Clone, Args)]
pub struct NamedPinArgs {
    #[command(flatten)]
    pub target: CacheArgs,
    /// The pin
    #[arg(value_name = "NAME")]
    pub name: PinName,
}

/// `snowbank pin …`
#[derive(Debug, Clone, Subcommand)]
pub enum PinCommand {
    /// Pin a path, as without `set`
    Set(SetPinArgs),
    /// List a cache's pins
    #[command(after_help = "Example:\n  snowbank pin list main")]
    List(CacheArgs),
    /// Show a pin, and the paths that it stood for before and keeps
    #[command(visible_alias = "history", after_help = "Example:\n  snowbank pin show main latest")]
    Show(NamedPinArgs),
    /// Remove a pin; its paths are kept as long as any others from then on
    #[command(visible_alias = "remove", after_help = "Example:\n  snowbank pin rm main pr-17")]
    Rm(NamedPinArgs),
    /// Have a pin stand again for what it stood for before
    #[command(
        after_help = "Examples:\n  snowbank pin rollback main latest\n  snowbank pin rollback main \
            latest --to 12"
    )]
    Rollback {
        #[command(flatten)]
        pin: NamedPinArgs,
        /// The generation (default: the one before the current one)
        #[arg(long, value_name = "GENERATION")]
        to: Option<u64>,
    },
}
