//! Fetches the manifest that a commit names: in the request itself, or, when it is large, from chunks sent before.

use snowbank_core::frame::FrameDecoder;
use snowbank_core::manifest::{MAX_MANIFEST_BYTES, ManifestError, WireManifest};
use snowbank_core::wire::{ManifestSource, code};

use super::Ingest;
use super::candidate::{Refusal, Unfit};
use super::verify::{VerifyError, look_into, lookup};
use crate::db::caches::DomainId;
use crate::db::chunks::ChunkLocation;
use crate::pack::read_chunks;

/// Reads and decodes the manifest of a NAR of `nar_size` bytes; at most [`MAX_MANIFEST_BYTES`].
pub(super) async fn read_manifest(
    ingest: &Ingest,
    domain: DomainId,
    source: &ManifestSource,
    nar_size: u64,
    now: i64,
) -> Result<WireManifest, Unfit> {
    let names = match source {
        ManifestSource::Inline(text) => {
            return Ok(WireManifest::decode_for(&ManifestSource::inline_bytes(text)?, nar_size)?);
        }
        ManifestSource::Chunks(names) => names,
    };
    if names.len() > MAX_MANIFEST_BYTES / ManifestSource::PIECE_BYTES {
        let message = format!("its manifest is named as {} pieces; at most 16 are taken", names.len());
        return Err(Refusal::new(code::LIMIT_EXCEEDED, message).into());
    }
    let failed = |error: VerifyError| Unfit::Failed(error);
    let locations = lookup(ingest, domain, names)
        .await
        .map_err(|error| failed(error.into()))?
        .map_err(|missing| failed(VerifyError::Missing(missing)))?;
    let mut encoded = Vec::new();
    for location in locations {
        match read_piece(ingest, location, &mut encoded).await {
            Err(Unfit::Failed(error)) => return Err(failed(look_into(ingest, domain, names, error, now).await)),
            read => read?,
        }
    }
    Ok(WireManifest::decode_for(&encoded, nar_size)?)
}

/// Appends one piece of a manifest.
async fn read_piece(ingest: &Ingest, location: ChunkLocation, encoded: &mut Vec<u8>) -> Result<(), Unfit> {
    let id = location.id;
    let read = read_chunks(&ingest.packs, &[location]).await;
    for chunk in read.map_err(|error| Unfit::Failed(error.into()))? {
        if chunk.header.raw_len as usize > ManifestSource::PIECE_BYTES {
            return Err(ManifestError::Bytes(chunk.header.raw_len as usize).into());
        }
        let bytes = encoded.len() + chunk.header.raw_len as usize;
        if bytes > MAX_MANIFEST_BYTES {
            return Err(ManifestError::Bytes(bytes).into());
        }
        FrameDecoder::new()
            .decode_into(&chunk.frame, chunk.header.raw_len, encoded)
            .map_err(|source| Unfit::Failed(VerifyError::Frame { chunk: id, source }))?;
    }
    Ok(())
}
