//! The flags of all commands that push: which paths, from which store, for how long.

use clap::Args;
use snowbank_cli::args::parse_nonzero_time;
use snowbank_core::units::{Seconds, Size};

/// The flags of `push` and `queue run`.
#[derive(Debug, Clone, Args)]
pub struct PushFlags {
    /// Paths read and compressed at the same time (default: the number of processors, at most 8)
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,

    /// Which paths are left out.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Keep what is pushed for this long and no longer, whoever reads it, such as 24h; what the
    /// cache keeps for longer already stays so
    #[arg(long, value_name = "TIME", value_parser = parse_nonzero_time)]
    pub expires: Option<Seconds>,

    /// Do not send the build logs that the store has of what is pushed
    #[arg(long)]
    pub no_logs: bool,

    /// The Nix store to push from: auto, daemon, `unix://SOCKET`, local, `local?root=DIR` or DIR
    /// (default: nix.conf's `store`, else `NIX_REMOTE`, else auto)
    #[arg(long, value_name = "URI")]
    pub store: Option<String>,
}

/// Which paths of a closure are left out.
#[derive(Debug, Clone, Args)]
pub struct SelectionArgs {
    /// Push paths signed by the cache's upstream keys (cache.nixos.org-1) too
    #[arg(long)]
    pub no_upstream_filter: bool,

    /// Leave out what the binary cache at this address has with the same contents; may be given
    /// several times
    #[arg(long, value_name = "URL", conflicts_with = "no_upstream_filter")]
    pub check_upstream: Vec<String>,

    /// Leave out paths whose name (the part after the hash) has a match of this regular expression,
    /// and what refers to them; may be given several times, and adds to the configuration's
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub exclude: Vec<String>,

    /// Leave out paths whose name has no match of this regular expression, and what refers to them;
    /// may be given several times, and replaces the configuration's
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub only: Vec<String>,

    /// Leave out paths with a larger NAR, such as 2GiB, and what refers to them; replaces the
    /// configuration's
    #[arg(long, value_name = "SIZE")]
    pub max_path_size: Option<Size>,
}
