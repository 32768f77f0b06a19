//! One bundle: filled with frames, and split when it is too large for a proxy.
//!
//! A bundle is a sequence of records, so any run of its records is a bundle too. Splitting one
//! copies no byte.

use std::sync::Arc;

use bytes::Bytes;
use snowbank_core::bundle::{BundleWriter, MIN_BUNDLE_BYTES};
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::{ChunkHeader, EncodedChunk};

use super::budget::Permit;

/// One chunk of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: ChunkName,
    /// The path that it was cut from first.
    pub(super) path: u32,
    pub(super) raw_len: u32,
    /// Bytes of its record: header and frame.
    pub(super) record_len: usize,
}

/// A request body that is ready to be sent.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) body: Bytes,
    pub(super) entries: Vec<Entry>,
    /// The body's permit, given back when the last part of it is gone: parts share its memory.
    permit: Arc<Permit>,
}

/// A bundle that is still open.
#[derive(Debug, Default)]
pub(super) struct BundleBuilder {
    writer: BundleWriter,
    entries: Vec<Entry>,
    permit: Permit,
}

impl BundleBuilder {
    #[cfg(test)]
    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a chunk may be added without the bundle having more than `bytes` or `entries`.
    pub(super) fn fits(&self, header: &ChunkHeader, bytes: usize, entries: usize) -> bool {
        self.writer.fits(header)
            && self.entries.len() < entries
            && self.writer.len() + header.encoded_len() + header.frame_len as usize <= bytes
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.writer.len()
    }

    /// Adds the chunks of another one. Gives the bundle that was full before.
    pub(super) fn append(
        &mut self,
        mut other: Self,
        bytes: usize,
        entries: usize,
    ) -> Option<Bundle> {
        let fits = self.writer.len() + other.writer.len() <= bytes
            && self.entries.len() + other.entries.len() <= entries
            && self.writer.append(&mut other.writer);
        let full = if fits { None } else { self.take() };
        if fits {
            self.entries.append(&mut other.entries);
            self.permit.join(other.permit);
        } else {
            *self = other;
        }
        full
    }

    /// Adds a chunk and its permit.
    pub(super) fn add(&mut self, path: u32, encoded: &EncodedChunk, mut permit: Permit) {
        let before = self.writer.len();
        self.writer.add(&encoded.header, &encoded.frame);
        let record_len = self.writer.len() - before;
        permit.shrink_to(record_len);
        self.permit.join(permit);
        let ChunkHeader { name, raw_len, .. } = encoded.header;
        self.entries.push(Entry { name, path, raw_len, record_len });
    }

    /// The bundle; `None` when it is empty. An empty one is left.
    pub(super) fn take(&mut self) -> Option<Bundle> {
        let Self { writer, entries, permit } = std::mem::take(self);
        let body = writer.finish().into();
        (!entries.is_empty()).then(|| Bundle { body, entries, permit: Arc::new(permit) })
    }
}

impl Bundle {
    /// Half of this bundle's bytes, but at least [`MIN_BUNDLE_BYTES`]. `None` when it cannot be
    /// made smaller.
    pub(super) fn half(&self) -> Option<usize> {
        (self.entries.len() > 1 && self.body.len() > MIN_BUNDLE_BYTES)
            .then(|| (self.body.len().div_ceil(2)).max(MIN_BUNDLE_BYTES))
    }

    /// The same chunks in bundles of at most `bytes` each, in order; a chunk that is larger is
    /// alone in its bundle.
    pub(super) fn split(mut self, bytes: usize) -> Vec<Self> {
        let mut bundles = Vec::new();
        let mut entries = Vec::new();
        let mut len = 0;
        for entry in std::mem::take(&mut self.entries) {
            if len + entry.record_len > bytes && !entries.is_empty() {
                bundles.push(self.cut_off(len, std::mem::take(&mut entries)));
                len = 0;
            }
            len += entry.record_len;
            entries.push(entry);
        }
        if !entries.is_empty() {
            bundles.push(self.cut_off(len, entries));
        }
        bundles
    }

    fn cut_off(&mut self, len: usize, entries: Vec<Entry>) -> Self {
        Self { body: self.body.split_to(len), entries, permit: Arc::clone(&self.permit) }
    }
}

#[cfg(test)]
mod tests {
    use snowbank_core::bundle::BundleReader;
    use snowbank_core::chunk::Chunk;
    use snowbank_core::frame::FrameEncoder;

    use super::*;
    use crate::push::budget::Budget;

    fn encoded(number: u8, len: usize) -> EncodedChunk {
        let mut bytes: Vec<u8> = blake3_like(number, len);
        bytes[0] = number;
        let chunk = Chunk::closed(bytes);
        FrameEncoder::new(1).encode(&chunk, &chunk.name()).unwrap()
    }

    /// Bytes that do not compress.
    fn blake3_like(seed: u8, len: usize) -> Vec<u8> {
        let mut state = u64::from(seed) + 1;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(len)
        .collect()
    }

    fn names(bundle: &Bundle) -> Vec<ChunkName> {
        let mut reader = BundleReader::new();
        reader.feed(&bundle.body);
        let names =
            std::iter::from_fn(|| reader.next().unwrap()).map(|(header, _)| header.name).collect();
        reader.finish().unwrap();
        names
    }

    #[test]
    fn a_split_bundle_has_the_same_chunks_in_order_and_no_part_over_the_limit() {
        let budget = Budget::new(10_000_000);
        let mut builder = BundleBuilder::default();
        let chunks: Vec<EncodedChunk> = (0..9).map(|number| encoded(number, 100_000)).collect();
        for (path, chunk) in (0..).zip(&chunks) {
            assert!(builder.fits(&chunk.header, 1 << 20, 9));
            builder.add(path, chunk, budget.acquire(150_000).unwrap());
        }
        assert!(
            !builder.fits(&chunks[0].header, 1 << 30, 9)
                && !builder.fits(&chunks[0].header, 950_000, 99)
        );
        let bundle = builder.take().unwrap();
        assert!(builder.is_empty() && builder.take().is_none());
        assert_eq!(budget.free(), 10_000_000 - bundle.body.len());
        let whole = names(&bundle);
        assert_eq!(whole, chunks.iter().map(|chunk| chunk.header.name).collect::<Vec<_>>());

        let half = bundle.half().unwrap();
        assert_eq!(half, MIN_BUNDLE_BYTES.max(bundle.body.len().div_ceil(2)));
        let parts = bundle.split(250_000);
        assert!(parts.len() == 5 && parts.iter().all(|part| part.body.len() <= 250_000));
        assert_eq!(parts.iter().flat_map(names).collect::<Vec<_>>(), whole);
        let paths: Vec<u32> =
            parts.iter().flat_map(|part| part.entries.iter().map(|entry| entry.path)).collect();
        assert_eq!(paths, (0..9).collect::<Vec<_>>());
        drop(parts);
        assert_eq!(budget.free(), 10_000_000);
    }

    #[test]
    fn halving_ends_at_what_bundles_may_always_have() {
        let mut builder = BundleBuilder::default();
        builder.add(0, &encoded(1, 700_000), Permit::default());
        assert_eq!(builder.take().unwrap().half(), None, "one chunk cannot be split");
        builder.add(0, &encoded(1, 300_000), Permit::default());
        builder.add(0, &encoded(2, 300_000), Permit::default());
        let bundle = builder.take().unwrap();
        assert_eq!(bundle.half(), Some(MIN_BUNDLE_BYTES));
        let parts = bundle.split(MIN_BUNDLE_BYTES);
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().all(|part| part.half().is_none()));
    }
}
