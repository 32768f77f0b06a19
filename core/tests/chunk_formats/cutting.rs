//! Masking and cutting.

use proptest::prelude::*;
use snowbank_core::{
    chunk::{Chunk, ChunkName, Chunker, CutParams, SLOT_LEN},
    store_path::StoreDir,
};

use crate::sample::{Numbers, PREFIX, SMALL, cut, cut_in_pieces, one_chunk, planted};

fn rejoined(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(Chunk::true_bytes).collect()
}

fn names(chunks: &[Chunk]) -> Vec<ChunkName> {
    chunks.iter().map(Chunk::name).collect()
}

/// What every cut stream has to keep to.
fn assert_sound(stream: &[u8], chunks: &[Chunk], params: CutParams) {
    assert_eq!(rejoined(chunks), stream);
    let whole = one_chunk(stream);
    let mut start = 0;
    for (index, chunk) in chunks.iter().enumerate() {
        let end = start + chunk.bytes.len();
        assert!(chunk.bytes.len() < params.max as usize + SLOT_LEN);
        assert!(chunk.bytes.len() >= params.min as usize || index + 1 == chunks.len());
        let here: Vec<u32> = whole
            .slots
            .iter()
            .filter(|&&slot| (start..end).contains(&(slot as usize)))
            .map(|&slot| slot - u32::try_from(start).unwrap())
            .collect();
        assert!(
            here.iter().all(|&slot| slot as usize + SLOT_LEN <= chunk.bytes.len()),
            "a slot is cut"
        );
        if chunk.is_open() {
            assert_eq!(chunk.slots, here);
            assert_eq!(chunk.bytes, whole.bytes[start..end]);
            assert!(!chunk.is_dense());
        } else {
            assert!(here.is_empty() || (here.len() > 16 && here.len() * 2048 > chunk.bytes.len()));
            assert_eq!(chunk.bytes, stream[start..end]);
        }
        start = end;
    }
}

proptest! {
    #[test]
    fn any_stream_is_cut_soundly(stream in planted()) {
        assert_sound(&stream, &cut(&stream, SMALL), SMALL);
    }

    #[test]
    fn how_a_stream_is_fed_does_not_matter(
        stream in planted(),
        steps in proptest::collection::vec(prop_oneof![1_usize..80, 1_usize..9000], 1..30),
    ) {
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        for step in steps.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at(rest.len().min(*step));
            pieces.push(piece);
            rest = later;
        }
        prop_assert_eq!(cut_in_pieces(pieces, SMALL), cut(&stream, SMALL));
    }
}

#[test]
fn feeding_byte_by_byte_does_not_matter() {
    for (seed, every) in [(1, 40), (2, 200), (3, 2000)] {
        let stream = Numbers::new(seed).text(60_000, every);
        assert_eq!(cut_in_pieces(stream.chunks(1), SMALL), cut(&stream, SMALL));
    }
}

#[test]
fn large_streams_are_cut_soundly_at_the_default_sizes() {
    let mut numbers = Numbers::new(4);
    let stream = [
        numbers.text(3 << 20, 3000),
        numbers.binary(3 << 20, 5000),
        vec![0; 2 << 20],
        numbers.text(1 << 20, 90),
    ]
    .concat();
    let chunks = cut(&stream, CutParams::DEFAULT);
    assert_sound(&stream, &chunks, CutParams::DEFAULT);
    assert!(chunks.iter().any(Chunk::is_open));
    assert_eq!(cut_in_pieces(stream.chunks(64 << 10), CutParams::DEFAULT), chunks);
}

#[test]
fn a_rebuild_with_other_hashes_has_the_same_open_chunks() {
    let mut numbers = Numbers::new(5);
    let stream = numbers.text(4 << 20, 4000);
    let mut rebuilt = stream.clone();
    for slot in one_chunk(&stream).slots {
        rebuilt[slot as usize..][..SLOT_LEN].copy_from_slice(&numbers.hash().to_chars());
    }
    assert_ne!(rebuilt, stream);
    let (before, after) = (cut(&stream, CutParams::DEFAULT), cut(&rebuilt, CutParams::DEFAULT));
    assert!(before.iter().all(Chunk::is_open));
    assert_eq!(names(&before), names(&after));
}

#[test]
fn an_insertion_moves_few_cuts() {
    let mut numbers = Numbers::new(6);
    let mut stream = numbers.text(8 << 20, 4000);
    let before = names(&cut(&stream, CutParams::DEFAULT));
    stream.splice(4_000_000..4_000_000, *b"something new");
    let after = names(&cut(&stream, CutParams::DEFAULT));
    let new = after.iter().filter(|name| !before.contains(name)).count();
    assert!(new <= 4, "{new} of {} chunks are new", after.len());
}

#[test]
fn lists_of_paths_are_closed() {
    let mut numbers = Numbers::new(7);
    let mut list = Vec::new();
    for _ in 0..100_000 {
        list.extend_from_slice(&[PREFIX, &numbers.hash().to_chars(), b"-x\n"].concat());
    }
    let chunks = cut(&list, CutParams::DEFAULT);
    assert!(chunks.iter().all(|chunk| !chunk.is_open()));
    assert_eq!(rejoined(&chunks), list);
}

#[test]
fn what_exceeds_the_manifest_is_closed() {
    // One slot per 2 KiB, every value another: 8 MiB of manifest hold some 365,000.
    let mut numbers = Numbers::new(8);
    let filling = vec![b'.'; 2048 - PREFIX.len() - SLOT_LEN];
    let mut chunker = Chunker::new(&StoreDir::default(), CutParams::DEFAULT).unwrap();
    let (mut slots, mut closed) = (0, 0);
    let mut on_chunk = |chunk: Chunk| {
        slots += chunk.slots.len();
        closed += usize::from(!chunk.is_open());
    };
    for _ in 0..400_000 {
        chunker.feed(&[PREFIX, &numbers.hash().to_chars(), &filling].concat(), &mut on_chunk);
    }
    chunker.finish(&mut on_chunk);
    assert!((364_000..366_000).contains(&slots), "{slots} slots");
    assert!(closed > 100, "{closed} closed");
}

#[test]
fn an_empty_stream_has_no_chunks() {
    assert!(cut(b"", SMALL).is_empty());
}

#[test]
fn parameters_from_outside_are_checked() {
    assert_eq!(CutParams::DEFAULT.validate(), Ok(()));
    for params in [
        CutParams { id: 9, ..SMALL },
        CutParams { min: 0, ..SMALL },
        CutParams { min: 257, ..SMALL },
        CutParams { min: 2048, ..SMALL },
        CutParams { avg: 128, min: 64, ..SMALL },
        CutParams { max: 512, avg: 512, ..SMALL },
        CutParams { max: 4 << 20, ..SMALL },
        CutParams { min: u32::MAX, avg: u32::MAX, max: u32::MAX, id: 1 },
    ] {
        assert!(params.validate().is_err(), "{params:?}");
    }
}
