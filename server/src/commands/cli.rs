//! The command line of `snowbankd`.

use std::convert::Infallible;
use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use snowbank_core::cache_name::{CacheName, CachePattern};

use crate::config::{Overrides, Seconds, SecretString};

/// A self-hosted Nix binary cache. Without a command, it serves.
#[derive(Debug, Parser)]
#[command(name = "snowbankd", version, max_term_width = 100)]
pub struct Cli {
    /// The data folder [default: `$XDG_DATA_HOME/snowbank` or ~/.local/share/snowbank].
    #[arg(long, global = true, value_name = "DIR", env = "SNOWBANKD_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// The config file (TOML); every key is documented in config.example.toml.
    #[arg(long, global = true, value_name = "FILE", env = "SNOWBANKD_CONFIG")]
    config: Option<PathBuf>,

    #[command(flatten)]
    serve: ServeArgs,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// What `serve` takes, and `snowbankd` alone.
#[derive(Debug, Default, Args)]
pub(super) struct ServeArgs {
    /// The address to listen on [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR", env = "SNOWBANKD_LISTEN")]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve caches; the default. SIGTERM or SIGINT stops it after pushes under way, a second one at once.
    Serve(ServeArgs),
    /// Tokens: what clients show to push, and to read private caches.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Logical caches.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Prove that database and storage agree. Works beside a running server; exits with 1 when they do not.
    Check(CheckArgs),
    /// Move everything to another database, from SQLite to PostgreSQL or back; exits with 1 when the two are not equal then.
    /// Run again after it was cut off, it goes on where it stopped.
    MigrateDatabase(MigrateDatabaseArgs),
}

#[derive(Debug, Args)]
pub(super) struct MigrateDatabaseArgs {
    /// The database to move from, `sqlite:PATH` or `postgres://USER@HOST/NAME`. It is only read; no server may use it.
    #[arg(long, value_name = "URL", value_parser = hidden)]
    pub from: Option<SecretString>,
    /// A file of mode 0600 with the address to move from, for one that holds a password.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub from_file: Option<PathBuf>,
    /// The database to move to, empty. The default is the one in the settings.
    #[arg(long, value_name = "URL", value_parser = hidden)]
    pub to: Option<SecretString>,
    /// A file of mode 0600 with the address to move to, for one that holds a password.
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    pub to_file: Option<PathBuf>,
}

/// Any text: what is wrong with it is said without repeating it.
#[expect(clippy::unnecessary_wraps, reason = "the shape of a value parser")]
fn hidden(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::new(text))
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Read every pack and decode every NAR too, not only compare rows and lengths.
    #[arg(long)]
    pub read_data: bool,
}

impl Default for Command {
    fn default() -> Self {
        Self::Serve(ServeArgs::default())
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token and print it, alone, on standard output. Works beside a running server.
    Create(TokenCreateArgs),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("grant").required(true).multiple(true).args(["pull", "push"]))]
pub(super) struct TokenCreateArgs {
    /// Whom or what the token is for; shown in logs and kept with what it pushes.
    #[arg(long, value_name = "SUBJECT")]
    pub sub: String,
    /// Caches that may be read with it: a name, or a pattern with `*`. Can be given several times.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub pull: Vec<CachePattern>,
    /// Caches that may be pushed to with it: a name, or a pattern with `*`. Can be given several times.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub push: Vec<CachePattern>,
    /// For how long it is valid: a number and s, m, h or d; at most 3650d.
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub expires: Seconds,
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Create a cache with a signing key of its own. Works beside a running server.
    Create(CacheCreateArgs),
}

#[derive(Debug, Args)]
pub(super) struct CacheCreateArgs {
    /// The cache's name: letters, digits, `_`, `+` and `-`, at most 50.
    pub name: CacheName,
    /// Anyone may read it.
    #[arg(long, conflicts_with = "private")]
    pub public: bool,
    /// Only tokens that name it may read it; the default.
    #[arg(long)]
    pub private: bool,
    /// Share no chunks with other caches, so that nobody who pushes elsewhere can learn what is in it.
    #[arg(long)]
    pub isolated: bool,
}

impl Cli {
    /// Parses the process's arguments; prints help, version or what is wrong with them, and exits, where that is due.
    #[must_use]
    pub fn from_command_line() -> Self {
        let mut command = Self::command();
        let matches = command.get_matches_mut();
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let given = matches.value_source("listen") == Some(ValueSource::CommandLine);
        if given && !matches!(cli.command, None | Some(Command::Serve(_))) {
            let message = "`--listen` is for serving, and this command does not serve";
            command.error(clap::error::ErrorKind::ArgumentConflict, message).exit();
        }
        cli
    }

    /// What the command line and the environment say about settings.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let nested = match &self.command {
            Some(Command::Serve(args)) => args.listen,
            _ => None,
        };
        // A variable that is set to nothing is not set, as with flags' variables.
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        Overrides {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            listen: nested.or(self.serve.listen),
            database_url: variable("SNOWBANKD_DATABASE_URL").map(|url| SecretString::new(url.to_string_lossy())),
            server_key_file: variable("SNOWBANKD_SERVER_KEY_FILE").map(PathBuf::from),
        }
    }
}
