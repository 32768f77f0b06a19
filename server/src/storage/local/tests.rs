//! The local backend: whole or not at all, durable, and errors that are told apart.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::*;
use crate::config::StorageConfig;
use crate::storage::Storage;

async fn open(folder: &Path) -> Storage {
    Storage::open(&StorageConfig::Local { path: folder.join("storage") }).await.unwrap()
}

fn object(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

#[tokio::test]
async fn what_was_put_is_read_whole_and_by_range() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    storage.put("packs/aa/one", object(b"0123456789")).await.unwrap();
    assert_eq!(storage.get("packs/aa/one").await.unwrap(), b"0123456789");
    assert_eq!(storage.get_range("packs/aa/one", 3, 4).await.unwrap(), b"3456");
    assert_eq!(storage.get_range("packs/aa/one", 10, 0).await.unwrap(), b"");
    assert_eq!(storage.len("packs/aa/one").await.unwrap(), Some(10));
    assert_eq!(storage.len("packs/aa/two").await.unwrap(), None);
    let again = open(folder.path()).await;
    assert_eq!(again.len("packs/aa/one").await.unwrap(), Some(10));
}

#[tokio::test]
async fn what_is_absent_or_short_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    storage.put("a", object(b"0123")).await.unwrap();
    assert!(
        matches!(storage.get_range("b", 0, 1).await, Err(StorageError::NotFound { key }) if key == "b")
    );
    assert!(matches!(storage.get("b").await, Err(StorageError::NotFound { .. })));
    assert!(matches!(
        storage.get_range("a", 2, 3).await,
        Err(StorageError::Short { wanted: 5, .. })
    ));
    // A length that no memory holds is refused by the object's own length.
    assert!(matches!(storage.get_range("a", 1, u64::MAX).await, Err(StorageError::Short { .. })));
}

#[tokio::test]
async fn deleting_is_final_and_may_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    storage.put("packs/aa/one", object(b"x")).await.unwrap();
    storage.delete("packs/aa/one").await.unwrap();
    storage.delete("packs/aa/one").await.unwrap();
    storage.delete("never/was").await.unwrap();
    assert_eq!(storage.len("packs/aa/one").await.unwrap(), None);
}

#[tokio::test]
async fn keys_cannot_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    for key in
        ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".incoming/x", "a\0b", "a b", "ä"]
    {
        assert!(
            matches!(storage.put(key, object(b"x")).await, Err(StorageError::BadKey { .. })),
            "{key:?}"
        );
        assert!(matches!(storage.get(key).await, Err(StorageError::BadKey { .. })), "{key:?}");
    }
}

#[tokio::test]
async fn listing_goes_in_order_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    let mut keys =
        ["b/2", "a/b/c", "a", "b/1", "b-x", "b.y/z", "c/d/e/f"].map(str::to_owned).to_vec();
    keys.retain(|key| key != "a");
    for key in &keys {
        storage.put(key, object(b"x")).await.unwrap();
    }
    keys.sort();
    for size in 1..=keys.len() + 1 {
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = storage.list("", found.last().map(String::as_str), size).await.unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, keys, "in pages of {size}");
    }
    assert_eq!(storage.list("b/", None, 10).await.unwrap(), ["b/1", "b/2"]);
    assert_eq!(storage.list("b", None, 10).await.unwrap().len(), 4);
    assert_eq!(storage.list("c/d/", Some("c/d/e/f"), 10).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_killed_server_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    let incoming = folder.path().join("storage").join(INCOMING);
    fs::write(incoming.join("abc.tmp"), b"half a pack").unwrap();
    storage.remove_unfinished(Duration::from_mins(1)).await.unwrap();
    assert_eq!(fs::read_dir(&incoming).unwrap().count(), 1);
    storage.remove_unfinished(Duration::ZERO).await.unwrap();
    assert_eq!(fs::read_dir(&incoming).unwrap().count(), 0);
}

#[tokio::test]
async fn a_failed_write_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    // A file where the key needs a folder.
    storage.put("packs", object(b"x")).await.unwrap();
    let error = storage.put("packs/aa/one", object(b"y")).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    assert_eq!(storage.list("", None, 10).await.unwrap(), ["packs"]);
    assert_eq!(fs::read_dir(folder.path().join("storage").join(INCOMING)).unwrap().count(), 0);
}

#[tokio::test]
async fn a_folder_that_has_vanished_is_unavailable_and_not_an_absent_object() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    fs::remove_dir_all(folder.path().join("storage")).unwrap();
    assert!(matches!(storage.put("a", object(b"x")).await, Err(StorageError::Unavailable { .. })));
}

/// `/dev/full`, the only device that is full on every machine, stands in for a disk.
#[test]
fn a_full_device_reports_full() {
    let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = full.write_all(b"x").unwrap_err();
    assert!(matches!(StorageError::from_io("a", error), StorageError::Full { .. }));
}

#[tokio::test]
async fn many_writers_share_folders() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(open(folder.path()).await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..64 {
        let storage = Arc::clone(&storage);
        tasks.spawn(async move {
            let key = format!("packs/{:02x}/{number}", number % 4);
            storage.put(&key, Bytes::from(vec![0; 1000])).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(storage.list("packs/", None, 100).await.unwrap().len(), 64);
}

#[tokio::test]
async fn objects_lie_on_one_file_system_with_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    storage.put("packs/aa/one", object(b"x")).await.unwrap();
    let root = folder.path().join("storage");
    let device = |path: &str| fs::metadata(root.join(path)).unwrap().dev();
    assert_eq!(device("packs/aa/one"), device(INCOMING));
    assert_eq!(fs::metadata(root.join("packs/aa/one")).unwrap().permissions().mode() & 0o077, 0);
}

#[tokio::test]
async fn a_folder_with_something_else_in_it_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    storage.put("holiday/photo.jpg", object(b"x")).await.unwrap();
    let error = storage.find_empty().await.unwrap_err();
    assert!(error.to_string().contains("holiday/photo.jpg"), "{error}");
    assert_eq!(storage.list("", None, 10).await.unwrap(), ["holiday/photo.jpg"]);
}
