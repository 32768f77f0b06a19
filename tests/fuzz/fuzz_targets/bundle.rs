//! A bundle is read alike however it arrives, and what is accepted has no other form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snowbank_core::{
    bundle::{BundleError, BundleReader, BundleWriter},
    frame::ChunkHeader,
};

type Chunks = Vec<(ChunkHeader, Vec<u8>)>;

fn read(bytes: &[u8], step: usize) -> Result<Chunks, BundleError> {
    let mut reader = BundleReader::new();
    let mut chunks = Vec::new();
    for piece in bytes.chunks(step) {
        reader.feed(piece);
        while let Some(chunk) = reader.next()? {
            chunks.push(chunk);
        }
    }
    reader.finish().map(|()| chunks)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(whole, read(bytes, 11));
    if let Ok(chunks) = whole {
        let mut writer = BundleWriter::new();
        for (header, frame) in &chunks {
            writer.add(header, frame);
        }
        assert_eq!(writer.finish(), bytes);
    }
});
