//! What operators run: caches, tokens, the audit log, paths.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use snowbank_cli::args::{
    AuditQueryArgs, CacheChanges, DeleteFlags, GcArgs, NewCacheArgs, TokenCreateArgs,
    TokenRevokeArgs, TokenRotateArgs,
};
use snowbank_core::units::Seconds;

/// Which server is meant, and how its answer is printed.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// The server (default: the default server)
    #[arg(long, value_name = "SERVER")]
    pub server: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which cache is meant, and how the answer is printed.
#[derive(Debug, Clone, Args)]
pub struct CacheArgs {
    /// The cache
    #[arg(value_name = "[SERVER:]CACHE")]
    pub cache: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `snowbank cache …`
#[derive(Debug, Clone, Subcommand)]
pub enum CacheCommand {
    /// Create a cache with a signing key of its own
    #[command(
        after_help = "Example:\n  snowbank cache create team --private --retention 90d --max-size \
            200GB"
    )]
    Create {
        #[command(flatten)]
        target: CacheArgs,
        #[command(flatten)]
        new: NewCacheArgs,
        #[command(flatten)]
        changes: CacheChanges,
    },
    /// List the caches that the token may know of
    #[command(after_help = "Example:\n  snowbank cache list --json")]
    List(ServerArgs),
    /// Show a cache's settings and keys, and, to those who may configure it, what it holds
    #[command(after_help = "Example:\n  snowbank cache info work:team")]
    Info(CacheArgs),
    /// Change a cache's settings; what is not named stays
    #[command(
        after_help = "Example:\n  snowbank cache configure team --priority 30 --retention never"
    )]
    Configure {
        #[command(flatten)]
        target: CacheArgs,
        #[command(flatten)]
        changes: CacheChanges,
    },
    /// Give a cache another name: its address changes, its keys do not
    #[command(after_help = "Example:\n  snowbank cache rename team platform")]
    Rename {
        #[command(flatten)]
        target: CacheArgs,
        /// The new name
        #[arg(value_name = "NAME")]
        new: String,
    },
    /// Take a cache out of sight; `snowbank cache restore` undoes it for 7 days
    #[command(after_help = "Example:\n  snowbank cache destroy old-team")]
    Destroy {
        #[command(flatten)]
        target: CacheArgs,
        /// Do not ask for the name again
        #[arg(long)]
        yes: bool,
    },
    /// Bring back a cache that was destroyed in the last 7 days
    #[command(after_help = "Example:\n  snowbank cache restore old-team")]
    Restore(CacheArgs),
    /// Remove a destroyed cache for good, with its keys, so that a collection can give its room
    /// back
    #[command(after_help = "Example:\n  snowbank cache purge old-team\n\nNeeds a token that \
            administrates.")]
    Purge {
        #[command(flatten)]
        target: CacheArgs,
        /// Do not ask for the name again
        #[arg(long)]
        yes: bool,
    },
    /// Give a cache a new signing key; the old ones go on signing for a while, so that no machine
    /// is shut out
    #[command(after_help = "Example:\n  snowbank cache rotate-key team --overlap 45d")]
    RotateKey {
        #[command(flatten)]
        target: CacheArgs,
        /// For how long the old keys go on signing; Nix keeps narinfos for 30 days
        #[arg(long, value_name = "TIME", default_value = "45d")]
        overlap: Seconds,
        /// Use the key in this file, as `nix key generate-secret` writes it, instead of a new one
        #[arg(long, value_name = "FILE")]
        signing_key_file: Option<PathBuf>,
    },
    /// Make closures part of another cache of the server, without moving a byte ("promote")
    #[command(after_help = "Example:\n  snowbank cache copy staging production ./result\n\n\
        Needs pull on the first cache and push on the second.")]
    Copy {
        /// The cache to copy from
        #[arg(value_name = "[SERVER:]FROM")]
        from: String,
        /// The cache to copy to, on the same server
        #[arg(value_name = "TO")]
        to: String,
        /// Store paths, their base names or hash parts, or symlinks to them; their closures come
        /// along
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `snowbank token …`
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Create a token and print it, alone, on standard output
    #[command(after_help = "Example:\n  \
        snowbank token create --sub ci-blog --pull '*' --push 'blog-*' --expires 90d --label \"the \
        blog's jobs\" > token")]
    Create {
        #[command(flatten)]
        token: TokenCreateArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List the tokens that the server issued: what for, what they may, when they were used last
    /// and when they end
    #[command(after_help = "Example:\n  snowbank token list")]
    List(ServerArgs),
    /// Show one token's record; the token itself is not kept
    #[command(after_help = "Example:\n  snowbank token show 4f2a…")]
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Take tokens back, by id, by subject, or all that were issued before a time
    #[command(
        after_help = "Examples:\n  snowbank token revoke 4f2a…\n  snowbank token revoke --subject \
            ci-blog\n  \
        snowbank token revoke --before 30d\n\nEvery server refuses them within 5 s."
    )]
    Revoke {
        #[command(flatten)]
        tokens: TokenRevokeArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Create a token with the rights of another one, which stays valid for a while, and print it
    #[command(
        after_help = "Example:\n  snowbank token rotate --subject ci-blog --grace 1d > token"
    )]
    Rotate {
        #[command(flatten)]
        token: TokenRotateArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// `snowbank path …`
#[derive(Debug, Clone, Subcommand)]
pub enum PathCommand {
    /// List a cache's paths, or those whose name contains a text or fits a pattern with `*`
    #[command(
        after_help = "Examples:\n  snowbank path list main hello\n  snowbank path list main \
            'hello-*'"
    )]
    List {
        #[command(flatten)]
        target: CacheArgs,
        /// A text that NAME or HASH-NAME contains, or a pattern with `*` that one of them fits
        #[arg(value_name = "PATTERN")]
        pattern: Option<String>,
    },
    /// List the paths that are out of sight since chunks of theirs are damaged or gone; pushing
    /// them again makes them whole
    #[command(after_help = "Example:\n  snowbank path withdrawn main")]
    Withdrawn(CacheArgs),
    /// Show what a cache knows of a path: size, hash, references, signatures, who pushed it and
    /// when
    #[command(after_help = "Example:\n  snowbank path info main ./result")]
    Info {
        #[command(flatten)]
        target: CacheArgs,
        /// A store path, its base name or its hash part, or a symlink to one
        #[arg(value_name = "PATH")]
        path: String,
    },
}

/// `snowbank delete CACHE PATH…`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  snowbank delete main /nix/store/…-leaked --dry-run\n  \
    snowbank delete main /nix/store/…-leaked --referrers --yes")]
pub struct DeleteArgs {
    #[command(flatten)]
    pub target: CacheArgs,
    /// Store paths, their base names or hash parts, or symlinks to them
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    #[command(flatten)]
    pub flags: DeleteFlags,
}

/// `snowbank gc`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  snowbank gc --dry-run\n  snowbank gc --no-compact --json\n\nNeeds a \
        token that administrates."
)]
pub struct GcCommandArgs {
    #[command(flatten)]
    pub flags: GcArgs,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `snowbank audit`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  snowbank audit --limit 20\n  snowbank audit --action 'token.*' \
        --json"
)]
pub struct AuditArgs {
    #[command(flatten)]
    pub query: AuditQueryArgs,
    #[command(flatten)]
    pub server: ServerArgs,
}
