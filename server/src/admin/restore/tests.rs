//! Backups come back as databases that storages of their own take, and no others.

use std::sync::Arc;

use super::super::backup::back_up;
use super::*;
use crate::admin::{Admin, first_start};
use crate::chain::Chain;
use crate::config::StorageConfig;
use crate::secrets::{DataDir, Sealer};

const NOW: i64 = 1_800_000_000;

struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self) -> DatabaseConfig {
        DatabaseConfig::new(DatabaseUrl::Sqlite(self.at("snowbank.db")))
    }

    fn key(&self) -> SecretFile {
        SecretFile { name: "server-key".to_owned(), path: self.at("server-key"), purpose: "" }
    }

    /// As a server starts.
    async fn start(&self) -> Result<(Db, Instance), RestoreError> {
        let data_dir = DataDir::create(self.folder.path()).unwrap();
        let sealer = Sealer::load_or_create(&data_dir).unwrap();
        let db = Db::open(&self.database()).await.unwrap();
        let admin = Admin {
            db: db.clone(),
            sealer,
            compression_level: 3,
            host: None,
            key_files: Vec::new(),
            legacy_keys: crate::auth::LegacyKeys::default(),
        };
        first_start(&admin, &data_dir, NOW).await.unwrap();
        let storage = self.storage().await;
        let instance = settle_epoch(&db, &storage, NOW).await?;
        Chain::new(db.clone(), Arc::new(storage)).take(NOW).await?;
        Ok((db, instance))
    }

    async fn storage(&self) -> Storage {
        Storage::open(&StorageConfig::Local { path: self.at("storage") }).await.unwrap()
    }

    async fn back_up(&self, db: &Db, name: &str) -> PathBuf {
        let target = self.at(name);
        back_up(db, &self.at("snowbank.db"), vec![self.key()], &target, false, NOW).await.unwrap();
        target
    }
}

async fn next_chunk(db: &Db) -> i64 {
    let mut tx = db.commit_tx().await.unwrap();
    counters::reserve(tx.exec(), Counter::Chunk, 1).await.unwrap()
}

#[tokio::test]
async fn a_backup_holds_the_database_and_the_files_and_is_never_written_over_unasked() {
    let host = Host::new();
    let (db, instance) = host.start().await.unwrap();
    let file = host.back_up(&db, "backup").await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let backup = open_backup(&file).await.unwrap();
    assert_eq!(
        (&backup.info.instance, backup.info.epoch, backup.info.time),
        (&instance.id, 1, NOW)
    );
    assert_eq!(*backup.files[0].bytes, fs::read(host.at("server-key")).unwrap());
    assert!(!format!("{backup:?}").contains("bytes"));
    let again = back_up(&db, &host.at("snowbank.db"), Vec::new(), &file, false, NOW)
        .await
        .unwrap_err()
        .to_string();
    assert!(again.contains("--force"), "{again}");
    back_up(&db, &host.at("snowbank.db"), Vec::new(), &file, true, NOW + 1).await.unwrap();
    assert_eq!(open_backup(&file).await.unwrap().info.time, NOW + 1);

    let no_backup = open_backup(&host.at("snowbank.db")).await.unwrap_err();
    assert!(matches!(no_backup, RestoreError::NoBackup(_)), "{no_backup}");
    fs::write(host.at("text"), "no database at all").unwrap();
    let message = open_backup(&host.at("text")).await.unwrap_err().to_string();
    assert!(message.contains("text"), "{message}");
}

#[tokio::test]
async fn a_restored_database_has_a_higher_epoch_other_ids_and_no_collection() {
    let host = Host::new();
    let (db, _) = host.start().await.unwrap();
    let file = host.back_up(&db, "backup").await;
    let given = next_chunk(&db).await;
    db.close().await;
    // As a person loses it: the log stays, and must not be played into the new one.
    fs::remove_file(host.at("snowbank.db")).unwrap();
    fs::write(host.at("snowbank.db-wal"), "another database's").unwrap();

    let backup = open_backup(&file).await.unwrap();
    let done = restore(&backup, &host.at("snowbank.db"), &[host.key()], false, NOW).await.unwrap();
    assert_eq!((done.written.len(), done.moved.len()), (0, 1), "{done:?}");
    let (db, instance) = host.start().await.unwrap();
    assert_eq!(instance.epoch, 2);
    assert_eq!(host.storage().await.marker().await.unwrap().unwrap().epoch, 2);
    assert!(next_chunk(&db).await > given + (1 << 31));
    let mut conn = db.reader().await.unwrap();
    let why = settings::lookup(conn.exec(), settings::COLLECTION_OFF).await.unwrap().unwrap();
    assert!(why.contains("snowbankd repair"), "{why}");
    assert_eq!(settings::lookup(conn.exec(), UNMARKED_SETTING).await.unwrap(), None);
    drop(conn);
    db.close().await;
    let bytes = fs::read(host.at("snowbank.db")).unwrap();
    let key = fs::read(host.at("server-key")).unwrap();
    assert!(
        !bytes.windows(key.len()).any(|part| part == key),
        "the key is in no page of the database"
    );
    let (_, again) = host.start().await.unwrap();
    assert_eq!(again.epoch, 2);
}

#[tokio::test]
async fn what_is_there_is_moved_aside_only_when_that_is_said() {
    let host = Host::new();
    let (db, _) = host.start().await.unwrap();
    let file = host.back_up(&db, "backup").await;
    db.close().await;
    let backup = open_backup(&file).await.unwrap();
    let (database, places) = (host.at("snowbank.db"), [host.key()]);
    let refused = restore(&backup, &database, &places, false, NOW).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Exists(_)), "{refused}");
    fs::remove_file(&database).unwrap();
    fs::write(host.at("server-key"), "another").unwrap();
    let refused = restore(&backup, &database, &places, false, NOW).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Differs(_)), "{refused}");
    assert!(!database.exists());
    fs::write(&database, "what was there").unwrap();
    let done = restore(&backup, &database, &places, true, NOW).await.unwrap();
    assert_eq!(done.written, [host.at("server-key")]);
    assert_eq!(
        fs::read(host.at(&format!("snowbank.db.replaced-{NOW}"))).unwrap(),
        b"what was there"
    );
    assert_eq!(fs::read(host.at(&format!("server-key.replaced-{NOW}"))).unwrap(), b"another");
    host.start().await.unwrap();
    let left = fs::read_dir(host.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().starts_with(".snowbank")));
}

#[tokio::test]
async fn an_older_backup_takes_a_storage_only_when_that_is_said_and_hands_out_no_id_twice() {
    let host = Host::new();
    let (db, _) = host.start().await.unwrap();
    let file = host.back_up(&db, "backup").await;
    db.close().await;
    let backup = open_backup(&file).await.unwrap();
    let database = host.at("snowbank.db");
    restore(&backup, &database, &[], true, NOW).await.unwrap();
    let (db, first) = host.start().await.unwrap();
    let given = next_chunk(&db).await;
    db.close().await;

    let storage = host.storage().await;
    let older = check_storage(&storage, &first.id, backup.info.epoch, false).await.unwrap_err();
    assert!(matches!(older, RestoreError::Older { storage: 2, backup: 1 }), "{older}");
    check_storage(&storage, &first.id, backup.info.epoch, true).await.unwrap();
    let foreign = check_storage(&storage, "another", 9, true).await.unwrap_err();
    assert!(matches!(foreign, RestoreError::Chain(ChainError::Foreign { .. })), "{foreign}");

    restore(&backup, &database, &[], true, NOW + 1).await.unwrap();
    let (db, second) = host.start().await.unwrap();
    assert_eq!(second.epoch, 3);
    assert!(next_chunk(&db).await > given);
    db.close().await;
    // The first of the two is refused from then on.
    fs::rename(host.at(&format!("snowbank.db.replaced-{}", NOW + 1)), &database).unwrap();
    assert!(matches!(host.start().await, Err(RestoreError::Chain(ChainError::Superseded { .. }))));
}

#[tokio::test]
async fn a_storage_of_a_later_epoch_stops_a_start_that_was_not_told_to_take_it() {
    let host = Host::new();
    let (db, instance) = host.start().await.unwrap();
    let later = Instance { epoch: 7, ..instance };
    host.storage().await.mark(&marker_of(&later, &draw_link(0).unwrap())).await.unwrap();
    restore_in_place(&db, false, NOW).await.unwrap();
    db.close().await;
    assert!(matches!(host.start().await, Err(RestoreError::Older { storage: 7, backup: 2 })));
    let db = Db::open(&host.database()).await.unwrap();
    restore_in_place(&db, true, NOW).await.unwrap();
    db.close().await;
    assert_eq!(host.start().await.unwrap().1.epoch, 8);
}
