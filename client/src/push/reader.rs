//! Reading one path: its NAR is dumped, hashed, masked and cut in one pass, on a thread that may
//! block.
//!
//! Chunks are handed over as they are cut, before the hash of the whole path is known. Only a path
//! with the outcome [`ReadOutcome::Whole`] is ever committed. A reader has a few times the largest
//! chunk in memory; each chunk that it hands over has a permit of the budget.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use snowbank_core::chunk::{Chunk, ChunkName, Chunker, CutParams};
use snowbank_core::cut::CutParamsError;
use snowbank_core::hash::NarHash;
use snowbank_core::store_path::StoreDir;

use super::budget::{Budget, Permit};
use super::nar_hasher::NarHasher;
use crate::store::COLLECTED;
use crate::store::dump::{DumpError, dump_nar};

/// Memory of a chunk besides its bytes,
const CHUNK_BYTES: usize = 512;
/// and for each of its slots.
const SLOT_BYTES: usize = 48;

/// Fewest bytes of a NAR that is worth a thread for its hash.
const MIN_THREADED_HASH_BYTES: u64 = 16 << 20;

/// A chunk and the path that it was cut from.
#[derive(Debug)]
pub(super) struct PathChunk {
    /// The path's number in the plan.
    pub(super) path: u32,
    pub(super) name: ChunkName,
    pub(super) chunk: Chunk,
    pub(super) permit: Permit,
}

/// A reader of paths; the same for all paths of a push.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) store_dir: StoreDir,
    pub(super) cut: CutParams,
    pub(super) budget: Budget,
    /// Set when the push ends early.
    pub(super) stop: Arc<AtomicBool>,
}

/// A path to read.
#[derive(Debug, Clone)]
pub(super) struct ReadJob {
    pub(super) path: u32,
    pub(super) root: PathBuf,
    pub(super) nar_hash: NarHash,
    pub(super) nar_size: u64,
    /// Whether a core is idle that may do the hashing.
    pub(super) is_core_idle: bool,
}

/// The result of reading a path.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadOutcome {
    #[error("it is whole")]
    Whole,
    #[error(
        "its files are damaged: their NAR is {actual_hash} with {actual_size} bytes, but Nix \
         recorded {recorded_hash} with {recorded_size} bytes"
    )]
    Damaged { recorded_hash: NarHash, recorded_size: u64, actual_hash: NarHash, actual_size: u64 },
    #[error("{}", describe(.0))]
    Unreadable(DumpError),
    /// It was valid when the push began.
    #[error("{COLLECTED}")]
    Collected,
    #[error(transparent)]
    Cut(CutParamsError),
    #[error("the push stopped")]
    Stopped,
}

impl Reader {
    /// Reads a path, and hands over its chunks in order.
    pub(super) fn read(&self, job: &ReadJob, hand_over: impl FnMut(PathChunk)) -> ReadOutcome {
        if job.is_core_idle && job.nar_size >= MIN_THREADED_HASH_BYTES {
            thread::scope(|scope| self.read_with(job, NarHasher::threaded(scope), hand_over))
        } else {
            self.read_with(job, NarHasher::inline(), hand_over)
        }
    }

    fn read_with(
        &self,
        job: &ReadJob,
        mut hasher: NarHasher<'_>,
        mut hand_over: impl FnMut(PathChunk),
    ) -> ReadOutcome {
        let mut chunker = match Chunker::new(&self.store_dir, self.cut) {
            Ok(chunker) => chunker,
            Err(error) => return ReadOutcome::Cut(error),
        };
        let mut size = 0;
        let mut is_stopped = false;
        let mut on_chunk = |chunk: Chunk| {
            let name = chunk.name();
            let bytes = chunk.bytes.capacity() + CHUNK_BYTES + SLOT_BYTES * chunk.slots.len();
            match self.budget.acquire(bytes) {
                Some(permit) => hand_over(PathChunk { path: job.path, name, chunk, permit }),
                None => is_stopped = true,
            }
        };
        let dumped = dump_nar(&job.root, &mut |piece| {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            hasher.update(piece);
            size += piece.len() as u64;
            // A longer NAR is damaged, and only its hash is still of interest.
            if size <= job.nar_size {
                chunker.feed(piece, &mut on_chunk);
            }
            Ok(())
        });
        match dumped {
            Ok(()) => {}
            Err(DumpError::Stopped(_)) => return ReadOutcome::Stopped,
            Err(error) => return ReadOutcome::Unreadable(error),
        }
        let hash = NarHash::from_bytes(*hasher.finish().as_bytes());
        if (hash, size) != (job.nar_hash, job.nar_size) {
            return ReadOutcome::Damaged {
                recorded_hash: job.nar_hash,
                recorded_size: job.nar_size,
                actual_hash: hash,
                actual_size: size,
            };
        }
        chunker.finish(&mut on_chunk);
        if is_stopped { ReadOutcome::Stopped } else { ReadOutcome::Whole }
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

    fn reader() -> Reader {
        Reader {
            store_dir: StoreDir::default(),
            cut: CutParams::DEFAULT,
            budget: Budget::new(64 << 20),
            stop: Arc::default(),
        }
    }

    fn job(root: &std::path::Path) -> ReadJob {
        let mut nar = Vec::new();
        dump_nar(root, &mut |piece| {
            nar.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        let nar_hash = NarHash::from_bytes(*snowbank_core::hash::Sha256::of(&nar).as_bytes());
        ReadJob {
            path: 3,
            root: root.to_owned(),
            nar_hash,
            nar_size: nar.len() as u64,
            is_core_idle: false,
        }
    }

    #[test]
    fn a_whole_path_gives_its_chunks_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), vec![7; 3_000_000]).unwrap();
        let job = job(folder.path());
        let mut bytes = 0;
        let outcome = reader().read(&job, |chunk| {
            assert_eq!((chunk.path, chunk.name), (3, chunk.chunk.name()));
            bytes += chunk.chunk.bytes.len() as u64;
        });
        assert!(matches!(outcome, ReadOutcome::Whole), "{outcome:?}");
        assert_eq!(bytes, job.nar_size);
    }

    #[test]
    fn a_large_path_is_read_the_same_with_a_thread_for_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("a"),
            vec![7; usize::try_from(MIN_THREADED_HASH_BYTES).unwrap()],
        )
        .unwrap();
        let job = ReadJob { is_core_idle: true, ..job(folder.path()) };
        assert!(matches!(reader().read(&job, drop), ReadOutcome::Whole));
        let wrong = ReadJob { nar_hash: NarHash::from_bytes([0; 32]), ..job };
        assert!(matches!(reader().read(&wrong, drop), ReadOutcome::Damaged { .. }));
    }

    #[test]
    fn a_damaged_path_is_told_with_both_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "contents").unwrap();
        let job = job(&file);
        for damage in ["content!", "longer contents", ""] {
            fs::write(&file, damage).unwrap();
            let outcome = reader().read(&job, drop);
            let message = outcome.to_string();
            assert!(message.contains(&job.nar_hash.to_string()), "{message}");
            let ReadOutcome::Damaged { actual_hash, .. } = outcome else { panic!("{message}") };
            assert_ne!(actual_hash, job.nar_hash);
        }
        fs::remove_file(&file).unwrap();
        assert!(matches!(
            reader().read(&job, drop),
            ReadOutcome::Unreadable(DumpError::Missing { .. })
        ));
    }

    #[test]
    fn a_stopped_push_reads_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let job = job(folder.path());
        let reader = reader();
        reader.stop.store(true, Ordering::Relaxed);
        assert!(matches!(reader.read(&job, drop), ReadOutcome::Stopped));
        let reader = self::reader();
        reader.budget.close();
        assert!(matches!(reader.read(&job, drop), ReadOutcome::Stopped));
    }
}
