//! Frames that waste room are encoded anew.
//!
//! Whoever stores a chunk first settles for the whole dedup domain which frame of it is served. A
//! frame that takes a quarter more than the server's own at zstd's level 1 is replaced by that; so
//! nobody can make a chunk larger for all others than a client in a hurry does. Slots stay open:
//! the encoder proves it, and a chunk whose slots do not stay open in its hands keeps the frame
//! that came.
//!
//! Which frames are looked at is for `FrameSampler` to say. Memory: one lot at a time, in the place
//! of chunks that take much to be verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use snowbank_core::chunk::Chunk;
use snowbank_core::frame::{
    ChunkHeader, EncodedChunk, FrameEncoder, FrameVerifier, MIN_LEVEL, is_wasteful,
};

use super::{Ingest, WorkerStopped};
use crate::pack::NewRecord;

/// Gives `lot`, which has been verified, with frames of the server's own in place of those of
/// `suspects` that waste room; `found` is set if there was one.
pub(super) async fn recode(
    ingest: &Ingest,
    mut lot: Vec<NewRecord>,
    suspects: Vec<usize>,
    entropy: [u8; 32],
    found: &AtomicBool,
) -> Result<Vec<NewRecord>, WorkerStopped> {
    let place = Arc::clone(&ingest.oversized).acquire_owned().await.map_err(|_| WorkerStopped)?;
    let recode = move || {
        let (mut verifier, mut encoder) = (FrameVerifier::new(), FrameEncoder::new(MIN_LEVEL));
        let mut replaced = 0;
        for index in suspects {
            let record = &mut lot[index];
            if let Some(EncodedChunk { header, frame }) =
                smaller(&mut verifier, &mut encoder, record, &entropy)
            {
                *record = NewRecord { header, frame };
                replaced += 1;
            }
        }
        drop(place);
        (lot, replaced)
    };
    let (lot, replaced) = ingest.on_cpu(recode).await?;
    if replaced > 0 {
        found.store(true, Ordering::Relaxed);
        metrics::counter!("snowbank_reencoded_chunks_total").increment(replaced);
    }
    Ok(lot)
}

/// The server's own frame for a chunk, if the one that came wastes room beside it.
fn smaller(
    verifier: &mut FrameVerifier,
    encoder: &mut FrameEncoder,
    record: &NewRecord,
    entropy: &[u8; 32],
) -> Option<EncodedChunk> {
    let NewRecord { header, frame } = record;
    verifier.verify(header, frame, entropy).ok()?;
    let ChunkHeader { name, slots, frame_len, .. } = header;
    let slots = slots.iter().map(|slot| slot.raw).collect();
    let chunk = Chunk { bytes: verifier.proved(header).to_vec(), slots, values: Vec::new() };
    let own = encoder.encode(&chunk, name).ok()?;
    is_wasteful(*frame_len, own.header.frame_len).then_some(own)
}
