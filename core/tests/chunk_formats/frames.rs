//! Frames of honest chunks: they stay open, and give the true bytes for any values.

use proptest::prelude::*;
use snowbank_core::{
    chunk::{Chunk, SLOT_LEN},
    frame::{
        ChunkHeader, EncodedChunk, FrameDecoder, FrameEncoder, FrameError, FrameVerifier, Slot,
        fill,
    },
};

use crate::sample::{Numbers, PREFIX, one_chunk, planted};

/// Encodes `chunk`, and checks it by filling in its own values and others.
pub fn round_trip(encoder: &mut FrameEncoder, chunk: &Chunk) -> EncodedChunk {
    let name = chunk.name();
    let made = encoder.encode(chunk, &name).unwrap();
    FrameVerifier::new().verify(&made.header, &made.frame, &[6; 32]).unwrap();
    assert_eq!(made.header.name, name);
    assert_eq!(made.header.slots.iter().map(|slot| slot.raw).collect::<Vec<_>>(), chunk.slots);
    let others = Chunk { values: Numbers::new(99).hashes(chunk.values.len()), ..chunk.clone() };
    let mut decoder = FrameDecoder::new();
    for chunk in [chunk, &others] {
        let mut frame = made.frame.clone();
        fill(&mut frame, &made.header.slots, &chunk.values).unwrap();
        let mut bytes = b"before".to_vec();
        decoder.decode_into(&frame, made.header.raw_len, &mut bytes).unwrap();
        assert_eq!(bytes[6..], chunk.true_bytes());
    }
    made
}

impl Numbers {
    pub fn hashes(&mut self, count: usize) -> Vec<snowbank_core::store_path::StorePathHash> {
        (0..count).map(|_| self.hash()).collect()
    }
}

#[test]
fn every_level_leaves_every_kind_of_slot_open() {
    let mut numbers = Numbers::new(20);
    let hash = numbers.hash().to_chars();
    let path = [PREFIX, &hash].concat();
    let zeros = [PREFIX, &[b'0'; 32]].concat();
    let streams = [
        path.clone(),
        [&path[..], b"-tail"].concat(),
        [b"head ", &path[..]].concat(),
        path.repeat(3),
        zeros.repeat(3),
        [&path[..], &path[..PREFIX.len() + 31]].concat(),
        [&path[..], b" ", PREFIX, b"-none ", PREFIX, &hash[..31], b"- ", &path].concat(),
        numbers.text(130_000, 200),
        numbers.text(500_000, 2000),
        numbers.text(5_000, 100),
        numbers.binary(300_000, 900),
        numbers.binary(100_000, 200),
        [vec![0; 200_000], path.clone(), vec![0; 200_000], path.clone()].concat(),
    ];
    for level in [1, 3, 7, 9, 19] {
        let mut encoder = FrameEncoder::new(level);
        for stream in &streams {
            let chunk = one_chunk(stream);
            assert!(chunk.is_open());
            round_trip(&mut encoder, &chunk);
        }
    }
}

#[test]
fn a_slot_at_the_very_start_and_end() {
    let hash = Numbers::new(21).hash();
    let chunk = Chunk {
        bytes: [vec![b'0'; 32], b"between".to_vec(), vec![b'0'; 32]].concat(),
        slots: vec![0, 39],
        values: vec![hash; 2],
    };
    let made = round_trip(&mut FrameEncoder::new(3), &chunk);
    assert_eq!(made.header.slots[0].raw, 0);
    let only = Chunk { bytes: vec![b'0'; 32], slots: vec![0], values: vec![hash] };
    round_trip(&mut FrameEncoder::new(3), &only);
    let adjacent = Chunk { bytes: vec![b'0'; 96], slots: vec![0, 32, 64], values: vec![hash; 3] };
    round_trip(&mut FrameEncoder::new(3), &adjacent);
}

#[test]
fn the_largest_chunk_with_the_most_slots() {
    let slots: Vec<u32> = (0..4096).map(|index| index * 1024 + 500).collect();
    let mut bytes = Numbers::new(22).text(4 << 20, 1 << 30);
    bytes.truncate(4 << 20);
    for &slot in &slots {
        bytes[slot as usize..][..SLOT_LEN].fill(b'0');
    }
    let chunk = Chunk { bytes, slots, values: Numbers::new(23).hashes(4096) };
    round_trip(&mut FrameEncoder::new(3), &chunk);
}

#[test]
fn closed_chunks_of_all_kinds() {
    let mut numbers = Numbers::new(24);
    let mut encoder = FrameEncoder::new(3);
    for bytes in [
        vec![7],
        vec![0; 1 << 20],
        numbers.bytes(600_000),
        numbers.text(200_000, 1 << 30),
        numbers.bytes(100),
    ] {
        let made = round_trip(&mut encoder, &Chunk::closed(bytes));
        assert!(!made.header.is_open());
    }
}

#[test]
fn an_encoder_gives_the_same_whatever_it_did_before() {
    let chunk = one_chunk(&Numbers::new(25).text(50_000, 1000));
    let mut used = FrameEncoder::new(3);
    round_trip(&mut used, &one_chunk(&Numbers::new(26).text(300_000, 900)));
    round_trip(&mut used, &Chunk::closed(vec![1; 1000]));
    assert_eq!(round_trip(&mut used, &chunk), round_trip(&mut FrameEncoder::new(3), &chunk));
}

#[test]
fn chunks_that_nothing_could_have_cut_are_not_encoded() {
    let mut encoder = FrameEncoder::new(3);
    for (len, slots) in [
        (0, vec![]),
        ((4 << 20) + 1, vec![]),
        (40, vec![9]),
        (100, vec![0, 31]),
        (100, vec![50, 0]),
    ] {
        let values = Numbers::new(1).hashes(slots.len());
        let chunk = Chunk { bytes: vec![b'0'; len], slots, values };
        assert!(matches!(encoder.encode(&chunk, &chunk.name()), Err(FrameError::Chunk(_))));
    }
    let unmasked =
        Chunk { bytes: vec![b'1'; 40], slots: vec![0], values: Numbers::new(1).hashes(1) };
    assert!(matches!(encoder.encode(&unmasked, &unmasked.name()), Err(FrameError::Chunk(_))));
}

#[test]
fn filling_checks_its_bounds() {
    let values = Numbers::new(1).hashes(1);
    let slot = |frame| [Slot { raw: 0, frame }];
    assert_eq!(fill(&mut [0; 40], &slot(8), &values), Ok(()));
    assert_eq!(fill(&mut [0; 40], &slot(9), &values), Err(FrameError::SlotBounds(0)));
    assert_eq!(fill(&mut [0; 40], &slot(u32::MAX), &values), Err(FrameError::SlotBounds(0)));
    assert_eq!(
        fill(&mut [0; 40], &slot(8), &[]),
        Err(FrameError::ValueCount { slots: 1, values: 0 })
    );
}

#[test]
fn decoding_never_gives_another_length() {
    let made = round_trip(&mut FrameEncoder::new(3), &Chunk::closed(vec![7; 5000]));
    let mut decoder = FrameDecoder::new();
    for raw_len in [0, 1, 4999, 5001] {
        let mut out = b"kept".to_vec();
        assert!(decoder.decode_into(&made.frame, raw_len, &mut out).is_err());
        assert_eq!(out, b"kept");
    }
    let mut out = Vec::new();
    assert!(decoder.decode_into(&made.frame[..made.frame.len() - 1], 5000, &mut out).is_err());
    decoder.decode_into(&made.frame, 5000, &mut out).unwrap();
}

/// A mutated frame is refused, or is as good as the one that it was.
fn check_mutant(
    verifier: &mut FrameVerifier,
    chunk: &Chunk,
    header: &ChunkHeader,
    frame: &[u8],
) -> bool {
    if verifier.verify(header, frame, &[42; 32]).is_err() {
        return false;
    }
    assert_eq!(header.name, chunk.name());
    let mut frame = frame.to_vec();
    fill(&mut frame, &header.slots, &chunk.values).unwrap();
    let mut bytes = Vec::new();
    FrameDecoder::new().decode_into(&frame, header.raw_len, &mut bytes).unwrap();
    assert_eq!(bytes, chunk.true_bytes());
    true
}

proptest! {
    #[test]
    fn any_stream_comes_back(
        stream in planted().prop_filter("empty", |stream| !stream.is_empty()),
        level in 1_i32..=19,
    ) {
        round_trip(&mut FrameEncoder::new(level), &one_chunk(&stream));
    }

    #[test]
    fn mutated_frames_are_refused_or_equal(
        seed: u64,
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let chunk = one_chunk(&Numbers::new(seed).text(3000, 300));
        let made = FrameEncoder::new(3).encode(&chunk, &chunk.name()).unwrap();
        let mut verifier = FrameVerifier::new();
        prop_assert!(check_mutant(&mut verifier, &chunk, &made.header, &made.frame));
        for (at, byte) in mutations {
            let mut frame = made.frame.clone();
            frame[at.index(made.frame.len())] ^= byte;
            check_mutant(&mut verifier, &chunk, &made.header, &frame);
            let mut bytes = Vec::new();
            made.header.encode_into(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
            if let Ok(Some((header, _))) = ChunkHeader::decode(&bytes) {
                check_mutant(&mut verifier, &chunk, &header, &made.frame);
            }
        }
    }

    #[test]
    fn arbitrary_frames_never_panic(bytes: Vec<u8>, raw_len in 1_u32..5000) {
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd], &bytes[..]].concat();
        let name = Chunk::closed(vec![]).name();
        let frame_len = u32::try_from(frame.len()).unwrap();
        let header = ChunkHeader { name, raw_len, frame_len, slots: vec![] };
        prop_assert!(FrameVerifier::new().verify(&header, &frame, &[0; 32]).is_err());
    }
}
