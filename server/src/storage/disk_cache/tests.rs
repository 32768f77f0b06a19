//! Whatever happens to the cache's files, readers get the object's bytes.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::{Size, StorageConfig};
use crate::storage::Storage;

const BLOCK: usize = 512 * 1024;

async fn open(folder: &Path, max_mib: u64) -> DiskCache {
    let config = CacheConfig { path: folder.join("cache"), max_size: Size::from_mib(max_mib) };
    DiskCache::open(&config).await.unwrap()
}

/// Objects in memory that count how often they are asked for.
#[derive(Default)]
struct CountingStorage {
    objects: HashMap<String, Vec<u8>>,
    requests: AtomicUsize,
    /// The most bytes that an answer has, for a storage that cuts its answers off.
    cut_off_at: Option<usize>,
}

impl CountingStorage {
    fn with(key: &str, len: usize) -> Self {
        Self { objects: HashMap::from([(key.to_owned(), noise(key, len))]), ..Self::default() }
    }

    async fn up_to(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>, StorageError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        // Long enough for another reader to come by.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let object =
            self.objects.get(key).ok_or_else(|| StorageError::NotFound { key: key.to_owned() })?;
        let place = |at: u64| usize::try_from(at).unwrap().min(object.len());
        let mut bytes = object[place(offset)..place(offset + len)].to_vec();
        bytes.truncate(self.cut_off_at.unwrap_or(usize::MAX));
        Ok(bytes)
    }

    async fn through(
        &self,
        cache: &DiskCache,
        key: &str,
        offset: usize,
        len: usize,
    ) -> Result<Vec<u8>, StorageError> {
        cache
            .get_range(|offset, len| self.up_to(key, offset, len), key, offset as u64, len as u64)
            .await
    }

    fn requests(&self) -> usize {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key("test").update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn block_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.join("cache")).unwrap().map(Result::unwrap) {
        if entry.file_name().len() == 2 {
            files.extend(fs::read_dir(entry.path()).unwrap().map(|file| file.unwrap().path()));
        }
    }
    files.sort();
    files
}

fn disk_use(folder: &Path) -> u64 {
    block_files(folder)
        .iter()
        .map(|file| fs::metadata(file).unwrap().len().next_multiple_of(4096))
        .sum()
}

#[tokio::test]
async fn what_was_read_once_is_not_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let far = CountingStorage::with("packs/a", 5 * BLOCK + 100);
    let whole = &far.objects["packs/a"];
    let cache = open(folder.path(), 64).await;
    assert_eq!(
        far.through(&cache, "packs/a", 10, 4 * BLOCK).await.unwrap(),
        whole[10..10 + 4 * BLOCK]
    );
    assert_eq!(far.requests(), 1, "neighbours are one request");
    assert_eq!(
        far.through(&cache, "packs/a", BLOCK - 5, 10).await.unwrap(),
        whole[BLOCK - 5..BLOCK + 5]
    );
    assert_eq!(far.requests(), 0);
    assert_eq!(far.through(&cache, "packs/a", 0, whole.len()).await.unwrap(), *whole);
    assert_eq!(far.requests(), 1, "only the end was missing");
    drop(cache);
    let again = open(folder.path(), 64).await;
    assert_eq!(far.through(&again, "packs/a", 0, whole.len()).await.unwrap(), *whole);
    assert_eq!(far.requests(), 0, "a restart forgets nothing");
}

#[tokio::test]
async fn an_absent_and_a_short_object_are_told_as_the_storage_tells_them() {
    let folder = tempfile::tempdir().unwrap();
    let far = CountingStorage::with("packs/a", 2 * BLOCK);
    let cache = open(folder.path(), 64).await;
    let absent = far.through(&cache, "packs/b", 0, 5).await.unwrap_err();
    assert!(matches!(absent, StorageError::NotFound { .. }));
    for (offset, len) in [(0, 2 * BLOCK + 1), (BLOCK, 3 * BLOCK), (2 * BLOCK, 1), (9 * BLOCK, 5)] {
        for _ in 0..2 {
            let short = far.through(&cache, "packs/a", offset, len).await.unwrap_err();
            assert!(
                matches!(short, StorageError::Short { wanted, .. } if wanted == (offset + len) as u64),
                "{short}"
            );
        }
    }
    assert_eq!(far.through(&cache, "packs/a", 0, 2 * BLOCK).await.unwrap(), far.objects["packs/a"]);
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_not_taken_for_the_objects_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut far = CountingStorage::with("packs/a", 3 * BLOCK);
    let cache = open(folder.path(), 64).await;
    far.cut_off_at = Some(BLOCK + 100);
    assert!(far.through(&cache, "packs/a", 0, 3 * BLOCK).await.is_err());
    far.cut_off_at = None;
    assert_eq!(far.through(&cache, "packs/a", 0, 3 * BLOCK).await.unwrap(), far.objects["packs/a"]);
}

#[tokio::test]
async fn two_readers_of_one_block_fetch_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let far = CountingStorage::with("packs/a", 4 * BLOCK);
    let cache = open(folder.path(), 64).await;
    let readers =
        (0..16).map(|number| far.through(&cache, "packs/a", number * 100, 4 * BLOCK - 2000));
    for (number, bytes) in try_join_all(readers).await.unwrap().into_iter().enumerate() {
        assert_eq!(bytes, far.objects["packs/a"][number * 100..][..4 * BLOCK - 2000]);
    }
    assert_eq!(far.requests(), 1);
}

#[tokio::test]
async fn a_reader_that_gives_up_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let far = CountingStorage::with("packs/a", BLOCK);
    let cache = open(folder.path(), 64).await;
    {
        let given_up = std::pin::pin!(far.through(&cache, "packs/a", 0, 10));
        assert!(futures_util::poll!(given_up).is_pending());
    }
    let read = far.through(&cache, "packs/a", 0, 10);
    let bytes = tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
    assert_eq!(bytes, far.objects["packs/a"][..10]);
}

#[tokio::test]
async fn the_limit_holds_and_what_was_used_last_stays() {
    let folder = tempfile::tempdir().unwrap();
    let far = CountingStorage::with("packs/a", 80 << 20);
    let cache = open(folder.path(), 64).await;
    let megabytes = |number: usize| far.through(&cache, "packs/a", number << 20, 1 << 20);
    for number in 0..80 {
        megabytes(number).await.unwrap();
        megabytes(0).await.unwrap();
        assert!(disk_use(folder.path()) <= 64 << 20);
    }
    far.requests();
    megabytes(0).await.unwrap();
    megabytes(79).await.unwrap();
    assert_eq!(far.requests(), 0);
    megabytes(1).await.unwrap();
    assert_eq!(far.requests(), 1);
    drop(cache);
    let smaller = open(folder.path(), 8).await;
    assert!(disk_use(folder.path()) <= 8 << 20, "a smaller limit holds at once");
    far.through(&smaller, "packs/a", 0, 1 << 20).await.unwrap();
}

#[tokio::test]
async fn an_object_larger_than_the_cache_is_read_nevertheless() {
    let folder = tempfile::tempdir().unwrap();
    let far = CountingStorage::with("packs/a", 9 << 20);
    let cache = open(folder.path(), 4).await;
    assert_eq!(
        far.through(&cache, "packs/a", 3, 8 << 20).await.unwrap(),
        far.objects["packs/a"][3..][..8 << 20]
    );
    assert!(disk_use(folder.path()) <= 4 << 20);
}

#[tokio::test]
async fn a_folder_that_is_cleared_away_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let far = CountingStorage::with("packs/a", 4 * BLOCK);
    let cache = open(folder.path(), 64).await;
    for _ in 0..2 {
        far.through(&cache, "packs/a", 0, 4 * BLOCK).await.unwrap();
        assert_eq!(block_files(folder.path()).len(), 4);
        fs::remove_dir_all(folder.path().join("cache")).unwrap();
    }
    far.through(&cache, "packs/a", 0, 4 * BLOCK).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_turns_the_cache_off_and_reading_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let far = CountingStorage::with("packs/a", 4 * BLOCK);
    let cache = open(folder.path(), 64).await;
    // A file where the folder was: not even the superuser can write below it.
    fs::remove_dir_all(folder.path().join("cache")).unwrap();
    fs::write(folder.path().join("cache"), b"").unwrap();
    for _ in 0..3 {
        assert_eq!(
            far.through(&cache, "packs/a", 5, 3 * BLOCK).await.unwrap(),
            far.objects["packs/a"][5..5 + 3 * BLOCK]
        );
    }
    assert!(cache.shared.is_off());
    assert_eq!(cache.shared.lock().index.bytes(), 0);
    fs::remove_file(folder.path().join("cache")).unwrap();
    cache.shared.lock().off_until = None;
    far.through(&cache, "packs/a", 0, BLOCK).await.unwrap();
    assert_eq!(block_files(folder.path()).len(), 1, "it is tried again");
}

#[tokio::test]
async fn the_folder_is_private_and_of_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 64).await;
    let mode = fs::metadata(folder.path().join("cache")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let config = CacheConfig { path: folder.path().join("cache"), max_size: Size::from_mib(64) };
    let error = DiskCache::open(&config).await.unwrap_err().to_string();
    assert!(error.contains("another server") && error.contains("cache"), "{error}");
    drop(cache);
    DiskCache::open(&config).await.unwrap();
}

#[tokio::test]
async fn a_strangers_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("cache/aa")).unwrap();
    fs::write(folder.path().join("cache/aa/photo.jpg"), b"x").unwrap();
    fs::write(folder.path().join("cache/notes"), b"x").unwrap();
    let far = CountingStorage::with("packs/a", 9 << 20);
    let cache = open(folder.path(), 2).await;
    far.through(&cache, "packs/a", 0, 9 << 20).await.unwrap();
    assert!(
        folder.path().join("cache/aa/photo.jpg").exists()
            && folder.path().join("cache/notes").exists()
    );
}

/// Numbers that are the same in every run.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

/// Does one of the things that happen to files. Gives the bytes of disk by which the file grew.
fn spoil(file: &Path, sequence: &mut Sequence, others: &[PathBuf]) -> u64 {
    let disk_len =
        || fs::metadata(file).map_or(0, |metadata| metadata.len().next_multiple_of(4096));
    let before = disk_len();
    let mut bytes = fs::read(file).unwrap();
    let at = sequence.below(bytes.len().max(1));
    match sequence.below(6) {
        0 => fs::remove_file(file).unwrap(),
        1 => fs::write(file, &bytes[..at]).unwrap(),
        2 => fs::write(file, b"").unwrap(),
        3 => {
            fs::copy(&others[sequence.below(others.len())], file).unwrap();
        }
        4 => {
            bytes.extend_from_slice(b"more");
            fs::write(file, bytes).unwrap();
        }
        _ => {
            let bit = 1 << sequence.below(8);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
            fs::write(file, bytes).unwrap();
        }
    }
    disk_len().saturating_sub(before)
}

#[tokio::test]
async fn any_ranges_give_the_storages_bytes_whatever_happens_to_the_files() {
    for seed in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(&StorageConfig::Local { path: folder.path().join("storage") })
            .await
            .unwrap();
        let mut sequence = Sequence(seed);
        let objects: Vec<(String, Vec<u8>)> = (0..3)
            .map(|number| {
                let len =
                    [4 * BLOCK, sequence.below(6 * BLOCK) + 1, sequence.below(BLOCK) + 1][number];
                (format!("packs/{number}"), noise(&format!("{seed}/{number}"), len))
            })
            .collect();
        for (key, bytes) in &objects {
            storage.put(key, bytes.clone().into()).await.unwrap();
        }
        let mut cache = open(folder.path(), 3).await;
        let mut grown = 0;
        for step in 0..60 {
            let (key, bytes) = &objects[sequence.below(objects.len())];
            let offset = sequence.below(bytes.len());
            let len = sequence.below(bytes.len() - offset + 1);
            let fetch = |offset: u64, len: u64| {
                let end = (bytes.len() as u64).min(offset + len);
                storage.get_range(key, offset, end.saturating_sub(offset))
            };
            let read = cache.get_range(fetch, key, offset as u64, len as u64).await.unwrap();
            assert!(
                read == bytes[offset..offset + len],
                "seed {seed}, step {step}: {key} {offset}+{len}"
            );
            assert!(disk_use(folder.path()) <= (3 << 20) + grown);
            let files = block_files(folder.path());
            if !files.is_empty() && sequence.below(2) == 0 {
                grown += spoil(&files[sequence.below(files.len())], &mut sequence, &files);
            }
            if sequence.below(20) == 0 {
                drop(cache);
                cache = open(folder.path(), 3).await;
            }
        }
    }
}
