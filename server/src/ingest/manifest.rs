//! Fetches the manifest that a commit names: in the request itself, or, when it is large, from
//! chunks sent before.
//!
//! Memory: what a manifest takes is known from its first bytes, and is held before it is decoded
//! ([`weight`]). How long one is that was sent as chunks shows only when they have been read. So
//! they are read within a first guess; where it does not cover what they turn out to be, all is
//! given back before more is waited for, and they are read again.

use snowbank_core::frame::FrameDecoder;
use snowbank_core::manifest::{MAX_MANIFEST_BYTES, ManifestCounts, ManifestError, WireManifest};
use snowbank_core::wire::{ManifestSource, PathCommit, code};

use super::Ingest;
use super::candidate::{CandidateError, Refusal, fields_weight};
use super::locate::lookup;
use super::verify::retire_damaged;
use super::verify_error::VerifyError;
use crate::admission::{Client, ManifestRoom};
use crate::db::caches::DomainId;
use crate::db::chunks::ChunkLocation;
use crate::pack::read_chunks;

/// What a chunk of a manifest takes while its NAR is verified and committed: its name, its id, and
/// its place in the stored manifest. The same for a slot: its value, and as much in the stored
/// manifest.
const CHUNK_BYTES: u64 = 32 + 8 + 24;
const SLOT_BYTES: u64 = 20 + 24;

/// What the decoded manifest takes.
fn decoded_weight(counts: ManifestCounts) -> u64 {
    CHUNK_BYTES * counts.chunks + SLOT_BYTES * counts.slots
}

/// What the manifest of a path takes: at once, and once it has been decoded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) decoding: u64,
    pub(super) decoded: u64,
}

/// The weight of a manifest that is sent with its path. One that does not decode takes its own
/// length.
pub(super) fn weight(text: &str, nar_size: u64) -> Weight {
    let encoded = text.len() as u64;
    match ManifestSource::inline_counts(text, nar_size) {
        Ok(counts) => {
            let decoded = decoded_weight(counts);
            Weight { decoding: encoded + decoded, decoded }
        }
        Err(_) => Weight { decoding: encoded, decoded: 0 },
    }
}

/// Reads and decodes the manifest of a path that sends it in its commit.
pub(super) fn decode_inline(text: &str, nar_size: u64) -> Result<WireManifest, ManifestError> {
    WireManifest::decode_for(&ManifestSource::inline_bytes(text)?, nar_size)
}

/// Reads and decodes the manifest of `path` from the chunks `names`, and gives the memory that the
/// path takes.
pub(super) async fn read_in_chunks(
    ingest: &Ingest,
    domain: DomainId,
    client: &Client,
    path: &PathCommit,
    now: i64,
) -> (ManifestRoom, Result<WireManifest, CandidateError>) {
    let own = fields_weight(path);
    // Each piece, and the frame that it comes from.
    let mut bytes = own + 2 * path.manifest.most_bytes();
    loop {
        let room = ingest.budgets.manifest(client, bytes).await;
        let encoded = match read_pieces(ingest, domain, &path.manifest, now).await {
            Ok(encoded) => encoded,
            Err(unfit) => return (room, Err(unfit)),
        };
        let counts = match WireManifest::counts(&encoded, path.nar_size) {
            Ok(counts) => counts,
            Err(error) => return (room, Err(error.into())),
        };
        let decoded = own + decoded_weight(counts);
        bytes = decoded + encoded.len() as u64;
        if room.covers(bytes) {
            let manifest =
                WireManifest::decode_for(&encoded, path.nar_size).map_err(CandidateError::from);
            drop(encoded);
            return (room.fitted(&ingest.budgets, client, decoded), manifest);
        }
    }
}

async fn read_pieces(
    ingest: &Ingest,
    domain: DomainId,
    source: &ManifestSource,
    now: i64,
) -> Result<Vec<u8>, CandidateError> {
    let names = match source {
        ManifestSource::Inline(text) => return Ok(ManifestSource::inline_bytes(text)?),
        ManifestSource::Chunks(names) => names,
    };
    if names.len() > MAX_MANIFEST_BYTES / ManifestSource::PIECE_BYTES {
        let message =
            format!("its manifest is named as {} pieces; at most 16 are taken", names.len());
        return Err(Refusal::new(code::LIMIT_EXCEEDED, message).into());
    }
    let failed = |error: VerifyError| CandidateError::Failed(error);
    let locations = lookup(ingest, domain, names)
        .await
        .map_err(|error| failed(error.into()))?
        .map_err(|missing| failed(VerifyError::Missing(missing)))?;
    let mut encoded = Vec::new();
    for location in locations {
        match read_piece(ingest, location, &mut encoded).await {
            Err(CandidateError::Failed(error)) => {
                return Err(failed(retire_damaged(ingest, domain, names, error, now).await));
            }
            read => read?,
        }
    }
    Ok(encoded)
}

/// Appends one piece of a manifest.
async fn read_piece(
    ingest: &Ingest,
    location: ChunkLocation,
    encoded: &mut Vec<u8>,
) -> Result<(), CandidateError> {
    let id = location.id;
    let read = read_chunks(&ingest.packs, &[location]).await;
    for chunk in read.map_err(|error| CandidateError::Failed(error.into()))? {
        if chunk.header.raw_len as usize > ManifestSource::PIECE_BYTES {
            return Err(ManifestError::Bytes(chunk.header.raw_len as usize).into());
        }
        let bytes = encoded.len() + chunk.header.raw_len as usize;
        if bytes > MAX_MANIFEST_BYTES {
            return Err(ManifestError::Bytes(bytes).into());
        }
        encoded.reserve_exact(chunk.header.raw_len as usize);
        FrameDecoder::new()
            .decode_into(&chunk.frame, chunk.header.raw_len, encoded)
            .map_err(|source| CandidateError::Failed(VerifyError::Frame { chunk: id, source }))?;
    }
    Ok(())
}
