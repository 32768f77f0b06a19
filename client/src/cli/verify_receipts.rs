//! `snowbank verify-receipts`: its arguments.

use std::path::PathBuf;

use clap::Args;

/// `snowbank verify-receipts FILE`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  snowbank verify-receipts receipts.jsonl
  snowbank verify-receipts receipts.jsonl --server work --public-key 'cache.example.org-main-1:…'")]
pub struct VerifyReceiptsArgs {
    /// Receipts as `snowbank push --receipts` writes them; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The server that gave the receipts (default: the default server)
    #[arg(long, value_name = "SERVER")]
    pub server: Option<String>,

    /// Accept signatures by this key only, not by those that the server names; may be given several
    /// times
    #[arg(long = "public-key", value_name = "NAME:KEY")]
    pub public_keys: Vec<String>,

    /// Print a JSON line per receipt checked and a summary, on standard output
    #[arg(long)]
    pub json: bool,
}
