//! Filling: a path's own hashes over the open slots of a frame. This is all that serving a stored
//! frame takes.

use super::{FrameError, Slot};
use crate::{mask::SLOT_LEN, store_path::StorePathHash};

/// Writes each value over its slot in `frame`.
///
/// # Errors
/// [`FrameError::ValueCount`] and [`FrameError::SlotBounds`]; the frame may then be filled in part.
pub fn fill(frame: &mut [u8], slots: &[Slot], values: &[StorePathHash]) -> Result<(), FrameError> {
    if slots.len() != values.len() {
        return Err(FrameError::ValueCount { slots: slots.len(), values: values.len() });
    }
    for (index, (slot, value)) in slots.iter().zip(values).enumerate() {
        place(frame, slot.frame, index)?.copy_from_slice(&value.to_chars());
    }
    Ok(())
}

/// The bytes of slot `index`, which begins at `start`.
pub(super) fn place(
    bytes: &mut [u8],
    start: u32,
    index: usize,
) -> Result<&mut [u8; SLOT_LEN], FrameError> {
    bytes
        .get_mut(start as usize..)
        .and_then(|rest| rest.first_chunk_mut())
        .ok_or(FrameError::SlotBounds(index))
}
