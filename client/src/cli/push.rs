//! `snowbank push`: its arguments.

use std::path::PathBuf;

use clap::Args;
use snowbank_core::pin_name::PinName;
use snowbank_core::wire::admin::pins::MAX_KEPT;

use super::push_flags::PushFlags;

/// `snowbank push CACHE INSTALLABLE…`.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, independent of the others"
)]
#[command(after_help = "Examples:
  snowbank push main ./result
  snowbank push work:main /nix/store/…-hello-2.12 ./result-dev
  snowbank push main /nix/store/…-hello.drv^out,dev
  nix-build | snowbank push main --stdin --receipts receipts.jsonl
  snowbank push main ./result --check-upstream https://cache.example.org
  snowbank push main ./result --pin latest       # kept, and named for whoever deploys it
  snowbank push main ./result --expires 24h      # for the next job
  snowbank push main ./result --best-effort      # a server that is down does not fail the job

`snowbank --help` lists the exit codes.")]
pub struct PushArgs {
    /// The cache to push to
    #[arg(value_name = "[SERVER:]CACHE")]
    pub cache: String,

    /// Store paths, files inside them, symlinks to them, or outputs of a derivation (PATH.drv^out,
    /// PATH.drv^*); `-` for standard input
    #[arg(value_name = "INSTALLABLE")]
    pub installables: Vec<String>,

    /// Read installables from standard input as well, one per line; a line of store paths only may
    /// have several
    #[arg(long)]
    pub stdin: bool,

    /// Write a receipt for each path, as it is acknowledged, to FILE as JSON lines; what FILE held
    /// is replaced
    #[arg(long, value_name = "FILE")]
    pub receipts: Option<PathBuf>,

    /// Print the receipts and a summary as JSON lines on standard output
    #[arg(long)]
    pub json: bool,

    /// Push only the paths named, not what they refer to
    #[arg(long)]
    pub no_closure: bool,

    /// Ask what is missing and say what would be pushed, but push nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Have the server read back the paths that it has already, and push again those that are not
    /// whole
    #[arg(long, conflicts_with = "dry_run")]
    pub verify_present: bool,

    /// Only warn, and exit with 0, when the server cannot be reached or fails; a wrong token or a
    /// refused path is still an error
    #[arg(long)]
    pub best_effort: bool,

    /// What is pushed, and how.
    #[command(flatten)]
    pub flags: PushFlags,

    /// Pin the one path that is named, in the moment in which it is there: it is kept until the pin
    /// is removed, and is what SERVER/CACHE/pins/NAME says
    #[arg(long, value_name = "NAME", conflicts_with = "dry_run")]
    pub pin: Option<PinName>,

    /// Keep the paths of so many generations of the pin (default: as many as before, 5 for a new
    /// one)
    #[arg(long, value_name = "N", requires = "pin",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_KEPT)))]
    pub pin_keep: Option<u32>,
}
