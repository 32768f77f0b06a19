//! The fields of a path as a client sends them, parsed into what the database may hold.

use std::collections::HashMap;
use std::sync::Arc;

use snowbank_core::hash::NarHash;
use snowbank_core::manifest::{ManifestError, WireManifest};
use snowbank_core::narinfo::{NarInfo, is_content_address};
use snowbank_core::signing::Signature;
use snowbank_core::store_path::{StoreDir, StorePath};
use snowbank_core::wire::{PathCommit, code};

use super::verify::NarClaim;
use super::verify_error::VerifyError;
use crate::db::caches::Cache;
use crate::db::nars::Nar;

/// Names that one path may refer to. Nixpkgs' largest closures have references in the hundreds.
const MAX_REFERENCES: usize = 10_000;
/// What a name takes once it is parsed, which the references are twice: all of them, and those that
/// are needed.
const NAME_BYTES: u64 = 320;
/// What a path takes besides its names and its manifest, while it is verified and committed.
const PATH_BYTES: u64 = 2_048;
pub(super) const MAX_SIGNATURES: usize = 64;
const MAX_CA_BYTES: usize = 1024;
/// Characters of a text that an answer repeats.
const MAX_REPEATED: usize = 300;

/// A path whose fields are well formed; nothing is known yet of its content.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) path: StorePath,
    pub(super) claim: NarClaim,
    /// Sorted, without repetition.
    pub(super) references: Vec<StorePath>,
    /// Those of the references that must be visible in the cache: all but its own and upstream's.
    pub(super) needed: Vec<StorePath>,
    pub(super) deriver: Option<StorePath>,
    pub(super) signatures: Vec<Signature>,
    pub(super) ca: Option<String>,
    /// Lines of its narinfo that only its readers know.
    pub(super) extra: String,
    /// The chunking that the client says it cut by.
    pub(super) cut: Option<u32>,
}

/// Why a path is not taken, as the client is told: a code of [`code`] and a message.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What parsing a path may end in besides a refusal.
#[derive(Debug)]
pub(super) enum CandidateError {
    Refused(Refusal),
    Failed(VerifyError),
}

impl From<Refusal> for CandidateError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Candidate {
    /// Checks every field of `commit` but its manifest, which is `manifest`.
    pub(super) fn parse(
        cache: &Cache,
        commit: PathCommit,
        manifest: impl FnOnce(&PathCommit) -> Result<WireManifest, CandidateError>,
    ) -> Result<Self, CandidateError> {
        let path = store_path(&cache.store_dir, &commit.store_path)?;
        let mut references = base_names("reference", &commit.references)?;
        references.sort_unstable();
        references.dedup();
        let upstream = base_names("upstream reference", &commit.upstream)?;
        let needed = references
            .iter()
            .filter(|name| **name != path && !upstream.contains(name))
            .cloned()
            .collect::<Vec<_>>();
        let deriver =
            commit.deriver.as_deref().map(|name| base_name("deriver", name)).transpose()?;
        if commit.signatures.len() > MAX_SIGNATURES {
            return Err(too_many_signatures(commit.signatures.len()).into());
        }
        let signatures =
            commit.signatures.iter().map(|text| signature(text)).collect::<Result<_, _>>()?;
        if let Some(ca) = &commit.ca
            && (ca.len() > MAX_CA_BYTES || !is_content_address(ca))
        {
            return Err(Refusal::new(
                code::NARINFO_INVALID,
                "its content address is none that Nix knows",
            )
            .into());
        }
        let manifest = manifest(&commit)?;
        Ok(Self {
            path,
            claim: NarClaim {
                manifest: Arc::new(manifest),
                nar_hash: commit.nar_hash,
                nar_size: commit.nar_size,
            },
            references,
            needed,
            deriver,
            signatures,
            ca: commit.ca,
            extra: String::new(),
            cut: commit.cut,
        })
    }

    /// A path that was described by a narinfo, and whose NAR has a row. Its manifest is not needed.
    pub(super) fn of_narinfo(info: NarInfo) -> Result<Self, Refusal> {
        let NarInfo { store_path: path, nar_hash, nar_size, references, .. } = info;
        if references.len() > MAX_REFERENCES {
            let message =
                format!("{} references; at most {MAX_REFERENCES} are taken", references.len());
            return Err(Refusal::new(code::LIMIT_EXCEEDED, message));
        }
        if info.signatures.len() > MAX_SIGNATURES {
            return Err(too_many_signatures(info.signatures.len()));
        }
        if info.ca.as_ref().is_some_and(|ca| ca.len() > MAX_CA_BYTES) {
            let message = format!("its content address has more than {MAX_CA_BYTES} bytes");
            return Err(Refusal::new(code::LIMIT_EXCEEDED, message));
        }
        let needed = references.iter().filter(|name| **name != path).cloned().collect();
        let manifest = WireManifest { names: Vec::new(), values: Vec::new() };
        Ok(Self {
            path,
            claim: NarClaim { manifest: Arc::new(manifest), nar_hash, nar_size },
            references,
            needed,
            deriver: info.deriver,
            signatures: info.signatures,
            ca: info.ca,
            extra: info.extra.join("\n"),
            cut: None,
        })
    }

    /// Whether this very manifest is that of one of `nars`: then it has been decoded before.
    pub(super) fn is_known(&self, nars: &HashMap<NarHash, Nar>) -> bool {
        let NarClaim { manifest, nar_hash, nar_size } = &self.claim;
        let is_same = |nar: &Nar| {
            nar.nar_size == *nar_size && nar.content_digest == manifest.content_digest()
        };
        nars.get(nar_hash).is_some_and(is_same)
    }
}

/// What the fields of a path take in memory while it is verified and committed, all but its
/// manifest.
pub(super) fn fields_weight(commit: &PathCommit) -> u64 {
    PATH_BYTES + NAME_BYTES * (commit.references.len() + commit.upstream.len()) as u64
}

fn store_path(dir: &StoreDir, text: &str) -> Result<StorePath, Refusal> {
    StorePath::parse(dir, text).map_err(|error| {
        if text.starts_with(&format!("{dir}/")) {
            Refusal::new(
                code::NARINFO_INVALID,
                format!("`{}` is not a store path: {error}", start(text)),
            )
        } else {
            let text = start(text);
            let message = format!(
                "`{text}` is not in this cache's store directory, {dir}; push it to a cache of its \
                    own"
            );
            Refusal::new(code::STORE_DIR_MISMATCH, message)
        }
    })
}

fn too_many_signatures(count: usize) -> Refusal {
    let message = format!("{count} signatures; at most {MAX_SIGNATURES} are taken");
    Refusal::new(code::LIMIT_EXCEEDED, message)
}

fn base_names(what: &str, names: &[String]) -> Result<Vec<StorePath>, Refusal> {
    if names.len() > MAX_REFERENCES {
        let message =
            format!("{} entries in its {what}s; at most {MAX_REFERENCES} are taken", names.len());
        return Err(Refusal::new(code::LIMIT_EXCEEDED, message));
    }
    names.iter().map(|name| base_name(what, name)).collect()
}

fn base_name(what: &str, name: &str) -> Result<StorePath, Refusal> {
    StorePath::from_base_name(name).map_err(|error| {
        Refusal::new(
            code::NARINFO_INVALID,
            format!("its {what} `{}` is not a store path: {error}", start(name)),
        )
    })
}

fn signature(text: &str) -> Result<Signature, Refusal> {
    text.parse().map_err(|error| {
        let text = start(text);
        Refusal::new(
            code::NARINFO_INVALID,
            format!("its signature `{text}` is not of the form name:base64: {error}"),
        )
    })
}

/// As much of a text as an answer repeats.
fn start(text: &str) -> &str {
    text.char_indices().nth(MAX_REPEATED).map_or(text, |(end, _)| &text[..end])
}

impl From<ManifestError> for CandidateError {
    fn from(error: ManifestError) -> Self {
        let code = match error {
            // It may be well formed, and is not that of the NAR that was declared.
            ManifestError::Room(_) => code::NAR_MISMATCH,
            _ => code::MANIFEST_INVALID,
        };
        Self::Refused(Refusal::new(code, format!("its manifest: {error}")))
    }
}
