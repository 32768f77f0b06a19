//! Encoding chunks as frames, slots left open.
//!
//! The encoder flushes before and after each slot and feeds filler in its place that does not
//! compress, so that zstd puts out a Raw block of those 32 bytes. Matches of what comes later must
//! not reach into a slot; [`Filler`] sees to that. Whether it worked is not left to reasoning: each
//! frame with slots goes through the verifier, and if that refuses it the filler is drawn anew,
//! eight times at most.

use zstd::zstd_safe::{self, CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use super::{
    ChunkHeader, FrameError, FrameVerifier, Slot, filler::Filler, verify::check_outside,
    zstd_message,
};
use crate::{
    chunk::{Chunk, ChunkName, MAX_CHUNK_RAW_LEN, MAX_SLOTS_PER_CHUNK},
    mask::{MASK, SLOT_LEN},
};

/// How often the filler of a chunk is drawn at most.
const MAX_SEEDS: u8 = 8;

/// A frame and its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedChunk {
    /// What stands before the frame in bundles and packs.
    pub header: ChunkHeader,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Encodes chunks, one after the other, with one context and the same buffers.
pub struct FrameEncoder {
    context: CCtx<'static>,
    level: i32,
    verifier: FrameVerifier,
    filled: Vec<u8>,
}

impl FrameEncoder {
    /// An encoder at zstd level `level`, which is held to 1 to 19. Keep it: its context takes some
    /// megabytes.
    #[must_use]
    pub fn new(level: i32) -> Self {
        Self {
            context: CCtx::create(),
            level: level.clamp(1, 19),
            verifier: FrameVerifier::new(),
            filled: Vec::new(),
        }
    }

    /// Encodes `chunk`, and proves by the verifier's own code that slots are open. `name` is taken
    /// to be the chunk's name.
    ///
    /// # Errors
    /// [`FrameError::WillNotStayOpen`]: close the chunk and encode that. [`FrameError::Chunk`] for
    /// a chunk that is empty, too long, or has slots that overlap or are not masked.
    pub fn encode(&mut self, chunk: &Chunk, name: &ChunkName) -> Result<EncodedChunk, FrameError> {
        let raw_len = check(chunk)?;
        if !chunk.is_open() {
            let closed = self.encode_closed(chunk, name, raw_len)?;
            // Nothing of it was done by hand, and the server decodes it in any case.
            check_outside(&closed.header, &closed.frame)?;
            return Ok(closed);
        }
        let filler = Filler::new(chunk);
        let mut bytes = std::mem::take(&mut self.filled);
        bytes.clear();
        bytes.extend_from_slice(&chunk.bytes);
        let mut outcome = Err(FrameError::WillNotStayOpen);
        for seed in 0..MAX_SEEDS {
            filler.write(&mut bytes, &chunk.slots, name, seed);
            let made = self.encode_open(&bytes, &chunk.slots, name, raw_len)?;
            let fillers: Vec<_> = chunk
                .slots
                .iter()
                .filter_map(|&slot| bytes[slot as usize..].first_chunk())
                .copied()
                .collect();
            if self.verifier.verify_own(&made.header, &made.frame, &chunk.bytes, &fillers).is_ok() {
                outcome = Ok(made);
                break;
            }
        }
        self.filled = bytes;
        outcome
    }

    fn encode_closed(
        &mut self,
        chunk: &Chunk,
        name: &ChunkName,
        raw_len: u32,
    ) -> Result<EncodedChunk, FrameError> {
        self.prepare(None)?;
        let mut frame = Vec::with_capacity(zstd_safe::compress_bound(chunk.bytes.len()));
        self.context.compress2(&mut frame, &chunk.bytes).map_err(failed)?;
        Ok(finish(*name, raw_len, Vec::new(), frame))
    }

    fn encode_open(
        &mut self,
        filled: &[u8],
        slots: &[u32],
        name: &ChunkName,
        raw_len: u32,
    ) -> Result<EncodedChunk, FrameError> {
        self.prepare(Some(raw_len))?;
        // The bound is for one piece: each flush ends a block early and may cost another header.
        let mut frame =
            Vec::with_capacity(zstd_safe::compress_bound(filled.len()) + 64 * (slots.len() + 1));
        let mut places = Vec::with_capacity(slots.len());
        let mut done = 0;
        for &raw in slots {
            let start = raw as usize;
            self.push(&filled[done..start], &mut frame)?;
            done = start + SLOT_LEN;
            self.push(&filled[start..done], &mut frame)?;
            let payload = frame.len().checked_sub(SLOT_LEN).ok_or(FrameError::WillNotStayOpen)?;
            places.push(Slot {
                raw,
                frame: u32::try_from(payload).map_err(|_| FrameError::WillNotStayOpen)?,
            });
        }
        self.run(&filled[done..], &mut frame)?;
        let mut output = around_end(&mut frame);
        if self.context.end_stream(&mut output).map_err(failed)? != 0 {
            return Err(FrameError::Zstd("the frame outgrew its bound".to_owned()));
        }
        Ok(finish(*name, raw_len, places, frame))
    }

    /// Begins a frame: no checksum, no dictionary, and the content's size in its header.
    fn prepare(&mut self, pledged: Option<u32>) -> Result<(), FrameError> {
        self.context.reset(ResetDirective::SessionOnly).map_err(failed)?;
        for parameter in [
            CParameter::CompressionLevel(self.level),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            self.context.set_parameter(parameter).map_err(failed)?;
        }
        if let Some(len) = pledged {
            self.context.set_pledged_src_size(Some(len.into())).map_err(failed)?;
        }
        Ok(())
    }

    /// Encodes `input` as blocks of its own.
    fn push(&mut self, input: &[u8], frame: &mut Vec<u8>) -> Result<(), FrameError> {
        if input.is_empty() {
            return Ok(());
        }
        self.run(input, frame)?;
        let mut output = around_end(frame);
        if self.context.flush_stream(&mut output).map_err(failed)? == 0 {
            Ok(())
        } else {
            Err(FrameError::Zstd("the frame outgrew its bound".to_owned()))
        }
    }

    fn run(&mut self, input: &[u8], frame: &mut Vec<u8>) -> Result<(), FrameError> {
        let mut input = InBuffer::around(input);
        let mut output = around_end(frame);
        while input.pos() < input.src.len() {
            let before = (input.pos(), output.pos());
            self.context.compress_stream(&mut output, &mut input).map_err(failed)?;
            if (input.pos(), output.pos()) == before {
                return Err(FrameError::Zstd("the frame outgrew its bound".to_owned()));
            }
        }
        Ok(())
    }
}

fn around_end(frame: &mut Vec<u8>) -> OutBuffer<'_, Vec<u8>> {
    let end = frame.len();
    OutBuffer::around_pos(frame, end)
}

fn failed(code: usize) -> FrameError {
    FrameError::Zstd(zstd_message(code))
}

/// The chunk's length, when the chunk is one that may be encoded.
fn check(chunk: &Chunk) -> Result<u32, FrameError> {
    let raw_len = u32::try_from(chunk.bytes.len())
        .ok()
        .filter(|len| (1..=MAX_CHUNK_RAW_LEN).contains(len))
        .ok_or(FrameError::Chunk("its length is 0 or above the limit"))?;
    if chunk.slots.len() > MAX_SLOTS_PER_CHUNK {
        return Err(FrameError::Chunk("it has more slots than allowed"));
    }
    let mut end = 0;
    for &slot in &chunk.slots {
        let start = slot as usize;
        if start < end || chunk.bytes.get(start..start + SLOT_LEN) != Some(&MASK) {
            return Err(FrameError::Chunk("its slots overlap, leave it or are not masked"));
        }
        end = start + SLOT_LEN;
    }
    Ok(raw_len)
}

fn finish(name: ChunkName, raw_len: u32, slots: Vec<Slot>, mut frame: Vec<u8>) -> EncodedChunk {
    frame.shrink_to_fit();
    let frame_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    EncodedChunk { header: ChunkHeader { name, raw_len, frame_len, slots }, frame }
}
