//! What one pair of releases costs to store, by cut parameters and zstd level.
//!
//! Each pair is a store of its own: the old release goes in first, then the new one, then the new
//! one as rebuilt with other dependencies. "Blind" is the classic design, with no masking, run over
//! the very same streams.

use std::{collections::HashSet, fs, iter::Sum, ops::AddAssign};

use anyhow::{Context, Result};
use snowbank_core::{
    chunk::{Chunk, Chunker},
    cut::CutParams,
    frame::{FrameEncoder, FrameError},
    store_path::StoreDir,
};
use zstd::bulk::Compressor;

use crate::{
    blind::BlindStore,
    plant::{self, Streams},
};

/// Bytes stored for each release, in the order in which they come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    /// The old release.
    pub first: u64,
    /// The new one, beside the old one.
    pub next: u64,
    /// The new one rebuilt, beside both.
    pub rebuild: u64,
}

impl AddAssign for Stored {
    fn add_assign(&mut self, other: Self) {
        self.first += other.first;
        self.next += other.next;
        self.rebuild += other.rebuild;
    }
}

impl Sum for Stored {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |mut sum, item| {
            sum += item;
            sum
        })
    }
}

/// The classic design's figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blind {
    /// Frames, without any header.
    pub stored: Stored,
    /// Chunks of the old release.
    pub chunks: u64,
    /// CPU nanoseconds for compressing those.
    pub cpu_nanos: u64,
}

/// What cut parameters alone decide, of the old release unless it says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cuts {
    /// Chunks, each counted once.
    pub chunks: u64,
    /// Their bytes.
    pub raw: u64,
    /// Bytes of those with slots.
    pub open_raw: u64,
    /// Slots.
    pub slots: u64,
    /// Bytes of chunks with store paths in them that the chunker closed.
    pub closed_raw: u64,
    /// Chunks of the new release that the old one has not.
    pub next_chunks: u64,
}

/// What cut parameters and level decide together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames {
    /// Frames and their headers.
    pub stored: Stored,
    /// Of the old release: frames and headers of open chunks, and what the same true bytes are as
    /// plain zstd frames.
    pub open: u64,
    /// See `open`.
    pub open_plain: u64,
    /// Open chunks that had to be closed since their slots would not stay open.
    pub gave_up: u64,
    /// CPU nanoseconds for encoding the old release, self-check included.
    pub cpu_nanos: u64,
}

macro_rules! sums {
    ($type:ident: $($field:ident),+) => {
        impl Sum for $type {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self::default(), |mut sum, item| {
                    $(sum.$field += item.$field;)+
                    sum
                })
            }
        }
    };
}
sums!(Blind: stored, chunks, cpu_nanos);
sums!(Cuts: chunks, raw, open_raw, slots, closed_raw, next_chunks);
sums!(Frames: stored, open, open_plain, gave_up, cpu_nanos);

/// Measures the classic design.
pub fn blind(streams: &Streams) -> Result<Blind> {
    let mut store = BlindStore::new()?;
    let started = cpu_nanos()?;
    let first = store.add(&streams.first)?;
    let cpu_nanos = cpu_nanos()? - started;
    let chunks = store.chunks();
    let next = store.add(&streams.next)?;
    let rebuild = store.add(&streams.rebuild)?;
    Ok(Blind { stored: Stored { first, next, rebuild }, chunks, cpu_nanos })
}

/// Measures ours: one [`Frames`] per level.
pub fn masked(streams: &Streams, params: CutParams, levels: &[i32]) -> Result<(Cuts, Vec<Frames>)> {
    let mut seen = HashSet::new();
    let mut new_chunks = |nar: &[u8]| -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        let mut keep = |chunk: Chunk| {
            if seen.insert(chunk.name()) {
                chunks.push(chunk);
            }
        };
        let mut chunker = Chunker::new(&StoreDir::default(), params)?;
        chunker.feed(nar, &mut keep);
        chunker.finish(&mut keep);
        Ok(chunks)
    };
    let first = new_chunks(&streams.first)?;
    let next = new_chunks(&streams.next)?;
    let rebuild = new_chunks(&streams.rebuild)?;
    let cuts = count(&first, next.len());
    let frames = levels.iter().map(|&level| {
        let mut encoding = Encoding::new(level)?;
        let started = cpu_nanos()?;
        let stored_first = encoding.store_all(&first)?;
        let cpu_nanos = cpu_nanos()? - started;
        let open_plain = encoding.plain(&first)?;
        let open = encoding.open;
        let stored = Stored {
            first: stored_first,
            next: encoding.store_all(&next)?,
            rebuild: encoding.store_all(&rebuild)?,
        };
        Ok(Frames { stored, open, open_plain, gave_up: encoding.gave_up, cpu_nanos })
    });
    Ok((cuts, frames.collect::<Result<_>>()?))
}

fn count(first: &[Chunk], next_chunks: usize) -> Cuts {
    let mut cuts =
        Cuts { chunks: first.len() as u64, next_chunks: next_chunks as u64, ..Cuts::default() };
    for chunk in first {
        let len = chunk.bytes.len() as u64;
        cuts.raw += len;
        cuts.slots += chunk.slots.len() as u64;
        if chunk.is_open() {
            cuts.open_raw += len;
        } else if plant::has_store_path(&chunk.bytes) {
            cuts.closed_raw += len;
        }
    }
    cuts
}

/// One level's encoders, and what they counted.
struct Encoding {
    frames: FrameEncoder,
    plain: Compressor<'static>,
    open: u64,
    gave_up: u64,
}

impl Encoding {
    fn new(level: i32) -> Result<Self> {
        Ok(Self {
            frames: FrameEncoder::new(level),
            plain: Compressor::new(level)?,
            open: 0,
            gave_up: 0,
        })
    }

    /// Bytes of all chunks' frames and headers.
    fn store_all(&mut self, chunks: &[Chunk]) -> Result<u64> {
        let mut stored = 0;
        for chunk in chunks {
            let encoded = match self.frames.encode(chunk, &chunk.name()) {
                Err(FrameError::WillNotStayOpen) => {
                    self.gave_up += 1;
                    let closed = chunk.clone().close();
                    self.frames.encode(&closed, &closed.name())?
                }
                encoded => encoded?,
            };
            let len = (encoded.header.encoded_len() + encoded.frame.len()) as u64;
            stored += len;
            if encoded.header.is_open() {
                self.open += len;
            }
        }
        Ok(stored)
    }

    /// Bytes of the open chunks, had they no slots: plain frames and headers.
    fn plain(&mut self, chunks: &[Chunk]) -> Result<u64> {
        let mut len = 0;
        for chunk in chunks.iter().filter(|chunk| chunk.is_open()) {
            len += (HEADER_LEN + self.plain.compress(&chunk.true_bytes())?.len()) as u64;
        }
        Ok(len)
    }
}

/// Bytes of a header without slots.
const HEADER_LEN: usize = 44;

/// CPU time of this thread, so that what else the machine does counts little.
fn cpu_nanos() -> Result<u64> {
    let file = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let first = text.split_whitespace().next().context("schedstat is empty")?;
    Ok(first.parse()?)
}
