//! `snowbank hook` and `snowbank queue`: their arguments.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use snowbank_cli::args::parse_nonzero_time;
use snowbank_core::units::Seconds;

use super::push_flags::PushFlags;

/// `snowbank hook CACHE`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Nix runs a post-build hook after each build, with the new store paths in OUT_PATHS. The hook appends
them to a queue and contacts no server. `snowbank queue run` pushes them. When the queue cannot be
written, the hook prints a warning and ends with 0, since a hook that fails makes the build fail.

Examples:
  snowbank hook main --write /etc/nix/snowbank-hook   # and in nix.conf: post-build-hook = that file
  OUT_PATHS=/nix/store/…-hello snowbank hook work:main")]
pub struct HookArgs {
    /// The cache that the paths are for
    #[arg(value_name = "[SERVER:]CACHE")]
    pub cache: String,

    /// Write an executable script for nix.conf's post-build-hook to FILE, and queue nothing
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// Fail when the paths cannot be queued; Nix then fails the build
    #[arg(long)]
    pub strict: bool,

    /// Let Nix collect paths that wait
    #[arg(long)]
    pub no_gc_roots: bool,

    /// Queue nothing more when so many entries are in the queue
    #[arg(long, value_name = "N", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub max_entries: u64,

    /// The queue.
    #[command(flatten)]
    pub folder: QueueFolderArgs,
}

/// Which queue is meant.
#[derive(Debug, Clone, Args)]
pub struct QueueFolderArgs {
    /// The queue's folder (default: `SNOWBANK_QUEUE`, else for root /var/lib/snowbank/queue, else
    /// ~/.local/state/snowbank/queue)
    #[arg(long, value_name = "DIR")]
    pub queue: Option<PathBuf>,
}

/// `snowbank queue …`.
#[derive(Debug, Clone, Subcommand)]
pub enum QueueCommand {
    /// Push what the hook has queued, and go on with what it queues later
    #[command(after_help = "\
A path that is in the cache leaves the queue. A path that the server refuses, that differs from the
cache's, or that is damaged here is set aside with the reason. Everything else is tried again, after
5 seconds at first and every hour in the end.

Examples:
  snowbank queue run          # as a service
  snowbank queue run --once   # from a timer, or at the end of a job")]
    Run(QueueRunArgs),
    /// Show what waits and what was set aside, with the reasons
    #[command(after_help = "Example:\n  snowbank queue list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The queue.
        #[command(flatten)]
        folder: QueueFolderArgs,
    },
    /// Make paths due at once, also those that were set aside; without PATH, all
    #[command(after_help = "Examples:\n  snowbank queue retry\n  \
        snowbank queue retry /nix/store/…-hello-2.12")]
    Retry {
        /// Store paths, their base names, or symlinks to them
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
        /// The queue.
        #[command(flatten)]
        folder: QueueFolderArgs,
    },
    /// Take paths out of the queue without pushing them
    #[command(after_help = "Examples:\n  snowbank queue drop /nix/store/…-hello-2.12\n  \
        snowbank queue drop --all")]
    Drop {
        /// Store paths, their base names, or symlinks to them
        #[arg(value_name = "PATH", required_unless_present = "all", conflicts_with = "all")]
        paths: Vec<String>,
        /// Take out everything
        #[arg(long)]
        all: bool,
        /// The queue.
        #[command(flatten)]
        folder: QueueFolderArgs,
    },
    /// Wait until nothing waits in the queue; code 12 if paths were set aside, 6 when it takes too
    /// long
    #[command(after_help = "Example:\n  nix-build && snowbank queue wait --timeout 10m")]
    Wait {
        /// How long, such as 10m (default: for ever)
        #[arg(long, value_name = "TIME", value_parser = parse_nonzero_time)]
        timeout: Option<Seconds>,
        /// The queue.
        #[command(flatten)]
        folder: QueueFolderArgs,
    },
}

/// `snowbank queue run`.
#[derive(Debug, Clone, Args)]
pub struct QueueRunArgs {
    /// End when nothing is due; the code is that of the worst outcome
    #[arg(long)]
    pub once: bool,

    /// What is pushed, and how.
    #[command(flatten)]
    pub flags: PushFlags,

    /// The queue.
    #[command(flatten)]
    pub folder: QueueFolderArgs,
}
