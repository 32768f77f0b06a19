use super::*;

const CACHES: [&str; 2] = ["main", "work:team"];

fn new(cache: &str, name: &str, root: Option<&str>) -> NewEntry {
    NewEntry {
        cache: cache.to_owned(),
        store_path: format!("/nix/store/{}-{name}", "0".repeat(32)),
        drv_path: None,
        root: root.map(str::to_owned),
    }
}

async fn open() -> (tempfile::TempDir, Database) {
    let root = tempfile::tempdir().unwrap();
    let folder = QueueFolder::find(Some(&root.path().join("queue"))).unwrap();
    let database = Database::open(&folder).await.unwrap();
    (root, database)
}

async fn due(database: &mut Database, now: i64) -> Vec<String> {
    let entries = database.due(now, 10).await.unwrap();
    entries.iter().map(|entry| entry.store_path[44..].to_owned()).collect()
}

fn postponed(next_at: i64, is_outage: bool) -> Settlement {
    Settlement::Postponed { reason: "no".to_owned(), next_at, is_outage }
}

#[tokio::test]
async fn an_entry_is_there_once_and_keeps_its_root() {
    let (_root, mut database) = open().await;
    let add = [new("main", "a", Some("1")), new("main", "b", None), new("work:team", "a", None)];
    assert!(database.add(&add, 7, 3).await.unwrap().is_empty());
    let again = [new("main", "a", Some("2")), new("main", "b", Some("3"))];
    assert_eq!(database.add(&again, 8, 3).await.unwrap(), ["2"]);
    let roots: Vec<_> = database.list().await.unwrap().into_iter().map(|e| e.root).collect();
    assert_eq!(roots, [Some("1".to_owned()), Some("3".to_owned()), None]);

    let full = database.add(&[new("main", "c", None)], 9, 3).await.unwrap_err();
    assert!(matches!(full, QueueError::Full { max: 3, .. }), "{full}");
    assert_eq!(database.counts().await.unwrap(), (3, 0));
}

#[tokio::test]
async fn an_outage_holds_one_cache_and_a_retry_ends_it() {
    let (_root, mut database) = open().await;
    for cache in CACHES {
        database.add(&[new(cache, "a", None), new(cache, "b", None)], 1, 9).await.unwrap();
    }
    assert_eq!(due(&mut database, 5).await, ["a", "b"]);
    let entries = database.list().await.unwrap();
    assert!(database.settle(&[(entries[0].clone(), postponed(9, true))]).await.unwrap().is_empty());
    // `b` of that cache has not failed, and waits all the same.
    assert_eq!(database.due(5, 10).await.unwrap()[0].cache, CACHES[1]);
    assert_eq!(database.due(9, 10).await.unwrap()[0].cache, CACHES[0]);
    database.retry(&entries[1..2]).await.unwrap();
    assert_eq!(due(&mut database, 5).await, ["a", "b"]);

    // A path that failed alone holds nothing.
    database.settle(&[(entries[0].clone(), postponed(9, false))]).await.unwrap();
    assert_eq!(due(&mut database, 5).await, ["b"]);
}

#[tokio::test]
async fn a_path_that_is_built_again_while_it_is_found_collected_stays() {
    let (_root, mut database) = open().await;
    database.add(&[new("main", "a", Some("1")), new("main", "b", Some("2"))], 1, 9).await.unwrap();
    let entries = database.list().await.unwrap();
    database.add(&[new("main", "a", None)], 2, 9).await.unwrap();
    let settled: Vec<_> = entries.into_iter().map(|entry| (entry, Settlement::Collected)).collect();
    assert_eq!(database.settle(&settled).await.unwrap(), ["2"]);
    assert_eq!(due(&mut database, 5).await, ["a"]);
}

#[tokio::test]
async fn what_is_set_aside_is_not_due_until_it_is_retried() {
    let (_root, mut database) = open().await;
    database.add(&[new("main", "a", None)], 1, 9).await.unwrap();
    let entry = database.list().await.unwrap().remove(0);
    let aside = Settlement::Aside { reason: "no".to_owned() };
    database.settle(&[(entry.clone(), aside)]).await.unwrap();
    assert!(due(&mut database, i64::MAX).await.is_empty());
    assert_eq!(database.counts().await.unwrap(), (0, 1));
    let listed = database.list().await.unwrap().remove(0);
    assert_eq!((listed.state, listed.reason.as_deref()), (EntryState::Aside, Some("no")));
    database.retry(&[entry]).await.unwrap();
    assert_eq!(due(&mut database, 5).await, ["a"]);
}

#[tokio::test]
async fn a_later_schema_is_refused() {
    let (root, mut database) = open().await;
    sqlx::query("PRAGMA user_version = 2").execute(&mut database.connection).await.unwrap();
    drop(database);
    let folder = QueueFolder::find(Some(&root.path().join("queue"))).unwrap();
    let error = Database::open(&folder).await.unwrap_err();
    assert!(error.to_string().contains("the newer `snowbank`"), "{error}");
}

#[tokio::test]
async fn the_database_has_the_folders_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o2770)).unwrap();
    let folder = QueueFolder::find(Some(root.path())).unwrap();
    let mut database = Database::open(&folder).await.unwrap();
    database.add(&[new("main", "a", None)], 1, 9).await.unwrap();
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        let mode = fs::metadata(root.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{name}");
    }
}
