//! The command line of `snowbankd`.

mod backup;
mod pin;
mod token_key;

use std::convert::Infallible;
use std::env;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use snowbank_cli::args::{
    AuditQueryArgs, CacheChanges, DeleteFlags, GcArgs, NewCacheArgs, TokenCreateArgs,
    TokenRevokeArgs, TokenRotateArgs,
};
use snowbank_cli::hide_in_usage;
use snowbank_core::cache_name::CacheName;

use crate::config::{ListenAddress, Overrides, Seconds, SecretString, Size, TlsOverrides};
use crate::integrity::{PathPattern, Percent};

pub(super) use backup::{BackupArgs, RestoreArgs};
pub(super) use pin::{PinArgs, PinCommand, SetPinArgs};
pub(super) use token_key::{TokenKeyAddArgs, TokenKeyCommand, TokenKeyRemoveArgs};

/// A self-hosted Nix binary cache. Without a command, it serves.
#[derive(Debug, Parser)]
#[command(name = "snowbankd", version = env!("SNOWBANK_VERSION"), max_term_width = 100)]
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
    /// The address to listen on, or `unix:/PATH` [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR", env = "SNOWBANKD_LISTEN")]
    listen: Option<ListenAddress>,

    /// Serve HTTPS with the certificate in this file (PEM), followed by those between it and its
    /// authority's.
    #[arg(long, value_name = "FILE", env = "SNOWBANKD_TLS_CERTIFICATE_FILE")]
    tls_certificate_file: Option<PathBuf>,

    /// The certificate's private key (PEM, mode 0600).
    #[arg(long, value_name = "FILE", env = "SNOWBANKD_TLS_PRIVATE_KEY_FILE")]
    tls_private_key_file: Option<PathBuf>,
}

/// The arguments of [`ServeArgs`], by their ids and as they are written.
const FOR_SERVING: [(&str, &str); 3] = [
    ("listen", "--listen"),
    ("tls_certificate_file", "--tls-certificate-file"),
    ("tls_private_key_file", "--tls-private-key-file"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve caches; the default. SIGTERM or SIGINT stops it after pushes under way, a second one
    /// at once.
    Serve(ServeArgs),
    /// Tokens: what clients show to push, and to read private caches. All of these work beside a
    /// running server.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Keys that tokens are signed with, so that they can be replaced without a moment in which
    /// anyone is shut out.
    #[command(subcommand)]
    TokenKey(TokenKeyCommand),
    /// Logical caches.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// The paths in a cache.
    #[command(subcommand)]
    Path(PathCommand),
    /// Names for paths that are to stay.
    Pin(PinArgs),
    /// Delete paths that should never have been pushed; within 5 s no server shows them any more.
    Delete(DeleteArgs),
    /// Show what was done and tried on this server, by whom, and from where.
    Audit(AuditArgs),
    /// Prove that database and storage agree. Works beside a running server; exits with 1 when they
    /// do not, and with 2 when that could not be found out.
    Check(CheckArgs),
    /// Take away what is kept no longer, and give its room back. Works beside a running server.
    Gc(GcCommandArgs),
    /// Write a backup of the database. Works beside a running server; docs/operating.md has drills.
    Backup(BackupArgs),
    /// Put a backup in the place of the database, while no server runs.
    Restore(RestoreArgs),
    /// Make database and storage agree again: heal what can be healed, take out of sight what is
    /// lost. Works beside a running server, and says first what it will do.
    Repair(RepairArgs),
    /// Move everything to another database, from SQLite to PostgreSQL or back; exits with 1 when
    /// the two are not equal then. Run again after it was cut off, it goes on where it stopped.
    MigrateDatabase(MigrateDatabaseArgs),
    /// Print completions for a shell.
    #[command(
        after_help = "Example: snowbankd completions bash > /etc/bash_completion.d/snowbankd"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write all of them.
    #[command(
        hide = true,
        after_help = "Example: snowbankd man --output /usr/local/share/man/man1"
    )]
    Man {
        /// Write snowbankd.1 and a page per command into this folder.
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct MigrateDatabaseArgs {
    /// The database to move from, `sqlite:PATH` or `postgres://USER@HOST/NAME`. No server may use
    /// it, and none does afterwards.
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
#[command(
    after_help = "Examples:\n  snowbankd check --read-data=5% --rate 50MB\n  snowbankd check \
        --paths 'team:*-1.0' --json"
)]
pub(super) struct CheckArgs {
    /// Read packs too, all of them or a share drawn at random, and verify tables, checksums, frames
    /// and names.
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true,
        default_missing_value = "100%")]
    pub read_data: Option<Percent>,
    /// Draw the packs that were drawn by this number, which a check prints.
    #[arg(long, value_name = "NUMBER", requires = "read_data")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub content: ContentArgs,
    /// Write into this file how far the check is, and go on from there when it is there; it is
    /// removed at the end.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

/// What is read beside rows.
#[derive(Debug, Args)]
pub(super) struct ContentArgs {
    /// Decode the NARs of these paths as they are served, and compare their SHA-256:
    /// [CACHE:]PATTERN, with `*`, matched against NAME and HASH-NAME.
    #[arg(long, value_name = "PATTERN")]
    pub paths: Option<PathPattern>,
    /// Read no more data than this in a second, such as 50MB.
    #[arg(long, value_name = "SIZE")]
    pub rate: Option<Size>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  snowbankd repair --read-data --dry-run\n  snowbankd repair \
        --read-data=5% --seed 17 --dry-run")]
pub(super) struct RepairArgs {
    /// Say what would be done, and do nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Read every pack, or a share drawn at random, not only those that are known or seem to be
    /// damaged.
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true,
        default_missing_value = "100%")]
    pub read_data: Option<Percent>,
    /// Draw the packs that a check has drawn by this number.
    #[arg(long, value_name = "NUMBER", requires = "read_data")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub content: ContentArgs,
    /// Empty the list of withdrawn paths: they will not come back.
    #[arg(long)]
    pub forget_withdrawn: bool,
}

impl Default for Command {
    fn default() -> Self {
        Self::Serve(ServeArgs::default())
    }
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Output {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token and print it, alone, on standard output.
    #[command(
        after_help = "Example:\n  snowbankd token create --sub ci-blog --pull '*' --push 'blog-*' \
            --expires 90d > token"
    )]
    Create(TokenCreateArgs),
    /// List the tokens that were issued: what for, what they may, when they were used last and when
    /// they end.
    List(Output),
    /// Show one token's record; the token itself is not kept.
    Show {
        /// Its id, or the token itself.
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Take tokens back, by id, by subject, or all that were issued before a time. Every server
    /// refuses them within 5 s.
    #[command(after_help = "Examples:\n  snowbankd token revoke 4f2a…\n  snowbankd token revoke \
            --subject ci-blog\n  snowbankd token revoke --before 30d")]
    Revoke(TokenRevokeArgs),
    /// Create a token with the rights of another one, which stays valid for a while, and print it.
    Rotate(TokenRotateArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Create a cache with a signing key of its own.
    #[command(
        after_help = "Example:\n  snowbankd cache create team --private --retention 90d --max-size \
            200GB"
    )]
    Create(CacheCreateArgs),
    /// Create a cache, or change the one that is there to be as said. Can be run again and again.
    Ensure(CacheCreateArgs),
    /// List all caches.
    List(Output),
    /// Show a cache's settings and keys, and what it holds.
    Info {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
        #[command(flatten)]
        output: Output,
    },
    /// Change a cache's settings; what is not named stays.
    #[command(
        after_help = "Example:\n  snowbankd cache configure team --priority 30 --retention never"
    )]
    Configure {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
        #[command(flatten)]
        changes: CacheChanges,
    },
    /// Give a cache another name. Its address changes, its keys do not.
    Rename {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
        /// The new name.
        #[arg(value_name = "NAME")]
        new: CacheName,
    },
    /// Take a cache out of sight. `cache restore` undoes it for 7 days.
    Destroy {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
        /// Do not ask for the name again.
        #[arg(long)]
        yes: bool,
    },
    /// Bring back a cache that was destroyed in the last 7 days.
    Restore {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
    },
    /// Remove a destroyed cache for good, with its keys, so that a collection can give its room
    /// back.
    #[command(
        after_help = "Example:\n  snowbankd cache destroy old-team && snowbankd cache purge \
            old-team && snowbankd gc --grace 0s"
    )]
    Purge {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
        /// Do not ask for the name again.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Give a cache a new signing key; the old ones go on signing for a while, so that no machine
    /// is shut out.
    #[command(after_help = "Example:\n  snowbankd cache rotate-key team --overlap 45d")]
    RotateKey {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
        /// For how long the old keys go on signing; Nix keeps narinfos for 30 days.
        #[arg(long, value_name = "TIME", default_value = "45d")]
        overlap: Seconds,
        /// Use the key in this file, as `nix key generate-secret` writes it, instead of a new one.
        #[arg(long, value_name = "FILE")]
        signing_key_file: Option<PathBuf>,
    },
    /// Print the secret keys that a cache signs with, in Nix's format, for a server that is to take
    /// its place.
    ExportKey {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
    },
    /// Make closures part of another cache, without moving a byte ("promote").
    #[command(
        after_help = "Example:\n  snowbankd cache copy staging production /nix/store/…-website"
    )]
    Copy {
        /// The cache to copy from.
        #[arg(value_name = "FROM")]
        from: CacheName,
        /// The cache to copy to.
        #[arg(value_name = "TO")]
        to: CacheName,
        /// Store paths, their base names or hash parts; their closures come along.
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(super) struct CacheCreateArgs {
    /// The cache's name: letters, digits, `_`, `+` and `-`, at most 50.
    #[arg(value_name = "NAME")]
    pub name: CacheName,
    #[command(flatten)]
    pub new: NewCacheArgs,
    #[command(flatten)]
    pub changes: CacheChanges,
}

#[derive(Debug, Subcommand)]
pub(super) enum PathCommand {
    /// List a cache's paths, or those whose name fits a pattern with `*`.
    List {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
        /// Matched against NAME and HASH-NAME.
        #[arg(value_name = "PATTERN")]
        pattern: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List the paths that are out of sight since chunks of theirs are damaged or gone.
    Withdrawn {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
        #[command(flatten)]
        output: Output,
    },
    /// Show what a cache knows of a path.
    Info {
        /// The cache.
        #[arg(value_name = "CACHE")]
        name: CacheName,
        /// A store path, its base name or its hash part.
        #[arg(value_name = "PATH")]
        path: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  snowbankd delete main /nix/store/…-leaked --referrers --dry-run"
)]
pub(super) struct DeleteArgs {
    /// The cache.
    #[arg(value_name = "CACHE")]
    pub name: CacheName,
    /// Store paths, their base names or hash parts.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    #[command(flatten)]
    pub flags: DeleteFlags,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  snowbankd gc --dry-run\n  snowbankd gc --no-compact --json")]
pub(super) struct GcCommandArgs {
    #[command(flatten)]
    pub flags: GcArgs,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    pub query: AuditQueryArgs,
    #[command(flatten)]
    pub output: Output,
}

impl Cli {
    /// Parses the process's arguments; prints help, version or what is wrong with them, and exits,
    /// where that is due.
    #[must_use]
    pub fn from_command_line() -> Self {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(env::args_os());
        let matches = matches.unwrap_or_else(|error| hide_in_usage(error).exit());
        let cli =
            Self::from_arg_matches(&matches).unwrap_or_else(|error| hide_in_usage(error).exit());
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        if !matches!(cli.command, None | Some(Command::Serve(_)))
            && let Some((_, flag)) = FOR_SERVING.iter().find(|(id, _)| given(id))
        {
            let message = format!("`{flag}` is for serving, and this command does not serve");
            command.error(clap::error::ErrorKind::ArgumentConflict, message).exit();
        }
        cli
    }

    /// What the command line and the environment say about settings.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let nested = match &self.command {
            Some(Command::Serve(args)) => Some(args),
            _ => None,
        };
        let path = |of: fn(&ServeArgs) -> &Option<PathBuf>| {
            nested.and_then(|args| of(args).clone()).or_else(|| of(&self.serve).clone())
        };
        // A variable that is set to nothing is not set, as with flags' variables.
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        Overrides {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            listen: nested
                .and_then(|args| args.listen.clone())
                .or_else(|| self.serve.listen.clone()),
            tls: TlsOverrides {
                certificate_file: path(|args| &args.tls_certificate_file),
                private_key_file: path(|args| &args.tls_private_key_file),
            },
            database_url: variable("SNOWBANKD_DATABASE_URL")
                .map(|url| SecretString::new(url.to_string_lossy())),
            server_key_file: variable("SNOWBANKD_SERVER_KEY_FILE").map(PathBuf::from),
        }
    }
}
