//! What operators say and are told: caches, tokens, keys, the audit log, paths. The same messages
//! are the arguments of `snowbank`'s and `snowbankd`'s commands (feature `cli`), and what those
//! print.

#[cfg(feature = "cli")]
pub mod args;
pub mod collection;
mod only_token;
pub mod pins;
mod show;
pub mod withdrawn;

pub use only_token::NotOneToken;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{Limit, Seconds, Size};

/// A secret on its way: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Body of `PATCH /api/v1/caches/{cache}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct CacheSettings {
    /// Whether anyone may read it.
    #[cfg_attr(feature = "cli", arg(skip))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// Its rank among substituters; Nix asks lower numbers first, and cache.nixos.org has 40
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Whether Nix asks it about many paths at once
    #[cfg_attr(feature = "cli", arg(long, value_name = "BOOL"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub want_mass_query: Option<bool>,
    /// Paths signed by a key of this name are not pushed; may be given several times, and replaces
    /// the list
    #[cfg_attr(feature = "cli", arg(long = "upstream-key", value_name = "NAME"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_keys: Option<Vec<String>>,
    /// The zstd level that its pushers are asked for, 1 (fast) to 19 (small)
    #[cfg_attr(feature = "cli", arg(long, value_name = "LEVEL", allow_negative_numbers = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<i32>,
    /// What it is for; shown in lists
    #[cfg_attr(feature = "cli", arg(long, value_name = "TEXT"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How long a path is kept that nobody pushes or reads: such as 90d, `never` (kept for ever) or
    /// `default`
    #[cfg_attr(feature = "cli", arg(long, value_name = "TIME"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Limit<Seconds>>,
    /// How much it may hold: such as 200GB, or `none`
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Limit<Size>>,
}

impl CacheSettings {
    /// Whether it says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Body of `POST /api/v1/caches`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateCache {
    /// Its name.
    pub name: String,
    /// Whether it shares chunks with no other cache.
    #[serde(default)]
    pub isolated: bool,
    /// The store that its paths belong to; `/nix/store` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_dir: Option<String>,
    /// A signing key in Nix's format, instead of one that the server makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SecretText>,
    /// Everything that can be changed later.
    #[serde(flatten)]
    pub settings: CacheSettings,
}

/// One line of the answer to `GET /api/v1/caches`, and the answer to what changes a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDetails {
    /// Its name.
    pub name: String,
    /// Whether anyone may read it.
    pub public: bool,
    /// Whether it shares chunks with no other cache.
    pub isolated: bool,
    /// The store that its paths belong to.
    pub store_dir: String,
    /// Its rank among substituters.
    pub priority: u32,
    /// Whether Nix asks it about many paths at once.
    pub want_mass_query: bool,
    /// Paths signed by keys of these names are not pushed.
    pub upstream_keys: Vec<String>,
    /// The zstd level that its pushers are asked for.
    pub compression_level: i32,
    /// What it is for.
    pub description: String,
    /// How long a path is kept that nobody pushes or reads.
    pub retention: Limit<Seconds>,
    /// How much it may hold.
    pub max_size: Limit<Size>,
    /// Its keys, also those that sign no more.
    pub keys: Vec<CacheKey>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it was destroyed, if it was; it can be restored for seven days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<i64>,
    /// Its address as a substituter, as this request reached it or as the server is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it holds, for those who manage it; absent until a collection has counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<CacheUsage>,
}

/// What a cache holds, as the last collection counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUsage {
    /// Paths.
    pub paths: u64,
    /// Bytes of their NARs, each path's counted: what clients would fetch, not compressed.
    pub logical_bytes: u64,
    /// Bytes at rest of the chunks that they need, each chunk once.
    pub stored_bytes: u64,
    /// Those of them that no other cache needs: what would be freed without this cache.
    pub own_bytes: u64,
    /// The others.
    pub shared_bytes: u64,
    /// When it was counted, in seconds since 1970.
    pub counted: i64,
}

/// Answer to `POST /api/v1/caches/{cache}/purge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgedCache {
    /// Its name, which is free again.
    pub name: String,
    /// How many paths it had.
    pub paths: u64,
    /// Whether all of it is gone; else the servers go on, and nothing brings it back.
    pub is_gone: bool,
    /// Bytes at rest that no other cache needed, as the last collection counted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_bytes: Option<u64>,
    /// How long collections leave alone what nothing needs.
    pub grace: Seconds,
}

/// A cache's signing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    /// `name:base64`, as nix.conf's `trusted-public-keys` wants it.
    pub public_key: String,
    /// When it was made.
    pub created: i64,
    /// From when on it signs no more; may lie ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<i64>,
}

/// Answer to `GET /api/v1/caches`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheList {
    /// Those that the token may know of, by name.
    pub caches: Vec<CacheDetails>,
    /// What to ask for as `after` to get the rest; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Query of the listings that go on after a name or an id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AfterQuery {
    /// Go on after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Body of `POST /api/v1/caches/{cache}/rename`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameCache {
    /// The new name.
    pub name: String,
}

/// Body of `POST /api/v1/caches/{cache}/rotate-key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateKey {
    /// For how long the old keys go on signing.
    pub overlap: Seconds,
    /// The new key in Nix's format, instead of one that the server makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SecretText>,
}

/// What a token allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenGrants {
    /// Permissions by pattern of cache names.
    #[serde(default)]
    pub caches: BTreeMap<String, Vec<String>>,
    /// Whether it may administrate the server.
    #[serde(default)]
    pub admin: bool,
}

/// Body of `POST /api/v1/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateToken {
    /// Whom or what it is for.
    pub subject: String,
    /// A note for people.
    #[serde(default)]
    pub label: String,
    /// What it allows.
    #[serde(flatten)]
    pub grants: TokenGrants,
    /// For how long.
    pub expires: Seconds,
}

/// Answer to what makes a token: the only time that it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedToken {
    /// The token.
    pub token: SecretText,
    /// What is kept of it.
    pub info: TokenInfo,
}

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Its id, by which it can be revoked.
    pub id: String,
    /// Whom or what it is for.
    pub subject: String,
    /// A note for people.
    pub label: String,
    /// What it allows.
    #[serde(flatten)]
    pub grants: TokenGrants,
    /// The key that it is signed with.
    pub key_id: String,
    /// When it was issued, in seconds since 1970.
    pub created: i64,
    /// Who issued it.
    pub created_by: String,
    /// When its time is over.
    pub expires: i64,
    /// When it was used last, within a minute; absent where it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<i64>,
    /// From when on it is refused; may lie ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<i64>,
}

/// Answer to `GET /api/v1/tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// Newest first.
    pub tokens: Vec<TokenInfo>,
    /// What to ask for as `after` to get the rest; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Body of `POST /api/v1/tokens/revoke`. At least one of the fields says something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RevokeTokens {
    /// These.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// All of this subject that were issued until now, or until `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// All that were issued before this moment, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Also ids and a subject that the server issued no token for, such as those of an identity
    /// provider's tokens.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Answer to `POST /api/v1/tokens/revoke`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedTokens {
    /// How many tokens that this server issued, and that were valid until now, it concerns.
    pub tokens: u64,
    /// Within how many seconds every server refuses them.
    pub within_seconds: u64,
}

/// Body of `POST /api/v1/tokens/{id}/rotate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateToken {
    /// For how long the old one stays valid.
    pub grace: Seconds,
    /// For how long the new one is valid; as long as the old one was made for where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Seconds>,
}

/// Query of `GET /api/v1/audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct AuditQuery {
    /// Only what this subject did
    #[cfg_attr(feature = "cli", arg(long, value_name = "SUBJECT"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only what concerned this cache
    #[cfg_attr(feature = "cli", arg(long, value_name = "CACHE"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Only this action, such as `token.create`; with `*` at its end, all that begin so
    #[cfg_attr(feature = "cli", arg(long, value_name = "ACTION"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// All actions but this one.
    #[cfg_attr(feature = "cli", arg(skip))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// Also `push.chunks`, of which a push has many; `--action push.chunks` shows nothing else
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip)]
    pub all: bool,
    /// At most so many entries, the newest
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 100))]
    pub limit: u32,
    /// Only entries before this one
    #[cfg_attr(feature = "cli", arg(long, value_name = "ID"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
}

impl AuditQuery {
    /// The query of a command, which leaves out what a push has many of unless that is asked for.
    #[must_use]
    pub fn of_command(self) -> Self {
        let without = (!self.all && self.action.is_none()).then(|| "push.chunks".to_owned());
        Self { without, ..self }
    }
}

/// Something that was done, or tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number.
    pub id: i64,
    /// When, in seconds since 1970.
    pub time: i64,
    /// Whose token; `host` for commands on the server's host.
    pub subject: String,
    /// The token's id.
    pub token_id: String,
    /// The address that the request came from.
    pub remote: String,
    /// What, such as `cache.configure`.
    pub action: String,
    /// Which cache, if it was about one.
    pub cache: String,
    /// The particulars; never a secret.
    pub detail: String,
    /// `ok`, or why it was refused.
    pub outcome: String,
}

/// Answer to `GET /api/v1/audit`: newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// What to ask for as `before` to get older ones; absent at the end. A page may be empty and
    /// have it: a server looks at so many entries for one answer and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

impl AuditPage {
    /// Takes in the answer to `query`, and makes `query` ask for what is still wanted; whether
    /// anything is. `next` is where the whole ends then.
    pub fn take(&mut self, page: Self, query: &mut AuditQuery) -> bool {
        query.limit =
            query.limit.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        query.before = page.next;
        self.entries.extend(page.entries);
        self.next = page.next;
        query.limit > 0 && query.before.is_some()
    }
}

/// Query of `GET /api/v1/caches/{cache}/paths`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathQueryText {
    /// Names with `*`, matched against `HASH-NAME` or the name alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Go on where an earlier answer ended: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A path of a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathDetails {
    /// The full store path.
    pub store_path: String,
    /// `sha256:…` of its NAR.
    pub nar_hash: String,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// Bytes of its compressed NAR.
    pub file_size: u64,
    /// Base names of what it refers to, the first of them where it is too many for one answer.
    pub references: Vec<String>,
    /// How many others it refers to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_references: u64,
    /// Base name of what built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deriver: Option<String>,
    /// Signatures that came with it.
    pub signatures: Vec<String>,
    /// Its content address, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The subject of the token that pushed it, for those who may push to the cache or manage it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_by: Option<String>,
    /// When it was pushed, in seconds since 1970.
    pub created: i64,
    /// When it was last read or pushed again, within some minutes; absent where it was not since it
    /// was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<i64>,
    /// Until when it is kept, whoever reads it; absent where the cache's retention counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// The pins that keep it, the first few of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// Whether other pins may keep it as well.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more_pins: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Answer to `GET /api/v1/caches/{cache}/paths`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathPage {
    /// In the order in which they were pushed; by name for a pattern that begins with a letter of
    /// it.
    pub paths: Vec<PathDetails>,
    /// What to ask for as `after` to get the rest; absent at the end. A page may be empty and have
    /// it: a server looks at so many paths for one answer and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Body of `POST /api/v1/caches/{cache}/delete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletePaths {
    /// Full store paths, base names or hash parts.
    pub paths: Vec<String>,
    /// Also what they refer to, as far as nothing else in the cache needs it.
    #[serde(default)]
    pub closure: bool,
    /// Also what refers to them; without this, such paths are a reason to refuse.
    #[serde(default)]
    pub referrers: bool,
    /// Say what would go, and delete nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer to `POST /api/v1/caches/{cache}/delete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedPaths {
    /// Base names of what went, or would go.
    pub deleted: Vec<String>,
    /// Bytes of their NARs.
    pub nar_bytes: u64,
    /// Whether nothing was deleted.
    pub dry_run: bool,
}

/// Body of `POST /api/v1/caches/{cache}/copy`, where the path in the address is the cache that is
/// copied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPaths {
    /// The cache that is copied from.
    pub from: String,
    /// Full store paths, base names or hash parts; everything that they refer to comes along.
    pub paths: Vec<String>,
}

/// Answer to `POST /api/v1/caches/{cache}/copy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedPaths {
    /// Base names of what the cache has now and had not before.
    pub copied: Vec<String>,
    /// How many it had already.
    pub present: u64,
    /// Bytes of the copied NARs.
    pub nar_bytes: u64,
}
