//! From the bytes of an upload to chunks: decompressed, hashed, parsed as a NAR, masked and cut in
//! one pass.
//!
//! Memory: one buffer of decompressed bytes, the chunker's few windows, and a batch of chunks. The
//! caller takes the batch before it feeds more.

use std::io;

use snowbank_core::chunk::{Chunk, CutParams};
use snowbank_core::cut::Chunker;
use snowbank_core::hash::{FileHash, NarHash, Sha256Hasher};
use snowbank_core::nar::decode::{NarError, Validator};
use snowbank_core::store_path::StoreDir;
use thiserror::Error;

use super::decompress::{Compression, Decompressor};

/// Decompressed bytes at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// A batch is handed over once it has so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// Why an upload is no NAR.
#[derive(Debug, Error)]
pub enum NarUploadError {
    /// It does not decompress.
    #[error("it does not decompress as {compression:?}: {source}")]
    Decompress {
        /// As its first bytes say.
        compression: Compression,
        /// Why.
        source: io::Error,
    },
    /// It ends within its compressed stream.
    #[error("it is cut off")]
    CutOff,
    /// What it holds is no NAR.
    #[error(transparent)]
    Nar(#[from] NarError),
    /// It holds more than it may.
    #[error("its NAR has more than {limit} bytes")]
    TooLarge {
        /// Bytes that it may have.
        limit: u64,
    },
    /// It has another hash or size than was declared.
    #[error(
        "its NAR is {actual_hash} with {actual_size} bytes, and not {declared_hash} with \
         {declared_size} bytes as declared"
    )]
    Mismatch {
        /// What came.
        actual_hash: NarHash,
        /// How long it was.
        actual_size: u64,
        /// What was said.
        declared_hash: NarHash,
        /// How long it was said to be.
        declared_size: u64,
    },
}

/// What an upload came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) nar_hash: NarHash,
    pub(super) nar_size: u64,
    /// Of the bytes as they came.
    pub(super) file_hash: FileHash,
    pub(super) file_size: u64,
}

/// One upload under way.
pub(super) struct NarCutter {
    compression: Compression,
    decompressor: Decompressor,
    buffer: Box<[u8]>,
    file: Sha256Hasher,
    file_bytes: u64,
    nar: Sha256Hasher,
    nar_bytes: u64,
    limit: u64,
    validator: Validator,
    chunker: Chunker,
    batch: Vec<Chunk>,
    batch_bytes: usize,
}

/// How a NAR is cut.
#[derive(Debug)]
pub(super) struct Cut<'a> {
    pub(super) store_dir: &'a StoreDir,
    pub(super) params: CutParams,
    /// The most bytes of the NAR.
    pub(super) limit: u64,
}

impl NarCutter {
    /// For an upload of this compression, which may take so much memory.
    pub(super) fn new(
        compression: Compression,
        memory: u64,
        cut: &Cut<'_>,
    ) -> Result<Self, NarUploadError> {
        let failed = |source| NarUploadError::Decompress { compression, source };
        // The parameters of a cache were checked when it was made.
        let chunker = Chunker::new(cut.store_dir, cut.params)
            .map_err(|error| failed(io::Error::other(error)))?;
        Ok(Self {
            compression,
            decompressor: Decompressor::new(compression, memory).map_err(failed)?,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            file: Sha256Hasher::new(),
            file_bytes: 0,
            nar: Sha256Hasher::new(),
            nar_bytes: 0,
            limit: cut.limit,
            validator: Validator::new(),
            chunker,
            batch: Vec::new(),
            batch_bytes: 0,
        })
    }

    /// Takes the next bytes of the upload into its hash. To be followed by [`Self::advance`] until
    /// all of them are decoded.
    pub(super) fn count(&mut self, input: &[u8]) {
        self.file.update(input);
        self.file_bytes += input.len() as u64;
    }

    /// Decodes from the front of `input`, until it is empty or there is a batch to take.
    pub(super) fn advance(&mut self, input: &mut &[u8]) -> Result<(), NarUploadError> {
        while self.batch_bytes < BATCH_BYTES {
            let len = self.decompressor.step(input, &mut self.buffer).map_err(|source| {
                NarUploadError::Decompress { compression: self.compression, source }
            })?;
            if len == 0 {
                break;
            }
            self.take(len)?;
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<(), NarUploadError> {
        self.nar_bytes += len as u64;
        if self.nar_bytes > self.limit {
            return Err(NarUploadError::TooLarge { limit: self.limit });
        }
        let raw = &self.buffer[..len];
        self.validator.feed(raw)?;
        self.nar.update(raw);
        let (batch, bytes) = (&mut self.batch, &mut self.batch_bytes);
        self.chunker.feed(raw, &mut |chunk| {
            *bytes += chunk.bytes.len();
            batch.push(chunk);
        });
        Ok(())
    }

    /// Whether there are enough chunks for a batch.
    pub(super) const fn has_batch(&self) -> bool {
        self.batch_bytes >= BATCH_BYTES
    }

    /// The chunks so far.
    pub(super) fn take_batch(&mut self) -> Vec<Chunk> {
        self.batch_bytes = 0;
        std::mem::take(&mut self.batch)
    }

    /// Ends the upload; gives the last chunks too.
    pub(super) fn finish(mut self) -> Result<(Vec<Chunk>, Digests), NarUploadError> {
        if !self.decompressor.is_whole() {
            return Err(NarUploadError::CutOff);
        }
        self.validator.finish()?;
        let mut batch = self.batch;
        self.chunker.finish(&mut |chunk| batch.push(chunk));
        let digests = Digests {
            nar_hash: NarHash::from(self.nar.finish()),
            nar_size: self.nar_bytes,
            file_hash: FileHash::from(self.file.finish()),
            file_size: self.file_bytes,
        };
        // The buffer goes with the rest.
        self.buffer = Box::default();
        Ok((batch, digests))
    }
}
