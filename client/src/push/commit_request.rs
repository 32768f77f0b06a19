//! The part of a commit that is about one path: its manifest, and what Nix recorded of it.
//!
//! A small manifest travels inside the commit, so that the request passes any proxy. A larger one
//! is sent ahead as chunks, and the commit names these. Who sends them is left to the pipeline.

use snowbank_core::chunk::Chunk;
use snowbank_core::store_path::StorePath;
use snowbank_core::wire::{ManifestSource, PathCommit};

use super::plan::PlannedPath;
use super::schedule::BatchCost;
use super::target::Target;

/// Most bytes of a manifest inside a commit, and of a piece of a larger one,
pub(super) const MAX_INLINE_BYTES: usize = 256 << 10;
/// except where that would be more pieces than these.
const MAX_PIECES: usize = 16;
/// Bytes of a path in a commit besides its manifest and names.
const COMMIT_BYTES: usize = 512;

/// A large manifest as chunks.
pub(super) fn manifest_pieces(encoded: &[u8]) -> impl Iterator<Item = Chunk> {
    let piece_bytes = encoded.len().div_ceil(MAX_PIECES).max(MAX_INLINE_BYTES);
    encoded.chunks(piece_bytes).map(|piece| Chunk::closed(piece.to_vec()))
}

/// The commit of a path, and its cost in a batch.
pub(super) fn path_commit(
    planned: &PlannedPath,
    target: &Target,
    manifest: ManifestSource,
) -> (PathCommit, BatchCost) {
    let info = &planned.info;
    let references: Vec<String> = info.references.iter().map(StorePath::base_name).collect();
    let manifest_bytes = match &manifest {
        ManifestSource::Inline(text) => text.len(),
        ManifestSource::Chunks(names) => names.len() * 68,
    };
    let names_bytes: usize =
        references.iter().chain(&planned.upstream).map(|name| name.len() + 3).sum();
    let signature_bytes = info.signatures.len() * 160;
    let cost = BatchCost {
        request_bytes: COMMIT_BYTES + manifest_bytes + names_bytes + signature_bytes,
        nar_bytes: info.nar_size,
    };
    let commit = PathCommit {
        store_path: target.full(&info.path),
        nar_hash: info.nar_hash,
        nar_size: info.nar_size,
        references,
        upstream: planned.upstream.clone(),
        deriver: info.deriver.as_ref().map(StorePath::base_name),
        signatures: info.signatures.iter().map(ToString::to_string).collect(),
        ca: info.ca.clone(),
        cut: Some(u32::from(target.cache.cut.id)),
        manifest,
    };
    (commit, cost)
}
