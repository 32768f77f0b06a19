//! Arguments that `snowbank` and `snowbankd` have in common, for clap.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::collection::GcRequest;
use super::pins::MAX_KEPT;
use super::{CacheSettings, CreateToken, DeletePaths, RevokeTokens, RotateToken, TokenGrants};
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
        let upstream_keys =
            if self.no_upstream_keys { Some(Vec::new()) } else { self.settings.upstream_keys };
        CacheSettings { public, upstream_keys, ..self.settings }
    }
}

/// What can be said of a cache only when it is made.
#[derive(Debug, Clone, Default, Args)]
pub struct NewCacheArgs {
    /// Share no chunks with other caches, so that nobody who pushes elsewhere can learn what is in
    /// it
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

/// What can be said of a pin besides its name and its path.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct PinKeepArgs {
    /// Keep the paths of so many generations of the name [default: as many as before, 5 for a new
    /// name]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_KEPT)))]
    pub keep: Option<u32>,
    /// For how long the pin holds, such as 90d [default: until it is removed]
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub expires: Option<Seconds>,
}

/// A length of time that is not nothing, for clap.
///
/// # Errors
/// What is wrong with it.
pub fn some_time(text: &str) -> Result<Seconds, String> {
    match text.parse::<Seconds>() {
        Ok(time) if time.get() == 0 => {
            Err("it would be over at once; give a time such as 24h".to_owned())
        }
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// Tokens that are to be taken back.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["ids", "subject", "before"]))]
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

/// A token that is to be replaced.
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
    /// Which token is meant, and the rest as a message.
    #[must_use]
    pub fn into_request(self) -> (RotatedToken, RotateToken) {
        let which = match (self.id, self.subject) {
            (Some(id), _) => RotatedToken::Id(id),
            (None, subject) => RotatedToken::OnlyOf(subject.unwrap_or_default()),
        };
        (which, RotateToken { grace: self.grace, expires: self.expires })
    }
}

/// Which token is to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotatedToken {
    /// The one of this id, or this token itself.
    Id(String),
    /// The only valid one of this subject.
    OnlyOf(String),
}

/// What goes with paths that are deleted.
#[derive(Debug, Clone, Copy, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, independent of the others"
)]
pub struct DeleteFlags {
    /// Delete what they refer to as well, as far as nothing else in the cache needs it
    #[arg(long)]
    pub closure_of: bool,
    /// Delete what refers to them as well; without this, such paths are a reason to refuse
    #[arg(long)]
    pub referrers: bool,
    /// Say what would go, and delete nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

impl DeleteFlags {
    /// Whether somebody has to be asked, after the answer to a dry run.
    #[must_use]
    pub const fn asks(self) -> bool {
        !self.dry_run && !self.yes
    }

    /// As a message about `paths`; a dry run where somebody is asked first.
    #[must_use]
    pub fn into_request(self, paths: Vec<String>) -> DeletePaths {
        let dry_run = self.dry_run || self.asks();
        DeletePaths { paths, closure: self.closure_of, referrers: self.referrers, dry_run }
    }
}

/// A collection that is to be run.
#[derive(Debug, Clone, Copy, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, independent of the others"
)]
pub struct GcArgs {
    /// Say what would go, why, and how much that would free; remove nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Leave alone what nothing has needed for less than this [default: the server's `[gc] grace`]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<Seconds>,
    /// Rewrite no packs
    #[arg(long)]
    pub no_compact: bool,
    /// Believe the clock although it has jumped
    #[arg(long)]
    pub trust_clock: bool,
    /// Do not ask, which `--grace 0s` does otherwise
    #[arg(long)]
    pub yes: bool,
}

impl GcArgs {
    /// What somebody has to agree to first.
    #[must_use]
    pub fn question(self) -> Option<&'static str> {
        let asks = self.grace == Some(Seconds::new(0)) && !self.dry_run && !self.yes;
        asks.then_some(
            "Without a grace period, what pushes under way have sent so far goes as well, and they \
             send it again.",
        )
    }

    /// What follows from a grace period other than the server's, where nobody is asked about it.
    #[must_use]
    pub fn warning(self) -> Option<&'static str> {
        let warns = self.grace.is_some() && !self.dry_run && self.question().is_none();
        warns.then_some("pushes that take longer than --grace may have to send chunks again")
    }

    /// As a message.
    #[must_use]
    pub const fn into_request(self) -> GcRequest {
        let Self { dry_run, grace, no_compact, trust_clock, yes: _ } = self;
        GcRequest { dry_run, grace, no_compact, trust_clock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_collection_without_a_grace_period_asks() {
        let zero = GcArgs { grace: Some(Seconds::new(0)), ..GcArgs::default() };
        assert!(zero.question().is_some() && zero.warning().is_none());
        for calm in
            [GcArgs { dry_run: true, ..zero }, GcArgs { yes: true, ..zero }, GcArgs::default()]
        {
            assert!(calm.question().is_none(), "{calm:?}");
        }
        let short = GcArgs { grace: Some(Seconds::new(60)), ..GcArgs::default() };
        assert!(short.question().is_none() && short.warning().is_some());
        assert!(GcArgs::default().warning().is_none());
    }

    #[test]
    fn deleting_is_a_dry_run_until_somebody_agrees() {
        let asks = DeleteFlags::default();
        assert!(asks.asks() && asks.into_request(Vec::new()).dry_run);
        let agreed = DeleteFlags { yes: true, ..asks };
        assert!(!agreed.asks() && !agreed.into_request(Vec::new()).dry_run);
    }
}
