//! Reading one path: its NAR is dumped, hashed, masked and cut in one pass, on a thread that may
//! block.
//!
//! Chunks go to the pipeline as they come up, before it is known whether the path is whole; only a
//! path whose end says [`ReadEnd::Whole`] is ever committed. Memory is a few times the largest
//! chunk; what is handed over is on the budget.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use snowbank_core::chunk::{Chunk, ChunkName, Chunker, CutParams};
use snowbank_core::cut::CutParamsError;
use snowbank_core::hash::NarHash;
use snowbank_core::store_path::StoreDir;

use super::budget::{Budget, Held};
use super::hash::Hashing;
use crate::store::COLLECTED;
use crate::store::dump::{DumpError, dump_nar};

/// What a chunk takes in memory besides its bytes.
const CHUNK_BYTES: usize = 512;
/// And for each of its slots.
const SLOT_BYTES: usize = 48;

/// A smaller path is not worth a thread for its hash.
const HASH_BESIDE_BYTES: u64 = 16 << 20;

/// A chunk that was cut.
#[derive(Debug)]
pub(super) struct Pending {
    /// The path whose reading brought it up.
    pub(super) path: u32,
    pub(super) name: ChunkName,
    pub(super) chunk: Chunk,
    pub(super) held: Held,
}

/// What reading needs, the same for all paths.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) store_dir: StoreDir,
    pub(super) cut: CutParams,
    pub(super) budget: Budget,
    /// Set when nobody wants to know any more.
    pub(super) stop: Arc<AtomicBool>,
}

/// One path to read.
#[derive(Debug, Clone)]
pub(super) struct ToRead {
    pub(super) path: u32,
    pub(super) root: PathBuf,
    pub(super) nar_hash: NarHash,
    pub(super) nar_size: u64,
    /// Whether a core is idle that may do the hashing.
    pub(super) hash_beside: bool,
}

/// How reading ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadEnd {
    #[error("it is whole")]
    Whole,
    #[error(
        "its files are damaged: their NAR is {actual_hash} with {actual_size} bytes, but Nix \
         recorded {recorded_hash} \
         with {recorded_size} bytes"
    )]
    Damaged { recorded_hash: NarHash, recorded_size: u64, actual_hash: NarHash, actual_size: u64 },
    #[error("{}", describe(.0))]
    Unreadable(DumpError),
    /// It was there when the push began.
    #[error("{COLLECTED}")]
    Collected,
    #[error(transparent)]
    Cut(CutParamsError),
    #[error("the push stopped")]
    Stopped,
}

impl Reading {
    /// Reads a path, and hands over its chunks in order.
    pub(super) fn read(&self, path: &ToRead, hand_over: impl FnMut(Pending)) -> ReadEnd {
        if path.hash_beside && path.nar_size >= HASH_BESIDE_BYTES {
            thread::scope(|scope| self.read_hashing(path, Hashing::beside(scope), hand_over))
        } else {
            self.read_hashing(path, Hashing::here(), hand_over)
        }
    }

    fn read_hashing(
        &self,
        path: &ToRead,
        mut hashing: Hashing<'_>,
        mut hand_over: impl FnMut(Pending),
    ) -> ReadEnd {
        let mut chunker = match Chunker::new(&self.store_dir, self.cut) {
            Ok(chunker) => chunker,
            Err(error) => return ReadEnd::Cut(error),
        };
        let mut size = 0;
        let mut stopped = false;
        let mut on_chunk = |chunk: Chunk| {
            let name = chunk.name();
            let bytes = chunk.bytes.capacity() + CHUNK_BYTES + SLOT_BYTES * chunk.slots.len();
            match self.budget.hold(bytes) {
                Some(held) => hand_over(Pending { path: path.path, name, chunk, held }),
                None => stopped = true,
            }
        };
        let dumped = dump_nar(&path.root, &mut |piece| {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            hashing.update(piece);
            size += piece.len() as u64;
            // What is longer than it may be is damaged, and only its hash is still of interest.
            if size <= path.nar_size {
                chunker.feed(piece, &mut on_chunk);
            }
            Ok(())
        });
        match dumped {
            Ok(()) => {}
            Err(DumpError::Stopped(_)) => return ReadEnd::Stopped,
            Err(error) => return ReadEnd::Unreadable(error),
        }
        let hash = NarHash::from_bytes(*hashing.finish().as_bytes());
        if (hash, size) != (path.nar_hash, path.nar_size) {
            return ReadEnd::Damaged {
                recorded_hash: path.nar_hash,
                recorded_size: path.nar_size,
                actual_hash: hash,
                actual_size: size,
            };
        }
        chunker.finish(&mut on_chunk);
        if stopped { ReadEnd::Stopped } else { ReadEnd::Whole }
    }
}

fn describe(error: &DumpError) -> String {
    let cause =
        std::error::Error::source(error).map_or_else(String::new, |cause| format!(" ({cause})"));
    format!("its files cannot be read: {error}{cause}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn reading() -> Reading {
        Reading {
            store_dir: StoreDir::default(),
            cut: CutParams::DEFAULT,
            budget: Budget::new(64 << 20),
            stop: Arc::default(),
        }
    }

    fn to_read(root: &std::path::Path) -> ToRead {
        let mut nar = Vec::new();
        dump_nar(root, &mut |piece| {
            nar.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        let nar_hash = NarHash::from_bytes(*snowbank_core::hash::Sha256::of(&nar).as_bytes());
        ToRead {
            path: 3,
            root: root.to_owned(),
            nar_hash,
            nar_size: nar.len() as u64,
            hash_beside: false,
        }
    }

    #[test]
    fn a_whole_path_gives_its_chunks_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), vec![7; 3_000_000]).unwrap();
        let path = to_read(folder.path());
        let mut bytes = 0;
        let end = reading().read(&path, |chunk| {
            assert_eq!((chunk.path, chunk.name), (3, chunk.chunk.name()));
            bytes += chunk.chunk.bytes.len() as u64;
        });
        assert!(matches!(end, ReadEnd::Whole), "{end:?}");
        assert_eq!(bytes, path.nar_size);
    }

    #[test]
    fn a_large_path_is_read_the_same_with_a_thread_beside() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), vec![7; usize::try_from(HASH_BESIDE_BYTES).unwrap()])
            .unwrap();
        let path = ToRead { hash_beside: true, ..to_read(folder.path()) };
        assert!(matches!(reading().read(&path, drop), ReadEnd::Whole));
        let wrong = ToRead { nar_hash: NarHash::from_bytes([0; 32]), ..path };
        assert!(matches!(reading().read(&wrong, drop), ReadEnd::Damaged { .. }));
    }

    #[test]
    fn a_damaged_path_is_told_with_both_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "contents").unwrap();
        let path = to_read(&file);
        for damage in ["content!", "longer contents", ""] {
            fs::write(&file, damage).unwrap();
            let end = reading().read(&path, drop);
            let said = end.to_string();
            assert!(said.contains(&path.nar_hash.to_string()), "{said}");
            assert!(
                matches!(end, ReadEnd::Damaged { actual_hash, .. } if actual_hash != path.nar_hash),
                "{said}"
            );
        }
        fs::remove_file(&file).unwrap();
        assert!(matches!(
            reading().read(&path, drop),
            ReadEnd::Unreadable(DumpError::Missing { .. })
        ));
    }

    #[test]
    fn a_stopped_push_reads_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = to_read(folder.path());
        let reading = reading();
        reading.stop.store(true, Ordering::Relaxed);
        assert!(matches!(reading.read(&path, drop), ReadEnd::Stopped));
        let reading = self::reading();
        reading.budget.close();
        assert!(matches!(reading.read(&path, drop), ReadEnd::Stopped));
    }
}
