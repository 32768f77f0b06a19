//! The classic design, for comparison: plain `FastCDC` over the NAR, with no masking, and one zstd
//! frame per chunk.

use std::collections::HashSet;

use anyhow::Result;
use fastcdc::v2020::FastCDC;
use zstd::bulk::Compressor;

const SIZES: (usize, usize, usize) = (16 << 10, 64 << 10, 256 << 10);
const LEVEL: i32 = 8;

/// A store of that design: it counts bytes, and keeps none.
pub struct BlindStore {
    zstd: Compressor<'static>,
    seen: HashSet<blake3::Hash>,
}

impl BlindStore {
    /// An empty store.
    pub fn new() -> Result<Self> {
        Ok(Self { zstd: Compressor::new(LEVEL)?, seen: HashSet::new() })
    }

    /// Adds a NAR, and gives the bytes of the frames that are new: frames alone, without any
    /// header.
    pub fn add(&mut self, nar: &[u8]) -> Result<u64> {
        let (min, avg, max) = SIZES;
        let mut stored = 0;
        for cut in FastCDC::new(nar, min, avg, max) {
            let bytes = &nar[cut.offset..cut.offset + cut.length];
            if self.seen.insert(blake3::hash(bytes)) {
                stored += self.zstd.compress(bytes)?.len() as u64;
            }
        }
        Ok(stored)
    }

    /// Chunks that it holds.
    pub fn chunks(&self) -> u64 {
        self.seen.len() as u64
    }
}
