//! W3: the server decodes the very stream that it will serve, and believes nothing else.
//!
//! Chunks are looked up by name, read from their packs, their slots filled from the manifest,
//! decoded in parallel and hashed in order: SHA-256 of the raw stream must be the declared NAR
//! hash, its length the declared size, and it must parse as a NAR. On the way fall out what serving
//! needs: the stored manifest, FileHash and FileSize.
//!
//! Memory: `read_back` bounds what is read and decoded. Work stops at the declared size.

use std::sync::Arc;

use futures_util::stream::{FuturesOrdered, StreamExt};
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::{FrameDecoder, fill};
use snowbank_core::hash::{FileHash, NarHash, Sha256Hasher};
use snowbank_core::manifest::{ContentDigest, SegmentBuilder, SegmentEntry, WireManifest};
use snowbank_core::nar::decode::Validator;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::locate::all_missing;
use super::read_back::{GROUPS_AHEAD, Group, ReadBack, ReadOutcome};
use super::verify_error::VerifyError;
use super::{Ingest, WorkerStopped};
use crate::db::caches::DomainId;
use crate::db::nars::EncodedSegment;
use crate::pack::StoredChunk;

/// A NAR that this server has decoded, as it will be stored.
#[derive(Debug)]
pub struct VerifiedNar {
    /// SHA-256 of the raw stream: computed here, equal to the declared one.
    pub nar_hash: NarHash,
    /// Raw bytes.
    pub nar_size: u64,
    /// SHA-256 of the compressed stream that will be served.
    pub file_hash: FileHash,
    /// Bytes of that stream.
    pub file_size: u64,
    /// Binds chunk names and slot values.
    pub content_digest: ContentDigest,
    /// Chunks, counting repetitions.
    pub chunk_count: u64,
    /// The stored manifest.
    pub segments: Vec<EncodedSegment>,
    /// The manifest's chunks, in order, under the ids that were read: the commit looks once more
    /// that each still is.
    pub ids: Vec<u64>,
}

/// What is to be verified: that this manifest is that of a NAR with this hash and size.
#[derive(Debug, Clone)]
pub struct NarClaim {
    /// The chunks' names, and what stands in their slots.
    pub manifest: Arc<WireManifest>,
    /// The declared SHA-256.
    pub nar_hash: NarHash,
    /// The declared length.
    pub nar_size: u64,
}

/// What a failure to read some of the chunks `names` comes to. What is damaged for certain is
/// retired, and so the client has to send it again: then the push succeeds.
pub(super) async fn retire_damaged(
    ingest: &Ingest,
    domain: DomainId,
    names: &[ChunkName],
    error: VerifyError,
    now: i64,
) -> VerifyError {
    let Some(suspect) = error.suspect() else { return error };
    let inspector = ingest.inspector.clone();
    // A task of its own: others wait for their turn, and the caller may be waiting for a client.
    let inspection = async move { inspector.inspect(suspect, now).await }.in_current_span();
    match AbortOnDropHandle::new(tokio::spawn(inspection)).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => {
            tracing::warn!(%error, %reason, "a chunk that could not be read back was not looked \
                into");
            return error;
        }
        Err(_) => return error,
    }
    match all_missing(ingest, domain, Vec::new(), names).await {
        Ok(missing) if !missing.is_empty() => VerifyError::Missing(missing),
        _ => error,
    }
}

/// Decodes the NAR that a manifest describes and compares it with what was declared. `now` is in
/// unix seconds.
pub async fn verify(
    ingest: &Ingest,
    domain: DomainId,
    claim: NarClaim,
    now: i64,
) -> Result<VerifiedNar, VerifyError> {
    let (declared, limit) = (claim.nar_size, ingest.limits.max_nar_size);
    if declared > limit {
        return Err(VerifyError::TooLarge { declared, limit });
    }
    // A task of its own: it has memory that others wait for, and its caller may be waiting for a
    // client.
    let (ingest, manifest) = (ingest.clone(), Arc::clone(&claim.manifest));
    let task = async move {
        match decode_all(ingest.clone(), domain, claim).await {
            Err(error) => Err(retire_damaged(&ingest, domain, &manifest.names, error, now).await),
            verified => verified,
        }
    };
    AbortOnDropHandle::new(tokio::spawn(task.in_current_span())).await.map_err(|_| WorkerStopped)?
}

async fn decode_all(
    ingest: Ingest,
    domain: DomainId,
    claim: NarClaim,
) -> Result<VerifiedNar, VerifyError> {
    let NarClaim { manifest, nar_hash, nar_size } = claim;
    let mut reads = ReadBack::start(&ingest, domain, Arc::clone(&manifest), nar_size).await;
    let mut decoding = FuturesOrdered::new();
    let mut state = Some(HashState::new(nar_size));
    let mut next_value = 0;
    // Whether there is nothing to ask `reads` for: for now, until something has been decoded, or
    // for good.
    let (mut busy, mut all_read) = (false, false);
    loop {
        let decoded = tokio::select! {
            Some(decoded) = decoding.next(), if !decoding.is_empty() => decoded,
            group = reads.next(), if !all_read && !busy && decoding.len() < GROUPS_AHEAD => {
                let group = match group? {
                    ReadOutcome::Group(group) => group,
                    ReadOutcome::Busy => {
                        busy = true;
                        continue;
                    }
                    ReadOutcome::End => {
                        all_read = true;
                        continue;
                    }
                };
                let first_value = next_value;
                let slots = group.chunks.iter().map(|(_, chunk)| chunk.header.slots.len());
                next_value += slots.sum::<usize>();
                let values = manifest.values.len();
                if next_value > values {
                    return Err(VerifyError::Slots { values, slots: next_value });
                }
                let manifest = Arc::clone(&manifest);
                let Group { chunks, permit } = group;
                decoding.push_back(ingest.on_cpu(move || {
                    let mut decoder = FrameDecoder::new();
                    (decode(&mut decoder, chunks, &manifest, first_value), permit)
                }));
                continue;
            }
            else => break,
        };
        let (decoded, permit) = decoded?;
        let decoded = decoded?;
        let mut hashing = state.take().ok_or(WorkerStopped)?;
        let manifest = Arc::clone(&manifest);
        let hash = move || {
            let added = hashing.add(&decoded, &manifest);
            drop((decoded, permit));
            added.map(|()| hashing)
        };
        state = Some(ingest.on_cpu(hash).await??);
        busy = false;
    }
    if next_value != manifest.values.len() {
        return Err(VerifyError::Slots { values: manifest.values.len(), slots: next_value });
    }
    let state = state.take().ok_or(WorkerStopped)?;
    state.finish(nar_hash, &manifest, reads.ids)
}

/// Verifies a NAR all of whose chunks are here, in order.
pub(super) fn verify_whole(
    decoder: &mut FrameDecoder,
    chunks: Vec<(u64, StoredChunk)>,
    claim: &NarClaim,
) -> Result<VerifiedNar, VerifyError> {
    let raw_bytes: u64 = chunks.iter().map(|(_, chunk)| u64::from(chunk.header.raw_len)).sum();
    if raw_bytes != claim.nar_size {
        return Err(VerifyError::Mismatch("its size"));
    }
    let slots = chunks.iter().map(|(_, chunk)| chunk.header.slots.len()).sum();
    let values = claim.manifest.values.len();
    if slots != values {
        return Err(VerifyError::Slots { values, slots });
    }
    let ids = chunks.iter().map(|(id, _)| *id).collect();
    let mut state = HashState::new(claim.nar_size);
    state.add(&decode(decoder, chunks, &claim.manifest, 0)?, &claim.manifest)?;
    state.finish(claim.nar_hash, &claim.manifest, ids)
}

/// Chunks after decoding: their frames filled as they will be served, and the raw bytes that they
/// decode to.
struct Decoded {
    chunks: Vec<(u64, StoredChunk)>,
    raw: Vec<u8>,
    entries: Vec<SegmentEntry>,
    first_value: usize,
}

fn decode(
    decoder: &mut FrameDecoder,
    mut chunks: Vec<(u64, StoredChunk)>,
    manifest: &WireManifest,
    first_value: usize,
) -> Result<Decoded, VerifyError> {
    let mut raw =
        Vec::with_capacity(chunks.iter().map(|(_, chunk)| chunk.header.raw_len as usize).sum());
    let mut entries = Vec::with_capacity(chunks.len());
    let mut values = &manifest.values[first_value..];
    for (id, chunk) in &mut chunks {
        let header = &chunk.header;
        let (own, later) = values.split_at(header.slots.len().min(values.len()));
        values = later;
        let filled = fill(&mut chunk.frame, &header.slots, own);
        let outcome =
            filled.and_then(|()| decoder.decode_into(&chunk.frame, header.raw_len, &mut raw));
        outcome.map_err(|source| VerifyError::Frame { chunk: *id, source })?;
        let slots = u32::try_from(header.slots.len()).unwrap_or(u32::MAX);
        entries.push(SegmentEntry {
            id: *id,
            raw_len: header.raw_len,
            frame_len: header.frame_len,
            slots,
        });
    }
    Ok(Decoded { chunks, raw, entries, first_value })
}

/// What goes through the stream in order.
struct HashState {
    declared_size: u64,
    raw: Sha256Hasher,
    raw_bytes: u64,
    file: Sha256Hasher,
    file_bytes: u64,
    nar: Validator,
    builder: SegmentBuilder,
    segments: Vec<EncodedSegment>,
    chunks: u64,
}

impl HashState {
    fn new(declared_size: u64) -> Self {
        Self {
            declared_size,
            raw: Sha256Hasher::new(),
            raw_bytes: 0,
            file: Sha256Hasher::new(),
            file_bytes: 0,
            nar: Validator::new(),
            builder: SegmentBuilder::new(),
            segments: Vec::new(),
            chunks: 0,
        }
    }

    fn add(&mut self, decoded: &Decoded, manifest: &WireManifest) -> Result<(), VerifyError> {
        self.raw_bytes += decoded.raw.len() as u64;
        if self.raw_bytes > self.declared_size {
            return Err(VerifyError::Mismatch("its size"));
        }
        self.raw.update(&decoded.raw);
        self.nar.feed(&decoded.raw)?;
        for (_, chunk) in &decoded.chunks {
            self.file.update(&chunk.frame);
            self.file_bytes += chunk.frame.len() as u64;
        }
        let mut values = &manifest.values[decoded.first_value..];
        for entry in &decoded.entries {
            let (own, later) = values.split_at((entry.slots as usize).min(values.len()));
            values = later;
            if let Some(full) = self.builder.push(*entry, own) {
                self.segments.push(encode(&full));
            }
            self.chunks += 1;
        }
        Ok(())
    }

    fn finish(
        mut self,
        declared: NarHash,
        manifest: &WireManifest,
        ids: Vec<u64>,
    ) -> Result<VerifiedNar, VerifyError> {
        if self.raw_bytes != self.declared_size {
            return Err(VerifyError::Mismatch("its size"));
        }
        let nar_hash = NarHash::from(self.raw.finish());
        if nar_hash != declared {
            return Err(VerifyError::Mismatch("its SHA-256"));
        }
        self.nar.finish()?;
        if let Some(last) = self.builder.finish() {
            self.segments.push(encode(&last));
        }
        Ok(VerifiedNar {
            nar_hash,
            nar_size: self.raw_bytes,
            file_hash: FileHash::from(self.file.finish()),
            file_size: self.file_bytes,
            content_digest: manifest.content_digest(),
            chunk_count: self.chunks,
            segments: self.segments,
            ids,
        })
    }
}

fn encode(segment: &snowbank_core::manifest::Segment) -> EncodedSegment {
    EncodedSegment {
        first_raw: segment.first_raw,
        first_stored: segment.first_stored,
        data: segment.encode(),
    }
}
