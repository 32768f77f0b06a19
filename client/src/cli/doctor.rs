//! `snowbank doctor`: its arguments.

use clap::Args;

/// `snowbank doctor [[SERVER:]CACHE]`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Prints a line per check: ok, warn, problem or skipped, and what to do. Nothing \
        is changed. The exit \
code is 0 when there is no problem, else that of the first one (`snowbank --help` lists them).

Examples:
  snowbank doctor
  snowbank doctor work:main
  snowbank doctor main --path ./result
  sudo snowbank doctor main    # as Nix's daemon and root's builds see it"
)]
pub struct DoctorArgs {
    /// The cache to look at (default: the default server, and the first of its caches that nix.conf
    /// names)
    #[arg(value_name = "[SERVER:]CACHE")]
    pub cache: Option<String>,

    /// A store path that is here and should be in the cache, to fetch and check (default: one that
    /// is found to be)
    #[arg(long, value_name = "INSTALLABLE")]
    pub path: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
