//! Which token is made, taken back or replaced.

use std::collections::BTreeMap;

use clap::{ArgGroup, Args};
use snowbank_core::cache_name::CachePattern;
use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::{CreateToken, RevokeTokens, RotateToken, TokenGrants};

/// The token that `token create` makes.
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

/// The tokens that `token revoke` takes back.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true)
    .args(["ids", "subject", "before"]))]
pub struct TokenRevokeArgs {
    /// Ids, as `token list` shows them, or the tokens themselves, of which only the ids are used
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All tokens of this subject that were issued until now
    #[arg(long, value_name = "SUBJECT", conflicts_with = "ids")]
    pub subject: Option<String>,
    /// All tokens that were issued longer ago than this, such as 30d (with --subject: all of that
    /// subject)
    #[arg(long, value_name = "TIME", conflicts_with = "ids")]
    pub before: Option<Seconds>,
    /// Also ids and a subject that this server never issued a token for. Tokens of identity
    /// providers (OIDC) and of other systems' keys are not recorded here, and need this
    #[arg(long)]
    pub force: bool,
}

impl TokenRevokeArgs {
    /// As a message, at the time `now`.
    #[must_use]
    pub fn into_request(self, now: i64) -> RevokeTokens {
        let before =
            self.before.map(|ago| now.saturating_sub(i64::try_from(ago.get()).unwrap_or(i64::MAX)));
        RevokeTokens { ids: self.ids, subject: self.subject, before, force: self.force }
    }
}

/// The token that `token rotate` replaces.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("rotated").required(true).args(["id", "subject"]))]
pub struct TokenRotateArgs {
    /// Its id, as `token list` shows it, or the token itself
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// The one valid token of this subject, in the place of its id
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// For how long the old one stays valid
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub grace: Seconds,
    /// For how long the new one is valid [default: as long as the old one was made for]
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Seconds>,
}

impl TokenRotateArgs {
    /// The token's name, and the rest as a message.
    #[must_use]
    pub fn into_request(self) -> (RotatedToken, RotateToken) {
        let which = match (self.id, self.subject) {
            (Some(id), _) => RotatedToken::Id(id),
            (None, subject) => RotatedToken::OnlyOf(subject.unwrap_or_default()),
        };
        (which, RotateToken { grace: self.grace, expires: self.expires })
    }
}

/// The two ways to name the token for `token rotate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotatedToken {
    /// The one of this id, or this token itself.
    Id(String),
    /// The only valid one of this subject.
    OnlyOf(String),
}
