//! The JSON messages of the push protocol, which servers and clients of any two versions
//! understand.
//!
//! Field names are the format (`snake_case`). Readers ignore fields that they do not know, and
//! every field that was added later has a default. A server states the [`Limits`] of lists in its
//! [`CacheInfo`]. Chunks travel in bundles ([`crate::bundle`]), and the names of missing chunks as
//! bare 32 bytes each.
//!
//! ```
//! use snowbank_core::wire::{CommitLine, ErrorBody, code};
//!
//! let line: CommitLine = serde_json::from_str(r#"{"type":"end","paths":4,"added_later":true}"#)?;
//! assert_eq!(line, CommitLine::End { paths: 4, pin: None });
//!
//! let body = ErrorBody::new(code::NO_PATH, "the cache has no such path");
//! assert_eq!(
//!     serde_json::to_string(&body)?,
//!     r#"{"error":{"code":"no-such-path","message":"the cache has no such path"}}"#
//! );
//! # Ok::<(), serde_json::Error>(())
//! ```

pub mod admin;
mod push_session;

pub use self::push_session::{BeginPushSession, PushSession};

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    chunk::ChunkName,
    cut::CutParams,
    hash::NarHash,
    manifest::{ManifestCounts, ManifestError, WireManifest},
    pin_name::PinName,
    receipt::Receipt,
    units::Seconds,
};

/// Answer to `GET /api/v1/caches/{cache}`: what a client must know before it pushes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheInfo {
    /// The cache's name.
    pub name: String,
    /// Whether it may be read without a token.
    pub public: bool,
    /// The store directory of its paths, such as `/nix/store`.
    pub store_dir: String,
    /// Its active keys, `name:base64`, as nix.conf's `trusted-public-keys` wants them.
    pub public_keys: Vec<String>,
    /// Its rank among substituters; Nix asks lower numbers first.
    pub priority: u32,
    /// Names of upstream keys; paths that they signed need not be pushed.
    #[serde(default)]
    pub upstream_keys: Vec<String>,
    /// How to cut, so that chunks meet those that are there.
    pub cut: CutParams,
    /// The zstd level that the operator asks for.
    pub compression_level: i32,
    /// What one request may hold.
    pub limits: Limits,
    /// What the token that asked may do here: `pull`, `push`, …
    #[serde(default)]
    pub permissions: Vec<String>,
    /// Keys that sign no more; what they signed still counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired_keys: Vec<String>,
    /// Its address as a substituter: the configured public one, else as this request reached the
    /// server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The server's version, for messages only.
    pub server_version: String,
}

/// What one request may hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of a bundle.
    pub bundle_bytes: u64,
    /// Chunks in a bundle.
    pub bundle_entries: u32,
    /// Names in one question for missing chunks.
    pub names_per_request: u32,
    /// Paths in one commit.
    pub paths_per_request: u32,
    /// Paths in one question for missing paths.
    pub paths_per_query: u32,
    /// Bytes of a path's manifest.
    pub manifest_bytes: u64,
    /// Bytes that the NARs of one commit have together.
    #[serde(default = "unlimited")]
    pub commit_nar_bytes: u64,
}

/// What a server says that does not say: it takes what it takes.
const fn unlimited() -> u64 {
    u64::MAX
}

/// Answer to `GET /api/v1/whoami`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoAmI {
    /// Whom the token was made for.
    pub subject: String,
    /// The token's id, by which it can be revoked.
    pub token_id: String,
    /// When it expires, in seconds since 1970.
    #[serde(default)]
    pub expires: Option<i64>,
    /// When it was issued, in seconds since 1970.
    #[serde(default)]
    pub issued: Option<i64>,
    /// Whether it may administer the server.
    pub admin: bool,
    /// Permissions by cache pattern.
    pub caches: BTreeMap<String, Vec<String>>,
    /// The server's version, for messages only.
    pub server_version: String,
}

/// Body of `POST …/missing-paths`. To be asked about by a push counts as use of the paths that are
/// present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPathsRequest {
    /// The paths asked about.
    pub paths: Vec<PathQuery>,
    /// For how long the push wants them kept at least; without it as long as the cache keeps paths.
    /// One that is present never ends sooner for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Seconds>,
    /// Only a question: nothing is pushed, and the paths do not count as used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// One path of a [`MissingPathsRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathQuery {
    /// The full store path.
    pub store_path: String,
    /// SHA-256 of its NAR.
    pub nar_hash: NarHash,
}

/// Answer to `POST …/missing-paths`: each path asked about is in exactly one of the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPathsResponse {
    /// Full store paths that the cache does not have.
    pub missing: Vec<String>,
    /// Receipts of the paths that it has with that NAR hash.
    pub present: Vec<Receipt>,
    /// Paths that it has with another NAR hash.
    pub different: Vec<DifferentPath>,
}

/// A path that the cache has with another NAR hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferentPath {
    /// The full store path.
    pub store_path: String,
    /// The NAR hash in the cache, where the token may see it.
    #[serde(default)]
    pub nar_hash: Option<NarHash>,
}

/// Answer to `POST …/missing-chunks`, whose body is 32-byte chunk names one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingChunksResponse {
    /// Indexes into the names asked about, ascending, of those to send.
    pub missing: Vec<u32>,
}

/// Answer to `POST …/chunks`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredChunks {
    /// Chunks of the bundle that were stored.
    pub stored: u32,
    /// Chunks that were there already.
    pub known: u32,
    /// Bytes of the stored frames.
    pub stored_bytes: u64,
}

/// Body of `POST …/paths`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRequest {
    /// The paths to make visible, references before referrers.
    pub paths: Vec<PathCommit>,
    /// For how long they are kept; without it as long as the cache keeps paths. One that is present
    /// never ends sooner for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Seconds>,
    /// A pin that is made in the transaction in which its path becomes visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PushPin>,
}

/// A pin that comes with one of the paths of a [`CommitRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushPin {
    /// Its name.
    pub name: PinName,
    /// The full store path that it is to stand for.
    pub store_path: String,
    /// How many generations of the name are kept; as many as before where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// A pin that stands for what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedGeneration {
    /// Its name.
    pub name: PinName,
    /// Which of the name's generations it is.
    pub generation: u64,
}

/// One path of a [`CommitRequest`]: its narinfo's fields and its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathCommit {
    /// The full store path.
    pub store_path: String,
    /// SHA-256 of its NAR; the server computes its own and compares.
    pub nar_hash: NarHash,
    /// Bytes of its NAR; the server counts and compares.
    pub nar_size: u64,
    /// Base names of the store paths that it refers to.
    pub references: Vec<String>,
    /// Those of `references` that the pusher left out since an upstream cache has them; all others
    /// must be visible in the cache, or come earlier in the same request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream: Vec<String>,
    /// Base name of the derivation that built it.
    #[serde(default)]
    pub deriver: Option<String>,
    /// The pusher's own signatures, `name:base64`.
    #[serde(default)]
    pub signatures: Vec<String>,
    /// Nix's content address, for paths that have one.
    #[serde(default)]
    pub ca: Option<String>,
    /// The id of the [`CutParams`] under which its chunks were cut; absent where the pusher does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<u32>,
    /// Which chunks and slot values make up its NAR.
    pub manifest: ManifestSource,
}

/// Where a path's manifest is: `{"inline": "base64"}`, or `{"chunks": ["hex", …]}` for one above
/// [`ManifestSource::MAX_INLINE_BYTES`], which was sent as closed chunks of at most
/// [`ManifestSource::PIECE_BYTES`], named in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestSource {
    /// The encoded [`WireManifest`] in standard base64.
    Inline(String),
    /// The chunks that the encoded [`WireManifest`] was cut into.
    Chunks(Vec<ChunkName>),
}

impl ManifestSource {
    /// Encoded manifests up to this many bytes travel inline.
    pub const MAX_INLINE_BYTES: usize = 1 << 20;
    /// Larger ones are cut into pieces of this many bytes; the last is shorter.
    pub const PIECE_BYTES: usize = 1 << 20;

    /// Bytes that the encoded manifest has at most.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Inline(text) => text.len(),
            Self::Chunks(names) => names.len().saturating_mul(Self::PIECE_BYTES),
        };
        bytes as u64
    }

    /// An encoded manifest (at most [`Self::MAX_INLINE_BYTES`]) as the message carries it.
    #[must_use]
    pub fn inline(encoded: &[u8]) -> Self {
        Self::Inline(STANDARD.encode(encoded))
    }

    /// The encoded manifest that an inline message carries.
    ///
    /// # Errors
    /// [`ManifestError::Base64`] when the text is no standard base64.
    pub fn inline_bytes(text: &str) -> Result<Vec<u8>, ManifestError> {
        STANDARD.decode(text).map_err(ManifestError::Base64)
    }

    /// How much the manifest that an inline message carries says of itself, of which no more is
    /// decoded for it than that takes.
    ///
    /// # Errors
    /// As [`Self::inline_bytes`] and [`WireManifest::counts`], as far as that shows.
    pub fn inline_counts(text: &str, nar_size: u64) -> Result<ManifestCounts, ManifestError> {
        /// Base64 of some more bytes than a number has.
        const PART: usize = 24;
        let part = |from: usize| {
            let start = from / 3 * 4;
            let text =
                text.get(start..text.len().min(start + PART)).ok_or(ManifestError::Truncated)?;
            let mut bytes = Self::inline_bytes(text)?;
            bytes.drain(..bytes.len().min(from % 3));
            Ok(bytes)
        };
        WireManifest::counts_from(text.len() / 4 * 3, nar_size, part)
    }

    /// The manifest that an inline message carries.
    ///
    /// # Errors
    /// As [`Self::inline_bytes`] and [`WireManifest::decode`].
    pub fn decode_inline(text: &str) -> Result<WireManifest, ManifestError> {
        WireManifest::decode(&Self::inline_bytes(text)?)
    }
}

/// One line of the NDJSON answer to `POST …/paths`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CommitLine {
    /// The path is visible, durably.
    Receipt(Receipt),
    /// Chunks that are gone or never came; send them and commit the path again.
    ChunksMissing {
        /// The full store path.
        store_path: String,
        /// The chunks to send.
        missing: Vec<ChunkName>,
    },
    /// The cache has the path with another NAR hash; the first stays.
    Different {
        /// The full store path.
        store_path: String,
        /// The NAR hash in the cache, where the token may see it.
        #[serde(default)]
        nar_hash: Option<NarHash>,
    },
    /// The path was refused, or could not be stored.
    Error {
        /// The full store path.
        store_path: String,
        /// One of [`code`].
        code: String,
        /// What happened, to what, and what to do next.
        message: String,
    },
    /// Nothing yet; keeps proxies from timing out.
    Heartbeat,
    /// The last line. An answer without it was cut off.
    End {
        /// Paths that were answered.
        paths: u32,
        /// The pin of the request, if it was made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pin: Option<PinnedGeneration>,
    },
}

/// Body of every answer with a status of 400 or above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// One of [`code`].
    pub code: String,
    /// What happened, to what, and what to do next.
    pub message: String,
    /// The id under which the server logged the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl ErrorBody {
    /// An error without a request id.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            error: ErrorDetail { code: code.to_owned(), message: message.into(), request_id: None },
        }
    }
}

/// The codes of [`ErrorDetail::code`] and of [`CommitLine::Error`]. Clients treat one that they do
/// not know by the answer's status.
pub mod code {
    /// No token, or one that is not valid.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// The token does not name this permission.
    pub const FORBIDDEN: &str = "forbidden";
    /// There is no such cache or route.
    pub const NOT_FOUND: &str = "not-found";
    /// The cache has no such path.
    pub const NO_PATH: &str = "no-such-path";
    /// The cache has no such pin, or the pin no such generation.
    pub const NO_PIN: &str = "no-such-pin";
    /// The server issued no such token.
    pub const NO_TOKEN: &str = "no-such-token";
    /// The server gives no push sessions.
    pub const NO_PUSH_SESSIONS: &str = "no-push-sessions";
    /// It does not go together with what is there; the message says with what.
    pub const CONFLICT: &str = "conflict";
    /// The request does not parse.
    pub const BAD_REQUEST: &str = "bad-request";
    /// The body is over the limit.
    pub const TOO_LARGE: &str = "too-large";
    /// The body came in more slowly than the server waits.
    pub const TOO_SLOW: &str = "too-slow";
    /// The server has as much in hand as it may; wait and repeat.
    pub const BUSY: &str = "busy";
    /// No room is left.
    pub const STORAGE_FULL: &str = "storage-full";
    /// The storage or the database does not answer.
    pub const STORAGE_UNAVAILABLE: &str = "storage-unavailable";
    /// The storage refuses what the server asks of it: the server's operator has to mend that, and
    /// waiting does not help.
    pub const STORAGE_REFUSED: &str = "storage-refused";
    /// The issuer of the token does not say with which keys it signs.
    pub const ISSUER_UNAVAILABLE: &str = "issuer-unavailable";
    /// A fault of the server.
    pub const INTERNAL: &str = "internal";
    /// A chunk is not what its header says.
    pub const CHUNK_INVALID: &str = "chunk-invalid";
    /// A bundle does not parse or is over a limit.
    pub const BUNDLE_INVALID: &str = "bundle-invalid";
    /// A manifest does not parse or is over a limit.
    pub const MANIFEST_INVALID: &str = "manifest-invalid";
    /// The manifest gives a NAR with another hash or size.
    pub const NAR_MISMATCH: &str = "nar-mismatch";
    /// The NAR of a narinfo was not uploaded.
    pub const NAR_MISSING: &str = "nar-missing";
    /// The manifest gives bytes that are no NAR.
    pub const NAR_INVALID: &str = "nar-invalid";
    /// A path's fields are wrong.
    pub const NARINFO_INVALID: &str = "narinfo-invalid";
    /// References are neither in the cache nor upstream's.
    pub const REFERENCES_MISSING: &str = "references-missing";
    /// The path is in another store directory than the cache's.
    pub const STORE_DIR_MISMATCH: &str = "store-dir-mismatch";
    /// A path that was read back is not whole, and out of sight now.
    pub const DAMAGED: &str = "damaged";
    /// A configured limit was hit; the message names it.
    pub const LIMIT_EXCEEDED: &str = "limit-exceeded";
}
