//! `snowbank use`: its arguments.

use clap::Args;

/// `snowbank use CACHE…`.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, independent of the others"
)]
#[command(
    after_help = "Writes to ~/.config/nix/nix.conf and, for a private cache, ~/.config/nix/netrc; \
        with --system to \
/etc/nix/nix.conf and /etc/nix/netrc. What is in them stays; nix.conf.before-snowbank is a copy \
from before the first \
change. Nix is then asked whether it goes by them; where it does not, the exit code is 3. Where a \
Nix daemon serves several \
users, it heeds their own files for `trusted-users` only.

Examples:
  snowbank use main
  snowbank use work:main work:team --recommended
  sudo snowbank use main --system --priority 30
  snowbank use work:main --print
  snowbank use main --remove"
)]
pub struct UseArgs {
    /// The caches to fetch from
    #[arg(value_name = "[SERVER:]CACHE", required = true)]
    pub caches: Vec<String>,

    /// Write the machine's files, for all users: /etc/nix/nix.conf and /etc/nix/netrc
    #[arg(long)]
    pub system: bool,

    /// Have Nix ask this cache before (lower) or after (higher) others; cache.nixos.org has 40
    #[arg(long, value_name = "N")]
    pub priority: Option<u32>,

    /// Set narinfo-cache-negative-ttl: for how long Nix remembers that a cache does not have a path
    /// (an hour unless set)
    #[arg(long, value_name = "SECONDS")]
    pub negative_ttl: Option<u32>,

    /// Set connect-timeout: how long Nix waits for a connection to a cache before it goes on
    /// without (newer versions of Nix have a default, before 2.29 it waits as long as the system)
    #[arg(long, value_name = "SECONDS")]
    pub connect_timeout: Option<u32>,

    /// Set fallback: Nix builds what it cannot fetch, so that no outage of a cache fails a build
    #[arg(long)]
    pub fallback: bool,

    /// Set all three: --negative-ttl 60 --connect-timeout 5 --fallback
    #[arg(long)]
    pub recommended: bool,

    /// Put the token of the login into netrc, whatever it may do; without this, a token that may
    /// administrate the server is used to make one that may only pull
    #[arg(long)]
    pub this_token: bool,

    /// Show what would be written, and write nothing
    #[arg(long)]
    pub print: bool,

    /// Take out what `snowbank use` wrote for these caches
    #[arg(long, conflicts_with_all = [
        "priority", "negative_ttl", "connect_timeout", "fallback", "recommended", "this_token",
    ])]
    pub remove: bool,
}
