//! The command line: clap types and their help texts, nothing else.
//!
//! A file per subcommand below `cli/`. What an argument means (which server, which store) is
//! decided where it is used; here only its shape is checked.

#![allow(missing_docs, reason = "clap shows the docs of options as help, and no others are read")]

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

mod doctor;
mod fetch;
mod login;
pub mod operator;
mod pages;
pub mod pin;
mod push;
mod push_flags;
pub mod queue;
mod use_cache;
mod verify_receipts;
mod watch;
mod whoami;

pub use doctor::DoctorArgs;
pub use fetch::FetchArgs;
pub use login::LoginArgs;
pub use pages::{CompletionsArgs, ManArgs};
pub use push::PushArgs;
pub use push_flags::{PushFlags, SelectionArgs};
pub use queue::HookArgs;
pub use use_cache::UseArgs;
pub use verify_receipts::VerifyReceiptsArgs;
pub use watch::{ExecArgs, WatchStoreArgs};
pub use whoami::WhoAmIArgs;

/// `snowbank`, the client of a Snowbank binary cache.
#[derive(Debug, Parser)]
#[command(
    name = "snowbank",
    version = env!("SNOWBANK_VERSION"),
    about = "Push Nix closures to a Snowbank binary cache, with a receipt for every path",
    after_help = concat!("Examples:\n",
        "  snowbank login local http://127.0.0.1:8080 < root-token\n",
        "  snowbank push main ./result\n",
        "  nix-build | snowbank push main --stdin --receipts receipts.jsonl\n",
        "  snowbank use main\n",
        "  snowbank doctor main\n",
        "  snowbank verify-receipts receipts.jsonl"),
    after_long_help = LONG_HELP,
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Where a help text lists the options that every subcommand takes: behind its own.
const GLOBAL: &str = "Global options";

/// Options that every subcommand takes.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalArgs {
    /// Read and write this file instead of ~/.config/snowbank/client.toml;
    /// /etc/snowbank/client.toml is still read beneath it
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub config: Option<PathBuf>,

    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    pub quiet: bool,

    /// Say more about what is done; twice for the daemon's and the network's side as well
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Remember a server and its token
    Login(LoginArgs),
    /// Upload store paths and all they refer to
    Push(PushArgs),
    /// Queue the paths of a build, for Nix's post-build-hook
    Hook(HookArgs),
    /// The queue of paths that the hook has accepted: run, list, retry, drop, wait
    #[command(subcommand, after_help = "Example:\n  snowbank queue run")]
    Queue(queue::QueueCommand),
    /// Push what appears in the Nix store, until it is ended
    WatchStore(WatchStoreArgs),
    /// Run a command, and push what Nix builds for it
    Exec(ExecArgs),
    /// Fetch paths from one cache and nowhere else, and compare them with receipts
    Fetch(FetchArgs),
    /// Make Nix on this machine fetch from caches
    Use(UseArgs),
    /// Say which server and token are used, and what the token may do
    #[command(name = "whoami")]
    WhoAmI(WhoAmIArgs),
    /// Find out why pushing or fetching does not work
    Doctor(DoctorArgs),
    /// Check receipts: their signatures, and that the cache still serves what they say
    VerifyReceipts(VerifyReceiptsArgs),
    /// Caches: create, list, info, configure, rename, destroy, restore, purge, rotate-key, copy
    #[command(
        subcommand,
        after_help = "Example:\n  snowbank cache create team --private --retention 90d"
    )]
    Cache(operator::CacheCommand),
    /// Tokens: create, list, show, revoke, rotate
    #[command(
        subcommand,
        after_help = "Example:\n  snowbank token create --sub ci --push team > token"
    )]
    Token(operator::TokenCommand),
    /// The paths in a cache: list, info
    #[command(subcommand, after_help = "Example:\n  snowbank path list main 'hello-*'")]
    Path(operator::PathCommand),
    /// Names for paths that are to stay: pin a path, or list, show, rm, rollback
    Pin(pin::PinArgs),
    /// Delete paths that should never have been pushed; within 5 s nobody can fetch them any more
    Delete(operator::DeleteArgs),
    /// Take away what a server keeps no longer, and give its room back
    Gc(operator::GcCommandArgs),
    /// Show what was done and tried on a server, by whom, and from where
    Audit(operator::AuditArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them
    #[command(hide = true)]
    Man(ManArgs),
}

/// What `--help` says after the options; the exit codes are those of [`crate::exit::Exit`], which a
/// test compares.
const LONG_HELP: &str = "\
Examples:
  snowbank login local http://127.0.0.1:8080 < root-token
  snowbank push main ./result
  nix-build | snowbank push main --stdin --receipts receipts.jsonl
  snowbank use main
  snowbank doctor main
  snowbank verify-receipts receipts.jsonl

Caches are named [SERVER:]CACHE; without SERVER, the default server's.

Environment:
  SNOWBANK_URL         a server without a name, used instead of the default one
  SNOWBANK_TOKEN       the token for it; without SNOWBANK_URL, for the server that is used
  SNOWBANK_TOKEN_FILE  a file with that token
  SNOWBANK_CLIENT_CERTIFICATE_FILE, SNOWBANK_CLIENT_KEY_FILE
                       a certificate to show to that server, and its key (PEM)
  SNOWBANK_QUEUE       the folder of `hook`, `queue` and `watch-store`, as --queue
  SNOWBANK_SYSTEM_CONFIG
                       a file to read instead of /etc/snowbank/client.toml
  NIX_REMOTE           the Nix store to push from, as --store; nix.conf's `store` goes before it
  NIX_SSL_CERT_FILE, SSL_CERT_FILE
                       certificate authorities to trust instead of the system's
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
                       proxies, and the hosts that need none

Configuration, the stronger first: the environment; --config, or else \
~/.config/snowbank/client.toml;
/etc/snowbank/client.toml. Tokens are in files beside it, tokens/NAME.

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
   14  a receipt or a signature does not hold
   15  there is no such path, pin or token
   16  it does not go together with what is there, such as a name that is taken
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)
Where several apply, the lowest code from 9 up wins over those below.";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::Cli;

    fn assert_has_example(command: &Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example"), "`{} --help` has no example", command.get_name());
        for subcommand in command.get_subcommands() {
            assert_has_example(subcommand);
        }
    }

    #[test]
    fn own_options_come_before_global_ones() {
        let mut command = Cli::command();
        command.build();
        let push = command.find_subcommand_mut("push").unwrap().render_long_help().to_string();
        let place = |option: &str| push.find(option).unwrap_or_else(|| panic!("{option}: {push}"));
        assert!(
            place("--store <URI>") < place("Global options:")
                && place("Global options:") < place("--quiet"),
            "{push}"
        );
    }

    #[test]
    fn every_help_text_has_an_example() {
        Cli::command().debug_assert();
        assert_has_example(&Cli::command());
    }
}
