//! The command line: clap types and their help texts, nothing else.
//!
//! What an argument means (which server, which store) is decided where it is used; here only its shape is checked.

pub mod operator;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

/// `snowbank`, the client of a Snowbank binary cache.
#[derive(Debug, Parser)]
#[command(
    name = "snowbank",
    version,
    about = "Push Nix closures to a Snowbank binary cache, with a receipt for every path",
    after_help = concat!("Examples:\n",
        "  snowbank login local http://127.0.0.1:8080 < root-token\n",
        "  snowbank push main ./result\n",
        "  nix-build | snowbank push main --stdin --receipts receipts.jsonl\n",
        "  snowbank use main\n",
        "  snowbank verify-receipts receipts.jsonl"),
    after_long_help = LONG_HELP,
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub struct Cli {
    /// Options that every subcommand takes, before or after its name.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every subcommand takes.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalArgs {
    /// Read and write this file instead of ~/.config/snowbank/client.toml; /etc/snowbank/client.toml is still read
    /// beneath it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more about what is done; twice for the daemon's and the network's side as well
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Remember a server and its token
    Login(LoginArgs),
    /// Upload store paths and all they refer to
    Push(PushArgs),
    /// Make Nix on this machine fetch from a cache
    Use(UseArgs),
    /// Check receipts: their signatures, and that the cache still serves what they say
    VerifyReceipts(VerifyReceiptsArgs),
    /// Caches: create, list, info, configure, rename, destroy, restore, rotate-key, copy
    #[command(subcommand)]
    Cache(operator::CacheCommand),
    /// Tokens: create, list, show, revoke, rotate
    #[command(subcommand)]
    Token(operator::TokenCommand),
    /// The paths in a cache: list, info
    #[command(subcommand)]
    Path(operator::PathCommand),
    /// Delete paths that should never have been pushed; within 5 s nobody can fetch them any more
    Delete(operator::DeleteArgs),
    /// Show what was done and tried on a server, by whom, and from where
    Audit(operator::AuditArgs),
}

/// `snowbank login NAME URL`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "The token is read from --token-file, else from SNOWBANK_TOKEN, else from the file that \
SNOWBANK_TOKEN_FILE names, else from standard input (on a terminal: a prompt without echo). It is kept in a file of \
mode 0600 beside the configuration. The first server logged in to is the default one.

Examples:
  snowbank login local http://127.0.0.1:8080 < root-token
  snowbank login work https://cache.example.org --token-file /run/secrets/snowbank")]
pub struct LoginArgs {
    /// A short name for the server, as in NAME:CACHE
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The server's address, without a cache, such as `https://cache.example.org`
    #[arg(value_name = "URL")]
    pub url: String,

    /// Read the token from this file
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Make this the default server, the one meant where a cache is given without `SERVER:`
    #[arg(long)]
    pub default: bool,

    /// Do not ask the server whether it accepts the token
    #[arg(long)]
    pub offline: bool,
}

/// `snowbank push CACHE INSTALLABLE…`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line, independent of the others")]
#[command(after_help = "Examples:
  snowbank push main ./result
  snowbank push work:main /nix/store/…-hello-2.12 ./result-dev
  snowbank push main /nix/store/…-hello.drv^out,dev
  nix-build | snowbank push main --stdin --receipts receipts.jsonl
  snowbank push main ./result --best-effort   # a server that is down does not fail the job

`snowbank --help` lists the exit codes.")]
pub struct PushArgs {
    /// The cache to push to
    #[arg(value_name = "[SERVER:]CACHE")]
    pub cache: String,

    /// Store paths, files inside them, symlinks to them, or outputs of a derivation (PATH.drv^out, PATH.drv^*)
    #[arg(value_name = "INSTALLABLE", required_unless_present = "stdin")]
    pub installables: Vec<String>,

    /// Read installables from standard input as well, one per line
    #[arg(long)]
    pub stdin: bool,

    /// Write a receipt for each path, as it is acknowledged, to FILE as JSON lines
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

    /// Paths read and compressed at the same time (default: the number of processors, at most 8)
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,

    /// Only warn, and exit with 0, when the server cannot be reached or fails; a wrong token or a refused path is still
    /// an error
    #[arg(long)]
    pub best_effort: bool,

    /// Push paths signed by cache.nixos.org-1 too
    #[arg(long)]
    pub no_upstream_filter: bool,

    /// The Nix store to push from: auto, daemon, `unix://SOCKET`, local, `local?root=DIR` or DIR (default: `NIX_REMOTE`,
    /// else auto)
    #[arg(long, value_name = "URI")]
    pub store: Option<String>,
}

/// `snowbank use CACHE`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Writes to ~/.config/nix/nix.conf and, for a private cache, ~/.config/nix/netrc.

Examples:
  snowbank use main
  snowbank use work:main --print
  snowbank use main --remove")]
pub struct UseArgs {
    /// The cache to fetch from
    #[arg(value_name = "[SERVER:]CACHE")]
    pub cache: String,

    /// Show what would be written, and write nothing
    #[arg(long)]
    pub print: bool,

    /// Take out what `snowbank use` wrote for this cache
    #[arg(long)]
    pub remove: bool,
}

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

    /// Accept signatures by this key only, not by those that the server names; may be given several times
    #[arg(long = "public-key", value_name = "NAME:KEY")]
    pub public_keys: Vec<String>,

    /// Print a JSON line per receipt checked and a summary, on standard output
    #[arg(long)]
    pub json: bool,
}

/// What `--help` says after the options; the exit codes are those of [`crate::exit::Exit`], which a test compares.
const LONG_HELP: &str = "\
Examples:
  snowbank login local http://127.0.0.1:8080 < root-token
  snowbank push main ./result
  nix-build | snowbank push main --stdin --receipts receipts.jsonl
  snowbank use main
  snowbank verify-receipts receipts.jsonl

Caches are named [SERVER:]CACHE; without SERVER, the default server's.

Environment:
  SNOWBANK_URL         a server without a name, used instead of the default one
  SNOWBANK_TOKEN       the token for it; without SNOWBANK_URL, for the server that is used
  SNOWBANK_TOKEN_FILE  a file with that token
  NIX_REMOTE           the Nix store to push from, as --store

Exit codes:
    0  done: every path is in the cache (with --best-effort: or the server was down)
    1  something unexpected
    2  the command line is wrong
    3  the configuration or a token file is missing or wrong
    4  the Nix store cannot be asked, or does not know a path
    5  a path is damaged or missing on this machine's disk
    6  the server cannot be reached, or answers too late
    7  the server fails, or is too busy
    8  the server's storage is full
    9  the server does not accept the token
   10  the token does not permit this
   11  there is no such cache, or the token may not see it
   12  the server refuses a path
   13  the cache has a path with other contents
   14  a receipt does not hold
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)
Where several apply, the lowest code from 9 up wins over those below.";
