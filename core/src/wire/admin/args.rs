//! Arguments that `snowbank` and `snowbankd` have in common, for clap.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{CacheSettings, CreateToken, RevokeTokens, RotateToken, TokenGrants};
use crate::cache_name::CachePattern;
use crate::units::Seconds;

/// What can be said of a cache, when it is made and later.
#[derive(Debug, Clone, Default, Args)]
pub struct CacheChanges {
    /// Anyone may read it
    #[arg(long, conflicts_with = "private")]
    public: bool,
    /// Only tokens that name it may read it
    #[arg(long)]
    private: bool,
    /// No upstream: paths are pushed whoever signed them
    #[arg(long, conflicts_with = "upstream_keys")]
    no_upstream_keys: bool,
    #[command(flatten)]
    settings: CacheSettings,
}

impl CacheChanges {
    /// As a message.
    #[must_use]
    pub fn into_settings(self) -> CacheSettings {
        let public = (self.public || self.private).then_some(self.public);
        let upstream_keys = if self.no_upstream_keys { Some(Vec::new()) } else { self.settings.upstream_keys };
        CacheSettings { public, upstream_keys, ..self.settings }
    }
}

/// What can be said of a cache only when it is made.
#[derive(Debug, Clone, Default, Args)]
pub struct NewCacheArgs {
    /// Share no chunks with other caches, so that nobody who pushes elsewhere can learn what is in it
    #[arg(long)]
    pub isolated: bool,
    /// The store that its paths belong to [default: /nix/store]
    #[arg(long, value_name = "DIR")]
    pub store_dir: Option<String>,
    /// Sign with the key in this file, as `nix key generate-secret` writes it, instead of a new one
    #[arg(long, value_name = "FILE")]
    pub signing_key_file: Option<PathBuf>,
}

/// A token that is to be made.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("grant").required(true).multiple(true)
    .args(["pull", "push", "delete", "configure", "create", "admin"]))]
pub struct TokenCreateArgs {
    /// Whom or what the token is for; shown in logs and kept with what it pushes
    #[arg(long, value_name = "SUBJECT")]
    pub sub: String,
    /// A note for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub label: String,
    /// Caches that may be read with it: a name, or a pattern with `*`; may be given several times
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub pull: Vec<CachePattern>,
    /// Caches that may be pushed to
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub push: Vec<CachePattern>,
    /// Caches whose paths may be deleted
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub delete: Vec<CachePattern>,
    /// Caches that may be configured, renamed and destroyed, and whose keys may be rotated
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub configure: Vec<CachePattern>,
    /// Names of caches that may be created
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub create: Vec<CachePattern>,
    /// It may administrate the server: tokens, the audit log, every cache's settings
    #[arg(long)]
    pub admin: bool,
    /// For how long it is valid: a number and s, m, h or d; at most 3650d
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub expires: Seconds,
}

impl From<TokenCreateArgs> for CreateToken {
    fn from(args: TokenCreateArgs) -> Self {
        let mut caches: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (patterns, permission) in [
            (args.pull, "pull"),
            (args.push, "push"),
            (args.delete, "delete"),
            (args.configure, "configure"),
            (args.create, "create"),
        ] {
            for pattern in patterns {
                caches.entry(pattern.to_string()).or_default().push(permission.to_owned());
            }
        }
        let grants = TokenGrants { caches, admin: args.admin };
        Self { subject: args.sub, label: args.label, grants, expires: args.expires }
    }
}

/// Tokens that are to be taken back.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["ids", "subject", "before"]))]
pub struct TokenRevokeArgs {
    /// Ids, as `token list` shows them
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All tokens of this subject that were issued until now
    #[arg(long, value_name = "SUBJECT", conflicts_with = "ids")]
    pub subject: Option<String>,
    /// All tokens that were issued longer ago than this, such as 30d (with --subject: all of that subject)
    #[arg(long, value_name = "TIME", conflicts_with = "ids")]
    pub before: Option<Seconds>,
}

impl TokenRevokeArgs {
    /// As a message, at the time `now`.
    #[must_use]
    pub fn into_request(self, now: i64) -> RevokeTokens {
        let before = self.before.map(|ago| now.saturating_sub(i64::try_from(ago.get()).unwrap_or(i64::MAX)));
        RevokeTokens { ids: self.ids, subject: self.subject, before }
    }
}

/// A token that is to be replaced.
#[derive(Debug, Clone, Args)]
pub struct TokenRotateArgs {
    /// Its id, as `token list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
    /// For how long the old one stays valid
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub grace: Seconds,
    /// For how long the new one is valid [default: as long as the old one was made for]
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Seconds>,
}

impl TokenRotateArgs {
    /// The id, and the rest as a message.
    #[must_use]
    pub fn into_request(self) -> (String, RotateToken) {
        (self.id, RotateToken { grace: self.grace, expires: self.expires })
    }
}
