//! `snowbank whoami`: its arguments.

use clap::Args;

/// `snowbank whoami [SERVER]`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  snowbank whoami
  snowbank whoami work --json")]
pub struct WhoAmIArgs {
    /// The server to ask (default: the default server)
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
