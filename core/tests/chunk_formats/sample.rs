//! Streams to try: made from a seed, so that a failure can be run again.

use proptest::prelude::*;
use snowbank_core::{
    chunk::{Chunk, Chunker, CutParams, SLOT_LEN},
    store_path::{StoreDir, StorePathHash},
};

pub const PREFIX: &[u8] = b"/nix/store/";

/// Small chunks, so that a test's stream has many.
pub const SMALL: CutParams = CutParams { id: 1, min: 256, avg: 1024, max: 4096 };

/// A stream of numbers from a seed (BLAKE3's).
pub struct Numbers(blake3::OutputReader);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes);
        bytes
    }

    pub fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes) as usize % limit
    }

    pub fn hash(&mut self) -> StorePathHash {
        let mut bytes = [0; 20];
        self.0.fill(&mut bytes);
        StorePathHash::from_bytes(bytes)
    }

    /// Text of about `len` bytes with a store path every `every` bytes or so, and near misses among
    /// them.
    pub fn text(&mut self, len: usize, every: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "import ",
            "self.",
            "return ",
            "def ",
            "    ",
            "\n",
            "None",
            "(value)",
            "class ",
            "lib/",
            "python3.13/",
            "site-packages/",
            "= ",
            "if not ",
            "0x7f",
            "; ",
        ];
        const NAMES: [&str; 6] =
            ["-glibc-2.40", "-bash-5.2/bin/sh", "-foo", "-python3-3.13.1/lib", "", ".drv"];
        let hashes: Vec<_> = (0..40).map(|_| self.hash()).collect();
        let mut out = Vec::new();
        while out.len() < len {
            if self.below(every / 5 + 1) == 0 {
                let hash = match self.below(12) {
                    0 => [b'0'; SLOT_LEN],
                    _ => hashes[self.below(hashes.len())].to_chars(),
                };
                // One in ten is one character short of a hash.
                let chars = if self.below(10) == 0 { SLOT_LEN - 1 } else { SLOT_LEN };
                out.extend_from_slice(PREFIX);
                out.extend_from_slice(&hash[..chars]);
                out.extend_from_slice(NAMES[self.below(NAMES.len())].as_bytes());
            } else {
                out.extend_from_slice(WORDS[self.below(WORDS.len())].as_bytes());
            }
        }
        out
    }

    /// Bytes of all values, with a store path every `every` bytes or so.
    pub fn binary(&mut self, len: usize, every: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < len {
            let run = 1 + self.below(2 * every);
            // Half of it is like what came before, as machine code is.
            if out.len() > 4096 && self.below(2) == 0 {
                let from = self.below(out.len() - run.min(4096));
                let end = (from + run).min(out.len());
                out.extend_from_within(from..end);
            } else {
                let bytes = self.bytes(run);
                out.extend(bytes);
            }
            out.extend_from_slice(PREFIX);
            out.extend_from_slice(&self.hash().to_chars());
            out.extend_from_slice(b"-zlib-1.3.1/lib\0");
        }
        out
    }
}

/// All chunks of a stream, fed whole.
pub fn cut(stream: &[u8], params: CutParams) -> Vec<Chunk> {
    cut_in_pieces([stream], params)
}

/// All chunks of a stream, fed piece by piece.
pub fn cut_in_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    params: CutParams,
) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut chunker = Chunker::new(&StoreDir::default(), params).unwrap();
    for piece in pieces {
        chunker.feed(piece, &mut |chunk| chunks.push(chunk));
    }
    chunker.finish(&mut |chunk| chunks.push(chunk));
    chunks
}

/// A chunk of `stream` as a whole, open if it has any slot.
pub fn one_chunk(stream: &[u8]) -> Chunk {
    let (mut bytes, mut slots, mut values) = (stream.to_vec(), vec![], vec![]);
    let mut at = 0;
    while at < bytes.len() {
        let slot = at + PREFIX.len();
        let value = bytes.get(slot..slot + SLOT_LEN).and_then(StorePathHash::from_chars);
        match value.filter(|_| bytes[at..].starts_with(PREFIX)) {
            Some(value) => {
                bytes[slot..slot + SLOT_LEN].fill(b'0');
                slots.push(u32::try_from(slot).unwrap());
                values.push(value);
                at = slot + SLOT_LEN;
            }
            None => at += 1,
        }
    }
    Chunk { bytes, slots, values }
}

/// Arbitrary bytes with store paths and pieces of them planted anywhere.
pub fn planted() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => any::<[u8; 20]>().prop_map(|hash| {
            [PREFIX, &StorePathHash::from_bytes(hash).to_chars()].concat()
        }),
        1 => Just([PREFIX, &[b'0'; 32]].concat()),
        1 => Just([PREFIX, &[b'a'; 31]].concat()),
        1 => Just(PREFIX.to_vec()),
        1 => Just(vec![b'z'; 32]),
        2 => proptest::collection::vec(any::<u8>(), 0..300),
        2 => (any::<u8>(), 0_usize..900).prop_map(|(byte, len)| vec![byte; len]),
        2 => "[a-z /.-]{0,200}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}
