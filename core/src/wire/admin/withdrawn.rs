//! What a cache had to take out of sight, since chunks of it are damaged or gone.

use serde::{Deserialize, Serialize};

/// Query of `GET /api/v1/caches/{cache}/withdrawn`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WithdrawnQuery {
    /// Go on after this hash part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A path that answers 404 until it is pushed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawnPath {
    /// Its base name.
    pub path: String,
    /// `sha256:…` of its NAR.
    pub nar_hash: String,
    /// What is wrong.
    pub reason: String,
    /// Since when, in seconds since 1970.
    pub since: i64,
}

/// Answer to `GET /api/v1/caches/{cache}/withdrawn`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawnPage {
    /// By hash part.
    pub paths: Vec<WithdrawnPath>,
    /// What to ask for as `after` to get the rest; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
