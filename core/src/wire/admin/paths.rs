//! Messages about the paths of a cache.

use serde::{Deserialize, Serialize};

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
