//! Whether a frame wastes room: what a sample of its chunk compresses to, against what the frame
//! takes.
//!
//! Whoever stores a chunk first settles which frame of it is served, and a frame of Raw blocks is
//! as valid as any. The sample is a sixty-fourth of the chunk, in pieces from all over it at places
//! that the sender cannot foresee; it costs little beside decoding and hashing. What repeats only
//! over more than a piece does not show in it. So one chunk in [`CHECKED_ANYWAY`] is suspected
//! whatever its sample says, if its frame takes much of it. A frame of less than half of its chunk
//! can waste less, and of these one in [`SAMPLED_BELOW_HALF`] is sampled. A suspicion proves
//! nothing: it is settled by encoding the chunk.

use zstd::zstd_safe::{CCtx, CParameter, ResetDirective};

use super::ChunkHeader;

/// The level of the sample, and of frames that are put in a wasteful one's place: the least that an
/// honest client has.
pub const MIN_LEVEL: i32 = 1;
/// Frames below this waste little, whatever they are.
const MIN_FRAME_LEN: u32 = 4 << 10;
/// A sample is one piece of this many bytes for each [`STRIDE`] of the chunk, and no more than
/// [`MAX_PIECES`].
const PIECE: usize = 1 << 10;
const STRIDE: usize = 64 * PIECE;
const MAX_PIECES: usize = 16;
/// One frame in so many is suspected in any case that takes three quarters of its chunk or more.
const CHECKED_ANYWAY: u32 = 64;
/// One frame in so many is sampled that takes less than half of its chunk.
const SAMPLED_BELOW_HALF: u32 = 8;

/// Takes samples, one after the other, with one context and the same buffers.
pub struct FrameSampler {
    context: CCtx<'static>,
    sample: Vec<u8>,
    compressed: Vec<u8>,
}

impl FrameSampler {
    /// A sampler. Keep it: its context takes some hundred kilobytes.
    #[must_use]
    pub fn new() -> Self {
        Self { context: CCtx::create(), sample: Vec::new(), compressed: Vec::new() }
    }

    /// Whether the frame of `header` seems to take much more than the chunk `bytes` has to.
    /// `entropy` are 32 bytes that the sender could not foresee.
    pub fn suspects(&mut self, header: &ChunkHeader, bytes: &[u8], entropy: &[u8; 32]) -> bool {
        let frame_len = header.frame_len;
        if frame_len < MIN_FRAME_LEN {
            return false;
        }
        let mut random =
            blake3::Hasher::new_keyed(entropy).update(header.name.as_bytes()).finalize_xof();
        let mut draw = || {
            let mut bytes = [0; 4];
            random.fill(&mut bytes);
            u32::from_le_bytes(bytes)
        };
        if frame_len >= header.raw_len / 4 * 3 && draw() % CHECKED_ANYWAY == 0 {
            return true;
        }
        if frame_len < header.raw_len / 2 && draw() % SAMPLED_BELOW_HALF != 0 {
            return false;
        }
        let pieces = (bytes.len() / STRIDE).clamp(2, MAX_PIECES);
        let stratum = bytes.len() / pieces;
        self.sample.clear();
        for start in (0..pieces).map(|index| index * stratum) {
            let room = u32::try_from(stratum.saturating_sub(PIECE)).unwrap_or(u32::MAX);
            let at = start + (draw() % room.saturating_add(1)) as usize;
            self.sample
                .extend_from_slice(bytes.get(at..bytes.len().min(at + PIECE)).unwrap_or_default());
        }
        // A failure is no reason to suspect anybody.
        let Some(compressed) = self.compressed_len() else { return false };
        // The frame against one and a half times what the whole would take at the sample's rate.
        let (sampled, raw) = (self.sample.len() as u64, bytes.len() as u64);
        2 * u64::from(frame_len) * sampled > 3 * compressed * raw
    }

    fn compressed_len(&mut self) -> Option<u64> {
        self.context.reset(ResetDirective::SessionOnly).ok()?;
        for parameter in [CParameter::CompressionLevel(MIN_LEVEL), CParameter::ChecksumFlag(false)]
        {
            self.context.set_parameter(parameter).ok()?;
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(self.sample.len()));
        self.context.compress2(&mut self.compressed, &self.sample).ok().map(|len| len as u64)
    }
}

impl Default for FrameSampler {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a frame of `frame_len` bytes wastes room beside one of `own_len`, the server's own: it
/// takes a quarter more.
#[must_use]
pub const fn is_wasteful(frame_len: u32, own_len: u32) -> bool {
    frame_len as u64 * 4 > own_len as u64 * 5
}
