//! Frames that take more room than their chunk has to: they are suspected, and honest ones hardly
//! ever.

use snowbank_core::{
    chunk::Chunk,
    frame::{ChunkHeader, FrameEncoder, FrameSampler, is_wasteful},
};

use crate::sample::Numbers;

/// A header as that of a frame of `frame_len` bytes.
fn header(chunk: &Chunk, frame_len: usize) -> ChunkHeader {
    let [raw_len, frame_len] =
        [chunk.bytes.len(), frame_len].map(|len| u32::try_from(len).unwrap());
    ChunkHeader { name: chunk.name(), raw_len, frame_len, slots: Vec::new() }
}

/// How often of 200 times a frame of that length is suspected.
fn suspected(chunk: &Chunk, frame_len: usize) -> usize {
    let (mut sampler, header) = (FrameSampler::new(), header(chunk, frame_len));
    (0..200).filter(|entropy| sampler.suspects(&header, &chunk.bytes, &[*entropy; 32])).count()
}

fn honest_len(chunk: &Chunk, level: i32) -> usize {
    FrameEncoder::new(level).encode(chunk, &chunk.name()).unwrap().frame.len()
}

fn chunks() -> Vec<Chunk> {
    let mut numbers = Numbers::new(40);
    let text = |numbers: &mut Numbers, len| numbers.text(len, 2_000);
    let all = [
        text(&mut numbers, 8_000),
        text(&mut numbers, 130_000),
        text(&mut numbers, 500_000),
        numbers.binary(300_000, 900),
        vec![0; 200_000],
        vec![0; 4 << 20],
    ];
    all.map(Chunk::closed).into()
}

#[test]
fn a_frame_of_raw_blocks_is_suspected() {
    for chunk in chunks() {
        let (raw, own) = (chunk.bytes.len(), honest_len(&chunk, 1));
        if own * 2 < raw {
            assert!(suspected(&chunk, raw) > 190, "{} of {raw} bytes", suspected(&chunk, raw));
            assert!(is_wasteful(u32::try_from(raw).unwrap(), u32::try_from(own).unwrap()));
        }
    }
    // A tenth of it, where a thousandth would do, is found out sooner or later.
    let zeros = Chunk::closed(vec![0; 200_000]);
    assert!((8..60).contains(&suspected(&zeros, 20_000)), "{}", suspected(&zeros, 20_000));
}

#[test]
fn honest_frames_are_hardly_ever_suspected_and_never_wasteful() {
    for chunk in chunks() {
        for level in [1, 3, 9] {
            let honest = honest_len(&chunk, level);
            assert!(
                suspected(&chunk, honest) < 10,
                "{} of {} bytes",
                suspected(&chunk, honest),
                chunk.bytes.len()
            );
            let own = u32::try_from(honest_len(&chunk, 1)).unwrap();
            assert!(!is_wasteful(u32::try_from(honest).unwrap(), own));
        }
    }
}

#[test]
fn one_in_some_that_do_not_compress_is_looked_at_all_the_same() {
    // What repeats over 64 KiB shows in no sample, and is still found out in the end.
    let mut noise = vec![0; 64 << 10];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let chunk = Chunk::closed(noise.repeat(4));
    let raw = chunk.bytes.len();
    assert!(honest_len(&chunk, 1) * 3 < raw);
    assert!((1..20).contains(&suspected(&chunk, raw)), "{}", suspected(&chunk, raw));
}
