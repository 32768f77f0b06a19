//! `snowbank fetch`: its arguments.

use std::path::PathBuf;

use clap::Args;
use snowbank_core::pin_name::PinName;

/// `snowbank fetch CACHE PATH…`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The store paths are printed on standard output, and everything else on standard error. Nothing is
built, and no other cache is asked but those of --upstream. Without --out-link, nothing keeps the
paths from the next garbage collection.

Examples:
  snowbank fetch main --pin run-17 --receipts receipts.jsonl --out-link ./result
  path=$(snowbank fetch main /nix/store/…-website)

`snowbank --help` lists the exit codes.")]
pub struct FetchArgs {
    /// The cache to fetch from
    #[arg(value_name = "[SERVER:]CACHE")]
    pub cache: String,

    /// Store paths, their base names, or symlinks to them
    #[arg(value_name = "PATH", required_unless_present = "pins")]
    pub paths: Vec<String>,

    /// Fetch the path that this pin stands for; may be given several times
    #[arg(long = "pin", value_name = "NAME")]
    pub pins: Vec<PinName>,

    /// Compare every path with the receipts in FILE, as `snowbank push --receipts` writes them; -
    /// for standard input
    #[arg(long, value_name = "FILE")]
    pub receipts: Option<PathBuf>,

    /// Accept paths for which FILE has no line
    #[arg(long, requires = "receipts")]
    pub partial_receipts: bool,

    /// Read every path from the disk, and compare its contents with its NAR hash
    #[arg(long)]
    pub verify: bool,

    /// Accept signatures by this key only, not by those that the server names; may be given several
    /// times
    #[arg(long = "public-key", value_name = "NAME:KEY")]
    pub public_keys: Vec<String>,

    /// Fetch paths that the cache does not have from this binary cache, whose key nix.conf trusts;
    /// may be given several times
    #[arg(long = "upstream", value_name = "URL")]
    pub upstreams: Vec<String>,

    /// Make this symlink to the path, and have Nix keep the path as long as the symlink is there;
    /// with several paths also LINK-2 and so on
    #[arg(long, value_name = "LINK")]
    pub out_link: Option<PathBuf>,

    /// The Nix store to fetch into (default: that of Nix)
    #[arg(long, value_name = "URI")]
    pub store: Option<String>,

    /// Print a JSON line per path and a summary, on standard output
    #[arg(long)]
    pub json: bool,
}
