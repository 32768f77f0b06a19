//! Any stream is cut alike however it is fed, comes back whole, and encodes as frames that verify.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_core::{
    chunk::{Chunk, Chunker, CutParams},
    frame::{FrameEncoder, FrameError, FrameVerifier},
    store_path::StoreDir,
};

fn cut(bytes: &[u8], step: usize) -> Vec<Chunk> {
    let params = CutParams { id: 1, min: 64, avg: 256, max: 1024 };
    let mut chunker = Chunker::new(&StoreDir::new("/s").expect("valid"), params).expect("valid");
    let mut chunks = Vec::new();
    for piece in bytes.chunks(step) {
        chunker.feed(piece, &mut |chunk| chunks.push(chunk));
    }
    chunker.finish(&mut |chunk| chunks.push(chunk));
    chunks
}

fuzz_target!(|bytes: &[u8]| {
    let chunks = cut(bytes, bytes.len().max(1));
    assert_eq!(chunks, cut(bytes, 13));
    assert_eq!(chunks.iter().flat_map(Chunk::true_bytes).collect::<Vec<_>>(), bytes);
    let mut encoder = FrameEncoder::new(1);
    for chunk in &chunks {
        match encoder.encode(chunk, &chunk.name()) {
            Ok(made) => {
                let verified = FrameVerifier::new().verify(&made.header, &made.frame, &[1; 32]);
                assert_eq!(verified, Ok(()));
            }
            Err(error) => assert_eq!(error, FrameError::WillNotStayOpen),
        }
    }
});
