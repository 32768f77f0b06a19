//! Cutting: a NAR stream comes in pieces of any size, and goes out as chunks, masked and cut by
//! content.
//!
//! The cut is `FastCDC` (Xia et al., 2020, as in the crate `fastcdc`) over the masked stream, so
//! that it does not move when store hashes change. Chunks depend on the stream and the parameters
//! alone, never on how the stream was fed. A cut inside of a slot moves to the slot's end. The
//! chunker's memory is a few times the largest chunk.
//!
//! ```
//! use snowbank_core::cut::{Chunker, CutParams};
//! use snowbank_core::store_path::StoreDir;
//!
//! let stream: Vec<u8> =
//!     (0..200_000_u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
//! let cut = |piece: usize| {
//!     let mut chunks = Vec::new();
//!     let mut chunker = Chunker::new(&StoreDir::default(), CutParams::DEFAULT).unwrap();
//!     for piece in stream.chunks(piece) {
//!         chunker.feed(piece, &mut |chunk| chunks.push(chunk));
//!     }
//!     chunker.finish(&mut |chunk| chunks.push(chunk));
//!     chunks
//! };
//! let chunks = cut(1_000);
//! assert!(chunks.len() > 1);
//! assert_eq!(chunks, cut(4_096));
//! assert_eq!(chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>(), stream.len());
//! ```
//!
//! Parameters are advice. A server takes chunks cut by any parameters, but only those that are cut
//! alike are found again.

use std::collections::{HashSet, VecDeque};

use fastcdc::v2020::{self, Normalization};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    chunk::{Chunk, MAX_CHUNK_RAW_LEN},
    manifest::{MAX_MANIFEST_SLOTS, SLOT_BUDGET_BYTES},
    mask::{Masker, SLOT_LEN},
    store_path::{StoreDir, StorePathHash},
};

/// Why no chunker can work by some parameters.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CutParamsError {
    /// The id is from a later version.
    #[error("cut parameters {0} are not known here: update this program to the server's version")]
    UnknownId(u16),
    /// A size is out of its bounds.
    #[error(
        "cut parameters {min}/{avg}/{max} (min/avg/max bytes) are refused: wanted are even \
         numbers, 64 <= min <= avg <= max <= {limit}, avg >= 256, max >= 1024",
        limit = CutParams::MAX_CHUNK_BYTES
    )]
    Sizes {
        /// Least bytes of a chunk.
        min: u32,
        /// Wanted bytes of a chunk.
        avg: u32,
        /// Most bytes of a chunk.
        max: u32,
    },
}

/// How to cut. Servers hand it to clients; the id names the algorithm, the sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutParams {
    /// 1, 2, 3: `FastCDC` 2020 with that level of normalisation.
    pub id: u16,
    /// Least bytes of a chunk, but for a stream's last.
    pub min: u32,
    /// Wanted bytes of a chunk.
    pub avg: u32,
    /// Most bytes of a chunk, but for what a cut moves to a slot's end.
    pub max: u32,
}

impl CutParams {
    /// What a cache is made with.
    pub const DEFAULT: Self = Self { id: 1, min: 32 << 10, avg: 128 << 10, max: 512 << 10 };

    /// The largest `max`. A cut that moves to a slot's end adds less than a slot, and still makes
    /// no chunk above [`MAX_CHUNK_RAW_LEN`].
    pub const MAX_CHUNK_BYTES: u32 = MAX_CHUNK_RAW_LEN - 32;

    /// Checks that a chunker can work by these.
    ///
    /// # Errors
    /// [`CutParamsError`] for an unknown id, and for sizes out of their bounds or out of order.
    pub fn validate(&self) -> Result<(), CutParamsError> {
        self.normalization().ok_or(CutParamsError::UnknownId(self.id))?;
        let Self { min, avg, max, .. } = *self;
        let even = [min, avg, max].iter().all(|size| size % 2 == 0);
        let ordered = (64..=avg).contains(&min) && min <= 1 << 20 && avg >= 256 && avg <= max;
        if even && ordered && (1024..=Self::MAX_CHUNK_BYTES).contains(&max) {
            Ok(())
        } else {
            Err(CutParamsError::Sizes { min, avg, max })
        }
    }

    const fn normalization(&self) -> Option<Normalization> {
        match self.id {
            1 => Some(Normalization::Level1),
            2 => Some(Normalization::Level2),
            3 => Some(Normalization::Level3),
            _ => None,
        }
    }
}

impl Default for CutParams {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// [`CutParams`] with the masks that they choose.
#[derive(Debug)]
struct Cutter {
    min: usize,
    avg: usize,
    max: usize,
    mask_small: u64,
    mask_large: u64,
}

impl Cutter {
    fn new(params: CutParams) -> Result<Self, CutParamsError> {
        params.validate()?;
        let level = params.normalization().ok_or(CutParamsError::UnknownId(params.id))?;
        let (min, avg, max) = (params.min as usize, params.avg as usize, params.max as usize);
        let (mask_small, mask_large) = v2020::select_masks(avg, level);
        Ok(Self { min, avg, max, mask_small, mask_large })
    }

    /// Bytes of the chunk at the beginning of `window`, which holds `max` bytes or the stream's
    /// rest.
    fn cut(&self, window: &[u8]) -> usize {
        let Self { min, avg, max, mask_small, mask_large } = *self;
        v2020::cut(window, min, avg, max, mask_small, mask_large, mask_small << 1, mask_large << 1)
            .1
    }
}

/// Masks one stream and cuts it into chunks.
#[derive(Debug)]
pub struct Chunker {
    masker: Masker,
    cutter: Cutter,
    budget: SlotBudget,
    /// The stream from the last cut on, after `start` bytes that are done with.
    buffer: Vec<u8>,
    start: usize,
    /// Up to where `buffer` is masked for good.
    decided: usize,
    /// Slots found in `buffer` that no chunk has yet: offset in `buffer` and value.
    slots: VecDeque<(usize, StorePathHash)>,
}

impl Chunker {
    /// A chunker for one NAR stream of `store_dir`.
    ///
    /// # Errors
    /// As [`CutParams::validate`].
    pub fn new(store_dir: &StoreDir, params: CutParams) -> Result<Self, CutParamsError> {
        Ok(Self {
            masker: Masker::new(store_dir),
            cutter: Cutter::new(params)?,
            budget: SlotBudget::default(),
            buffer: Vec::new(),
            start: 0,
            decided: 0,
            slots: VecDeque::new(),
        })
    }

    /// Takes the next piece of the stream, and gives each chunk that is complete to `on_chunk`, in
    /// order.
    pub fn feed(&mut self, mut input: &[u8], on_chunk: &mut dyn FnMut(Chunk)) {
        // Three windows: what is left of one when the buffer is full is moved once per two windows
        // of input.
        let capacity = 3 * self.cutter.max + self.masker.lookahead();
        while !input.is_empty() {
            if self.buffer.len() == capacity {
                self.compact();
            }
            let (now, later) = input.split_at(input.len().min(capacity - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            input = later;
            self.advance(false, on_chunk);
        }
    }

    /// Ends the stream, and gives the chunks that are left to `on_chunk`.
    pub fn finish(mut self, on_chunk: &mut dyn FnMut(Chunk)) {
        self.advance(true, on_chunk);
    }

    /// Masks what has come in and cuts as long as that does not depend on what is to come.
    fn advance(&mut self, last: bool, on_chunk: &mut dyn FnMut(Chunk)) {
        let slots = &mut self.slots;
        self.decided = self.masker.mask(&mut self.buffer, self.decided, last, |slot, value| {
            slots.push_back((slot, value));
        });
        loop {
            let window = &self.buffer[self.start..self.decided];
            if window.is_empty() || (!last && window.len() < self.cutter.max) {
                return;
            }
            let len = self.cutter.cut(&window[..window.len().min(self.cutter.max)]);
            let chunk = self.take_chunk(len);
            on_chunk(self.budget.admit(chunk));
        }
    }

    /// Takes `len` bytes, or a few more where that would cut a slot.
    fn take_chunk(&mut self, len: usize) -> Chunk {
        let mut end = self.start + len;
        let mut slots = Vec::new();
        let mut values = Vec::new();
        while let Some((slot, value)) = self.slots.pop_front_if(|(slot, _)| *slot < end) {
            // A slot is decided as a whole, so that its end lies in the decided part of the buffer.
            end = end.max(slot + SLOT_LEN);
            // Offsets in a chunk are below MAX_CHUNK_RAW_LEN.
            slots.push(u32::try_from(slot - self.start).unwrap_or(u32::MAX));
            values.push(value);
        }
        let bytes = self.buffer[self.start..end].to_vec();
        self.start = end;
        Chunk { bytes, slots, values }
    }

    /// Moves what is not yet cut to the front of the buffer.
    fn compact(&mut self) {
        let start = std::mem::take(&mut self.start);
        self.buffer.drain(..start);
        self.decided -= start;
        for (slot, _) in &mut self.slots {
            *slot -= start;
        }
    }
}

/// What slots may still cost in the stream's manifest.
#[derive(Debug)]
struct SlotBudget {
    slots: usize,
    bytes: usize,
    seen: HashSet<StorePathHash>,
}

impl Default for SlotBudget {
    fn default() -> Self {
        Self { slots: MAX_MANIFEST_SLOTS, bytes: SLOT_BUDGET_BYTES, seen: HashSet::new() }
    }
}

impl SlotBudget {
    /// The chunk as it is, or closed when its slots are dense or would not fit in the manifest.
    fn admit(&mut self, chunk: Chunk) -> Chunk {
        if !chunk.is_open() {
            return chunk;
        }
        // Each value costs an index of at most three bytes, and 20 bytes once.
        let at_most = chunk.slots.len() * (3 + 20);
        if chunk.is_dense() || chunk.slots.len() > self.slots || at_most > self.bytes {
            return chunk.close();
        }
        let new = chunk.values.iter().filter(|value| self.seen.insert(**value)).count();
        self.slots -= chunk.slots.len();
        self.bytes -= chunk.slots.len() * 3 + new * 20;
        chunk
    }
}
