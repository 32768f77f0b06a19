//! A frame that is accepted decodes to the chunk of its name, whatever its slots are filled with.
//!
//! The name cannot be guessed, so it is computed from one decode of the frame as it came: what a
//! forger would do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_core::{
    chunk::{Chunk, ChunkName, SLOT_LEN},
    frame::{ChunkHeader, FrameDecoder, FrameVerifier, fill},
    store_path::StorePathHash,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((header, consumed))) = ChunkHeader::decode(bytes) else { return };
    let frame = &bytes[consumed..];
    let Ok(frame_len) = u32::try_from(frame.len()) else { return };
    if header.raw_len > 1 << 20 {
        return;
    }
    let mut decoder = FrameDecoder::new();
    let mut raw = Vec::new();
    if decoder.decode_into(frame, header.raw_len, &mut raw).is_err() {
        raw = vec![0; header.raw_len as usize];
    }
    for slot in &header.slots {
        raw[slot.raw as usize..][..SLOT_LEN].fill(b'0');
    }
    let slots: Vec<u32> = header.slots.iter().map(|slot| slot.raw).collect();
    let name = ChunkName::of(&raw, slots.iter().copied());
    let header = ChunkHeader { name, frame_len, ..header };
    if FrameVerifier::new().verify(&header, frame, &[7; 32]).is_err() {
        return;
    }
    for byte in [0x00, 0x5a, 0xff] {
        let values = vec![StorePathHash::from_bytes([byte; 20]); slots.len()];
        let mut filled = frame.to_vec();
        fill(&mut filled, &header.slots, &values).expect("verified slots are within the frame");
        let mut decoded = Vec::new();
        decoder.decode_into(&filled, header.raw_len, &mut decoded).expect("verified frames decode");
        let chunk = Chunk { bytes: raw.clone(), slots: slots.clone(), values };
        assert_eq!(decoded, chunk.true_bytes());
    }
});
