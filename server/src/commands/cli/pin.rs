//! The command line of `snowbankd pin`.

use clap::{Args, Subcommand};
use snowbank_cli::args::PinKeepArgs;
use snowbank_core::cache_name::CacheName;
use snowbank_core::pin_name::PinName;

use super::Output;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  snowbankd pin main latest /nix/store/…-website --keep \
        10\n  snowbankd pin list main\n  \
                  snowbankd pin rollback main latest\n\nFor a cache that is called like one of the \
                  commands: \
                  snowbankd pin set CACHE NAME PATH"
)]
pub(in crate::commands) struct PinArgs {
    #[command(subcommand)]
    pub command: Option<PinCommand>,
    /// The cache.
    #[arg(value_name = "CACHE", required = true)]
    pub cache: Option<CacheName>,
    /// The pin: 1 to 100 letters, digits, `.`, `_`, `+` and `-`.
    #[arg(value_name = "NAME", required = true)]
    pub name: Option<PinName>,
    /// A store path in the cache, its base name or its hash part, or a symlink to one.
    #[arg(value_name = "PATH", required = true)]
    pub path: Option<String>,
    #[command(flatten)]
    pub keep: PinKeepArgs,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(in crate::commands) struct SetPinArgs {
    /// The cache.
    #[arg(value_name = "CACHE")]
    pub cache: CacheName,
    /// The pin: 1 to 100 letters, digits, `.`, `_`, `+` and `-`.
    #[arg(value_name = "NAME")]
    pub name: PinName,
    /// A store path in the cache, its base name or its hash part, or a symlink to one.
    #[arg(value_name = "PATH")]
    pub path: String,
    #[command(flatten)]
    pub keep: PinKeepArgs,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(in crate::commands) struct NamedPinArgs {
    /// The cache.
    #[arg(value_name = "CACHE")]
    pub cache: CacheName,
    /// The pin.
    #[arg(value_name = "NAME")]
    pub name: PinName,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub(in crate::commands) enum PinCommand {
    /// Pin a path, as without `set`.
    Set(SetPinArgs),
    /// List a cache's pins.
    List {
        /// The cache.
        #[arg(value_name = "CACHE")]
        cache: CacheName,
        #[command(flatten)]
        output: Output,
    },
    /// Show a pin, and the paths that it stood for before and keeps.
    #[command(visible_alias = "history")]
    Show(NamedPinArgs),
    /// Remove a pin; its paths are kept as long as any others from then on.
    #[command(visible_alias = "remove")]
    Rm(NamedPinArgs),
    /// Have a pin stand again for what it stood for before.
    Rollback {
        #[command(flatten)]
        pin: NamedPinArgs,
        /// The generation [default: the one before the current one].
        #[arg(long, value_name = "GENERATION")]
        to: Option<u64>,
    },
}
