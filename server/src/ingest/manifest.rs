//! Fetches the manifest that a commit names: in the request itself, or, when it is large, from chunks sent before.

use snowbank_core::frame::FrameDecoder;
use snowbank_core::manifest::{MAX_MANIFEST_BYTES, ManifestError, WireManifest};
use snowbank_core::wire::{ManifestSource, code};

use super::Ingest;
use super::candidate::{Refusal, Unfit};
use super::verify::{VerifyError, lookup};
use crate::db::caches::DomainId;
use crate::pack::{ReadError, read_chunks};

/// Reads and decodes the manifest of a NAR of `nar_size` bytes; at most [`MAX_MANIFEST_BYTES`].
pub(super) async fn read_manifest(
    ingest: &Ingest,
    domain: DomainId,
    source: &ManifestSource,
    nar_size: u64,
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
        let read = read_chunks(&ingest.packs, &[location]).await;
        for chunk in read.map_err(|error: ReadError| failed(error.into()))? {
            if chunk.header.raw_len as usize > ManifestSource::PIECE_BYTES {
                return Err(ManifestError::Bytes(chunk.header.raw_len as usize).into());
            }
            let bytes = encoded.len() + chunk.header.raw_len as usize;
            if bytes > MAX_MANIFEST_BYTES {
                return Err(ManifestError::Bytes(bytes).into());
            }
            FrameDecoder::new()
                .decode_into(&chunk.frame, chunk.header.raw_len, &mut encoded)
                .map_err(|error| failed(error.into()))?;
        }
    }
    Ok(WireManifest::decode_for(&encoded, nar_size)?)
}
