//! `snowbank watch-store` and `snowbank exec`: their arguments.

use std::ffi::OsString;

use clap::Args;
use snowbank_cli::args::parse_nonzero_time;
use snowbank_core::units::Seconds;

use super::push_flags::PushFlags;
use super::queue::QueueFolderArgs;

/// `snowbank watch-store CACHE`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Every path that is built on this machine or added to its store is put into the queue, with
everything that it refers to, and pushed at once. What the store held before stays out, and so do derivations.
Paths that were queued and not pushed stay in the queue: `snowbank queue list` shows them.

Examples:
  snowbank watch-store main
  snowbank watch-store work:main --include-substituted --store local?root=/mnt")]
pub struct WatchStoreArgs {
    /// The cache to push to
    #[arg(value_name = "[SERVER:]CACHE")]
    pub cache: String,

    /// Push also paths that come from binary caches and other machines
    #[arg(long)]
    pub include_substituted: bool,

    /// The queue.
    #[command(flatten)]
    pub folder: QueueFolderArgs,

    /// How paths are pushed.
    #[command(flatten)]
    pub flags: PushFlags,
}

/// `snowbank exec CACHE -- COMMAND…`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
COMMAND runs as it is, with the standard streams of this process. All that Nix builds for it is
pushed meanwhile, with everything that it refers to. For a user whom the Nix daemon does not trust,
all that is built on this machine meanwhile is pushed. When COMMAND has ended, the rest is pushed,
and one line sums up.

The exit code is COMMAND's, 128 and the number of the signal that ended it, 127 when there is no
such program, or 126 when it cannot be started. `snowbank --help` lists the codes of --require-push.

Examples:
  snowbank exec main -- nix build .#site
  snowbank exec main --require-push --timeout 30m -- nix-build release.nix")]
pub struct ExecArgs {
    /// The cache to push to
    #[arg(value_name = "[SERVER:]CACHE")]
    pub cache: String,

    /// The command that builds, with its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    pub command: Vec<OsString>,

    /// Fail when COMMAND succeeds and a path that it built is not pushed
    #[arg(long)]
    pub require_push: bool,

    /// How long to push after COMMAND has ended, such as 30m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_nonzero_time)]
    pub timeout: Seconds,

    /// How paths are pushed.
    #[command(flatten)]
    pub flags: PushFlags,
}
