//! Verifying frames from outside.
//!
//! After [`walk`] the frame is decoded twice with the slots filled with bytes that the other side
//! cannot foresee, the second time with every one of them changed. zstd only ever copies: a byte
//! that it puts out is a literal, or a copy of one byte before it. So a byte that depends on a slot
//! changes with it, and two decodes that are equal outside of the slots prove that none does. (One
//! decode does not: a match of three bytes may reach a single byte into a slot, and that byte is
//! the expected one in one of 256 attempts.) That the slots come out at their places, with bytes
//! that are random, shows that each is where the header says. What is left is put against the name
//! with `0`s in the slots.

use super::{ChunkHeader, FrameDecoder, FrameError, fill::place, walk::walk};
use crate::{
    chunk::{ChunkName, mask_slot},
    mask::SLOT_LEN,
};

/// Verifies frames, one after the other, with one context and the same buffers.
#[derive(Default)]
pub struct FrameVerifier {
    decoder: FrameDecoder,
    frame: Vec<u8>,
    first: Vec<u8>,
    second: Vec<u8>,
}

impl FrameVerifier {
    /// A verifier. Keep it: buffers grow to the largest chunk and stay.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Proves that `frame` is what `header` says: a frame that decodes, whatever its slots are
    /// filled with, to the chunk of that name with those values in its slots. `entropy` are 32
    /// bytes that whoever made the frame could not foresee.
    ///
    /// # Errors
    /// [`FrameError`] when the frame does not decode, depends on a slot, or is another chunk's.
    pub fn verify(
        &mut self,
        header: &ChunkHeader,
        frame: &[u8],
        entropy: &[u8; 32],
    ) -> Result<(), FrameError> {
        check_outside(header, frame)?;
        let first = room(&mut self.first, header.raw_len as usize);
        if header.is_open() {
            let fillers = fillers(header, entropy);
            self.frame.clear();
            self.frame.extend_from_slice(frame);
            decode_filled(&mut self.decoder, header, &mut self.frame, &fillers, first)?;
            let second = room(&mut self.second, header.raw_len as usize);
            decode_filled(&mut self.decoder, header, &mut self.frame, &changed(&fillers), second)?;
            if first != second {
                return Err(FrameError::DependsOnSlots);
            }
        } else {
            self.decoder.decode(frame, first)?;
        }
        let actual = ChunkName::of(first, header.slots.iter().map(|slot| slot.raw));
        if actual == header.name {
            Ok(())
        } else {
            Err(FrameError::Name { declared: header.name, actual })
        }
    }

    /// The bytes of the chunk whose frame was proved last, masked; `header` is that frame's.
    #[must_use]
    pub fn proved(&self, header: &ChunkHeader) -> &[u8] {
        self.first.get(..header.raw_len as usize).unwrap_or_default()
    }

    /// Proves the same of an open frame that was just made from `bytes`, with `fillers` in its
    /// slots. Since the bytes are known, and a byte that depends on a slot is now the filler's, one
    /// decode with other bytes in the slots shows it.
    pub(super) fn verify_own(
        &mut self,
        header: &ChunkHeader,
        frame: &[u8],
        bytes: &[u8],
        fillers: &[[u8; SLOT_LEN]],
    ) -> Result<(), FrameError> {
        check_outside(header, frame)?;
        let decoded = room(&mut self.first, header.raw_len as usize);
        self.frame.clear();
        self.frame.extend_from_slice(frame);
        decode_filled(&mut self.decoder, header, &mut self.frame, &changed(fillers), decoded)?;
        if decoded == bytes { Ok(()) } else { Err(FrameError::DependsOnSlots) }
    }
}

/// What can be said without decoding.
pub(super) fn check_outside(header: &ChunkHeader, frame: &[u8]) -> Result<(), FrameError> {
    header.check()?;
    if frame.len() != header.frame_len as usize {
        return Err(FrameError::Length { declared: header.frame_len, actual: frame.len() });
    }
    walk(header, frame)
}

/// Other bytes in every place.
fn changed(fillers: &[[u8; SLOT_LEN]]) -> Vec<[u8; SLOT_LEN]> {
    fillers.iter().map(|filler| filler.map(|byte| byte ^ 0x55)).collect()
}

/// Decodes `frame` with `fillers` in its slots, finds them in their places, and masks them there.
fn decode_filled(
    decoder: &mut FrameDecoder,
    header: &ChunkHeader,
    frame: &mut [u8],
    fillers: &[[u8; SLOT_LEN]],
    out: &mut [u8],
) -> Result<(), FrameError> {
    for (index, (slot, filler)) in header.slots.iter().zip(fillers).enumerate() {
        *place(frame, slot.frame, index)? = *filler;
    }
    decoder.decode(frame, out)?;
    for (index, (slot, filler)) in header.slots.iter().zip(fillers).enumerate() {
        if mask_slot(out, slot.raw as usize) != Some(*filler) {
            return Err(FrameError::SlotPlace(index));
        }
    }
    Ok(())
}

/// Random bytes for each slot.
fn fillers(header: &ChunkHeader, entropy: &[u8; 32]) -> Vec<[u8; SLOT_LEN]> {
    let mut reader =
        blake3::Hasher::new_keyed(entropy).update(header.name.as_bytes()).finalize_xof();
    let mut fillers = vec![[0; SLOT_LEN]; header.slots.len()];
    reader.fill(fillers.as_flattened_mut());
    fillers
}

/// The first `len` bytes of a buffer that grows as needed.
fn room(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}
