//! Filler: the bytes in a slot's place while a chunk is compressed. No match can reach them, and
//! they do not compress.
//!
//! A match that copies from a slot copies at least three bytes (zstd has no shorter ones) of which
//! one at least is the slot's, and they stand again outside of the slots. So filler is safe when no
//! three bytes in a row that touch a slot occur outside of them. Bytes that the chunk does not have
//! give that at once; where it has nearly all of them, each byte is drawn until it does.

use crate::{
    chunk::{Chunk, ChunkName},
    mask::SLOT_LEN,
};

const CONTEXT: &str = "snowbank 2026 slot filler v1";
/// Absent byte values that suffice: any fewer, and filler might compress.
const MIN_ABSENT: usize = 32;
/// How often one byte is drawn at most. The verifier finds filler that is unsafe even then.
const MAX_DRAWS: usize = 512;

/// Makes filler for one chunk.
pub(super) struct Filler {
    kind: Kind,
}

enum Kind {
    /// The byte values that the chunk does not have.
    Absent(Vec<u8>),
    /// The chunk has nearly all of them; these are its trigrams outside of the slots.
    Trigrams(Trigrams),
}

impl Filler {
    pub(super) fn new(chunk: &Chunk) -> Self {
        let mut present = [false; 256];
        for &byte in &chunk.bytes {
            present[usize::from(byte)] = true;
        }
        let absent: Vec<u8> = (0..=u8::MAX).filter(|&byte| !present[usize::from(byte)]).collect();
        let kind = if absent.len() >= MIN_ABSENT {
            Kind::Absent(absent)
        } else {
            Kind::Trigrams(Trigrams::of(chunk))
        };
        Self { kind }
    }

    /// Writes the filler of `seed` over each slot of `bytes`, which are those of the chunk named
    /// `name`.
    pub(super) fn write(&self, bytes: &mut [u8], slots: &[u32], name: &ChunkName, seed: u8) {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        let mut random = hasher.update(name.as_bytes()).update(&[seed]).finalize_xof();
        for &slot in slots {
            let start = slot as usize;
            match &self.kind {
                Kind::Absent(values) => {
                    let mut draw = [0; SLOT_LEN];
                    random.fill(&mut draw);
                    for (place, byte) in bytes[start..start + SLOT_LEN].iter_mut().zip(draw) {
                        *place = values[usize::from(byte) * values.len() / 256];
                    }
                }
                Kind::Trigrams(trigrams) => trigrams.draw(bytes, start, &mut random),
            }
        }
    }
}

/// A set of sequences of three bytes, by a hash of as many values as its bits. It may hold more
/// than was put in, never less.
struct Trigrams {
    bits: Vec<u64>,
    shift: u32,
}

impl Trigrams {
    /// The trigrams of a chunk outside of its slots.
    fn of(chunk: &Chunk) -> Self {
        // Eight bits per byte leave most of them unset; 2^24 is one for each there can be.
        let log = (chunk.bytes.len() * 8).next_power_of_two().trailing_zeros().clamp(10, 24);
        let mut trigrams = Self { bits: vec![0; 1 << (log - 6)], shift: 32 - log };
        let mut start = 0;
        let ends = chunk.slots.iter().map(|&slot| slot as usize).chain([chunk.bytes.len()]);
        for end in ends {
            for trigram in chunk.bytes[start..end].array_windows() {
                let (word, bit) = trigrams.place(*trigram);
                trigrams.bits[word] |= bit;
            }
            start = (end + SLOT_LEN).min(chunk.bytes.len());
        }
        trigrams
    }

    fn place(&self, trigram: [u8; 3]) -> (usize, u64) {
        let [one, two, three] = trigram;
        // Multiplying by an odd number below 2^32 maps trigrams in the upper 24 bits one to one.
        let hash = u32::from_be_bytes([one, two, three, 0]).wrapping_mul(0x9e37_79b1) >> self.shift;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    fn contains(&self, trigram: [u8; 3]) -> bool {
        let (word, bit) = self.place(trigram);
        self.bits[word] & bit != 0
    }

    /// Draws the slot at `start`, from its first byte to its last.
    fn draw(&self, bytes: &mut [u8], start: usize, random: &mut blake3::OutputReader) {
        let mut pool = [0; 64];
        let mut left = 0;
        for at in start..start + SLOT_LEN {
            // The trigrams that this byte completes. The last byte of the slot also decides those
            // with the two bytes that follow.
            let until = if at + 1 == start + SLOT_LEN { (at + 2).min(bytes.len() - 1) } else { at };
            for _ in 0..MAX_DRAWS {
                if left == 0 {
                    random.fill(&mut pool);
                    left = pool.len();
                }
                left -= 1;
                bytes[at] = pool[left];
                if !(at.max(2)..=until)
                    .any(|end| self.contains([bytes[end - 2], bytes[end - 1], bytes[end]]))
                {
                    break;
                }
            }
        }
    }
}
