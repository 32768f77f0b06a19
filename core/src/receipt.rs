//! Receipts: a server's signed promise about a path, and the lines that a push writes about every
//! path that it handled.
//!
//! A receipt is signed with the cache's own key, over [`Receipt::signed_text`]. That text begins
//! with `snowbank-receipt;1;`, while Nix's fingerprint of a path begins with `1;`, so that neither
//! signature can pass for the other.
//!
//! ```
//! use snowbank_core::hash::{NarHash, Sha256};
//! use snowbank_core::receipt::{Receipt, ReceiptStatus};
//! use snowbank_core::signing::SecretKey;
//!
//! let mut receipt = Receipt {
//!     status: ReceiptStatus::Uploaded,
//!     store_path: "/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-hello-2.12.1".to_owned(),
//!     nar_hash: NarHash::from(Sha256::of(b"a NAR")),
//!     nar_size: 226_560,
//!     cache: "main".to_owned(),
//!     time: 1_790_000_000,
//!     signatures: vec![],
//!     stats: None,
//! };
//! let key = SecretKey::from_seed("cache.example.org-1", [1; 32])?;
//! receipt.sign(&key);
//! assert!(receipt.verify(&[key.public()]));
//!
//! receipt.nar_size += 1;
//! assert!(!receipt.verify(&[key.public()]));
//! # Ok::<(), snowbank_core::signing::KeyError>(())
//! ```
//!
//! The example `verify_receipt` checks a whole file of them. The caller brings the time: no clock
//! is read here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    hash::NarHash,
    signing::{PublicKey, SecretKey, Signature},
};

/// How a path came to be in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptStatus {
    /// This push made it visible.
    Uploaded,
    /// It was there before, with the same NAR hash.
    Present,
}

impl ReceiptStatus {
    /// The word that is signed and written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Present => "present",
        }
    }
}

impl fmt::Display for ReceiptStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What pushing one path took, as the client counted it. Not signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptStats {
    /// Chunks in the path's NAR.
    pub chunks_total: u64,
    /// Chunks that the cache did not have when it was asked.
    pub chunks_new: u64,
    /// Chunks that were sent (less than new when another path of the same push brought them).
    pub chunks_sent: u64,
    /// Bytes of the NAR.
    pub bytes_total: u64,
    /// NAR bytes in the new chunks.
    pub bytes_new: u64,
    /// Bytes that travelled: headers and compressed frames.
    pub bytes_sent: u64,
}

/// A server's signed word that a path is in a cache with this content, as the server itself
/// computed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// How the path came to be there.
    pub status: ReceiptStatus,
    /// The full store path.
    pub store_path: String,
    /// SHA-256 of the path's NAR.
    pub nar_hash: NarHash,
    /// Bytes of the path's NAR.
    pub nar_size: u64,
    /// The cache's name.
    pub cache: String,
    /// When it was acknowledged, in seconds since 1970.
    pub time: i64,
    /// One signature per active key of the cache.
    #[serde(default)]
    pub signatures: Vec<Signature>,
    /// The client's own counts, absent in what a server sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<ReceiptStats>,
}

impl Receipt {
    /// The text that is signed: version, status, cache, store path, NAR hash, NAR size and time,
    /// joined by `;`.
    #[must_use]
    pub fn signed_text(&self) -> String {
        let Self { status, cache, store_path, nar_hash, nar_size, time, .. } = self;
        format!("snowbank-receipt;1;{status};{cache};{store_path};{nar_hash};{nar_size};{time}")
    }

    /// Adds the signature of `key`.
    pub fn sign(&mut self, key: &SecretKey) {
        let signature = key.sign(self.signed_text().as_bytes());
        self.signatures.push(signature);
    }

    /// The first of `keys` by which one of the signatures is valid.
    #[must_use]
    pub fn signed_by<'k>(&self, keys: &'k [PublicKey]) -> Option<&'k PublicKey> {
        let text = self.signed_text();
        keys.iter().find(|key| {
            self.signatures.iter().any(|signature| key.verify(text.as_bytes(), signature))
        })
    }

    /// Whether one of the signatures is valid by one of `keys`.
    #[must_use]
    pub fn verify(&self, keys: &[PublicKey]) -> bool {
        self.signed_by(keys).is_some()
    }
}

/// How a pusher knows that an upstream cache has a path. In a line, a field of its own: `signed_by`
/// or `found_at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamReason {
    /// The upstream key of this name signed it.
    SignedBy(String),
    /// The binary cache at this address was asked, and has it with the same NAR hash.
    FoundAt(String),
}

impl fmt::Display for UpstreamReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SignedBy(key) => write!(f, "signed by {key}"),
            Self::FoundAt(url) => write!(f, "{url} has it"),
        }
    }
}

/// One line of a receipts file: what became of one path. Flat JSON objects that begin with `status`
/// and `store_path`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Line", into = "Line")]
pub enum ReceiptLine {
    /// The server's receipt (`uploaded` or `present`).
    Receipt(Receipt),
    /// The cache has the path with another NAR hash; the first stays.
    Different {
        /// The full store path.
        store_path: String,
        /// SHA-256 of the NAR on this machine.
        nar_hash: NarHash,
        /// SHA-256 of the NAR in the cache, where the token may see it.
        cache_nar_hash: Option<NarHash>,
    },
    /// Not pushed, since an upstream cache has it.
    SkippedUpstream {
        /// The full store path.
        store_path: String,
        /// SHA-256 of the NAR.
        nar_hash: NarHash,
        /// How the pusher knows.
        reason: UpstreamReason,
    },
    /// Not pushed, since a filter of the pusher leaves it out.
    LeftOut {
        /// The full store path.
        store_path: String,
        /// SHA-256 of the NAR.
        nar_hash: NarHash,
        /// Why, for people.
        reason: String,
    },
    /// Not pushed.
    Failed {
        /// The full store path.
        store_path: String,
        /// Why, for people.
        reason: String,
    },
}

impl ReceiptLine {
    /// The full store path that the line is about.
    #[must_use]
    pub fn store_path(&self) -> &str {
        match self {
            Self::Receipt(Receipt { store_path, .. })
            | Self::Different { store_path, .. }
            | Self::SkippedUpstream { store_path, .. }
            | Self::LeftOut { store_path, .. }
            | Self::Failed { store_path, .. } => store_path,
        }
    }
}

/// [`ReceiptLine`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
enum Line {
    Uploaded(ReceiptFields),
    Present(ReceiptFields),
    Different {
        store_path: String,
        nar_hash: NarHash,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache_nar_hash: Option<NarHash>,
    },
    SkippedUpstream {
        store_path: String,
        nar_hash: NarHash,
        #[serde(flatten)]
        reason: UpstreamReason,
    },
    LeftOut {
        store_path: String,
        nar_hash: NarHash,
        reason: String,
    },
    Failed {
        store_path: String,
        reason: String,
    },
}

/// The fields of a [`Receipt`] but for its status, which is the line's tag.
#[derive(Serialize, Deserialize)]
struct ReceiptFields {
    store_path: String,
    nar_hash: NarHash,
    nar_size: u64,
    cache: String,
    time: i64,
    #[serde(default)]
    signatures: Vec<Signature>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stats: Option<ReceiptStats>,
}

impl ReceiptFields {
    fn with(self, status: ReceiptStatus) -> ReceiptLine {
        let Self { store_path, nar_hash, nar_size, cache, time, signatures, stats } = self;
        ReceiptLine::Receipt(Receipt {
            status,
            store_path,
            nar_hash,
            nar_size,
            cache,
            time,
            signatures,
            stats,
        })
    }
}

impl From<Line> for ReceiptLine {
    fn from(line: Line) -> Self {
        match line {
            Line::Uploaded(receipt) => receipt.with(ReceiptStatus::Uploaded),
            Line::Present(receipt) => receipt.with(ReceiptStatus::Present),
            Line::Different { store_path, nar_hash, cache_nar_hash } => {
                Self::Different { store_path, nar_hash, cache_nar_hash }
            }
            Line::SkippedUpstream { store_path, nar_hash, reason } => {
                Self::SkippedUpstream { store_path, nar_hash, reason }
            }
            Line::LeftOut { store_path, nar_hash, reason } => {
                Self::LeftOut { store_path, nar_hash, reason }
            }
            Line::Failed { store_path, reason } => Self::Failed { store_path, reason },
        }
    }
}

impl From<ReceiptLine> for Line {
    fn from(line: ReceiptLine) -> Self {
        match line {
            ReceiptLine::Receipt(receipt) => {
                let Receipt {
                    status,
                    store_path,
                    nar_hash,
                    nar_size,
                    cache,
                    time,
                    signatures,
                    stats,
                } = receipt;
                let receipt = ReceiptFields {
                    store_path,
                    nar_hash,
                    nar_size,
                    cache,
                    time,
                    signatures,
                    stats,
                };
                match status {
                    ReceiptStatus::Uploaded => Self::Uploaded(receipt),
                    ReceiptStatus::Present => Self::Present(receipt),
                }
            }
            ReceiptLine::Different { store_path, nar_hash, cache_nar_hash } => {
                Self::Different { store_path, nar_hash, cache_nar_hash }
            }
            ReceiptLine::SkippedUpstream { store_path, nar_hash, reason } => {
                Self::SkippedUpstream { store_path, nar_hash, reason }
            }
            ReceiptLine::LeftOut { store_path, nar_hash, reason } => {
                Self::LeftOut { store_path, nar_hash, reason }
            }
            ReceiptLine::Failed { store_path, reason } => Self::Failed { store_path, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_upstream_is_known_to_have_a_path() {
        for (reason, field) in [
            (UpstreamReason::SignedBy("k-1".to_owned()), r#""signed_by":"k-1""#),
            (UpstreamReason::FoundAt("https://u".to_owned()), r#""found_at":"https://u""#),
        ] {
            let nar_hash = NarHash::from_bytes([1; 32]);
            let line = ReceiptLine::SkippedUpstream {
                store_path: "/nix/store/x".to_owned(),
                nar_hash,
                reason,
            };
            let text = serde_json::to_string(&line).unwrap();
            assert!(
                text.starts_with(r#"{"status":"skipped-upstream","store_path""#)
                    && text.contains(field),
                "{text}"
            );
            assert_eq!(serde_json::from_str::<ReceiptLine>(&text).unwrap(), line);
        }
    }

    #[test]
    fn a_line_of_a_path_that_was_left_out_is_read_as_it_is_written() {
        let line = ReceiptLine::LeftOut {
            store_path: "/nix/store/a".to_owned(),
            nar_hash: NarHash::from_bytes([1; 32]),
            reason: "large".to_owned(),
        };
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.starts_with(r#"{"status":"left-out","store_path":"/nix/store/a""#), "{text}");
        assert_eq!(serde_json::from_str::<ReceiptLine>(&text).unwrap(), line);
    }
}
