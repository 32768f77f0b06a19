//! Moves between real databases: whole, cut off, into the wrong place, and tampered with.

use std::path::Path;

use snowbank_core::hash::{FileHash, NarHash, Sha256};
use snowbank_core::manifest::ContentDigest;
use snowbank_core::pack::PackKey;

use super::*;
use crate::admin::{Admin, first_start};
use crate::config::{DatabaseConfig, DatabaseUrl, StorageConfig};
use crate::db::caches::{self, CacheId, DomainId};
use crate::db::chunks::{self, NewChunk};
use crate::db::nars::{self, EncodedSegment, NarId, NewNar};
use crate::db::packs::{self, NewPack, PackId};
use crate::db::tests::postgres::Server;
use crate::secrets::{DataDir, Sealer};

const CHUNKS: u64 = 1_500;

fn sqlite(folder: &Path, name: &str) -> DatabaseConfig {
    DatabaseConfig::new(DatabaseUrl::Sqlite(folder.join(name)))
}

/// A database after its first start, with rows in every large table and more bytes of manifests
/// than a batch holds.
async fn filled(folder: &Path) -> Db {
    let db = Db::open(&sqlite(folder, "source.db")).await.unwrap();
    let data_dir = DataDir::create(folder).unwrap();
    let admin = Admin {
        db: db.clone(),
        sealer: Sealer::new(&[1; 32]),
        compression_level: 3,
        host: None,
        key_files: Vec::new(),
        legacy_keys: crate::auth::LegacyKeys::default(),
    };
    first_start(&admin, &data_dir, 1_000).await.unwrap();
    let mut tx = db.commit_tx().await.unwrap();
    let (domain, key) = (DomainId::SHARED, PackKey::from_bytes([1; 16]));
    let pack = NewPack {
        id: PackId(1),
        domain,
        cache: CacheId(1),
        key,
        bytes: 9,
        chunk_count: 3,
        created: 1,
    };
    packs::add(tx.exec(), &pack).await.unwrap();
    let chunk = |id: u64| {
        let name = snowbank_core::chunk::ChunkName::from_bytes(
            *blake3::hash(&id.to_le_bytes()).as_bytes(),
        );
        NewChunk { id, name, pack: PackId(1), offset: 1, len: 1 }
    };
    chunks::add(tx.exec(), domain, &(1..=CHUNKS).map(chunk).collect::<Vec<_>>()).await.unwrap();
    let segments: Vec<_> = (0..12_u64)
        .map(|seq| EncodedSegment {
            first_raw: seq,
            first_stored: seq,
            data: vec![u8::try_from(seq).unwrap(); 1 << 20],
        })
        .collect();
    let nar = NewNar {
        id: NarId(1),
        domain,
        nar_hash: NarHash::from(Sha256::of(b"nar")),
        nar_size: 1,
        file_hash: FileHash::from(Sha256::of(b"file")),
        file_size: 1,
        content_digest: ContentDigest::from_bytes([7; 32]),
        chunk_count: 1,
        segments: &segments,
        cut_id: 1,
        created: 1,
    };
    nars::add(tx.exec(), &[nar]).await.unwrap();
    tx.commit().await.unwrap();
    db
}

/// The source's storage, marked by its first start.
async fn storage(source: &Db, folder: &Path) -> Arc<Storage> {
    let storage =
        Storage::open(&StorageConfig::Local { path: folder.join("storage") }).await.unwrap();
    let storage = Arc::new(storage);
    starts(source, &storage).await.unwrap();
    storage
}

/// As a server starts over a database.
async fn starts(db: &Db, storage: &Arc<Storage>) -> Result<(), ChainError> {
    Chain::new(db.clone(), Arc::clone(storage)).take(1_000).await.map(drop)
}

async fn moved(source: &Db, target: &Db) -> Vec<TableComparison> {
    copy(source, target, &mut |_| {}).await.unwrap();
    verify(source, target, &mut |_| {}).await.unwrap()
}

fn different(compared: &[TableComparison]) -> Vec<&'static str> {
    compared.iter().filter(|table| !table.is_equal()).map(|table| table.table).collect()
}

async fn tamper(db: &Db) {
    let mut tx = db.exclusive_tx().await.unwrap();
    let chunks = TABLES.iter().find(|table| table.name == "revoked_tokens").unwrap();
    chunks
        .write(tx.exec(), &[vec![transfer::Value::Text("jti".to_owned()), transfer::Value::Int(1)]])
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snowbank_moves_to_postgresql_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(folder.path()).await;
    let storage = storage(&source, folder.path()).await;
    let server = Server::start();
    let config = server.config("moved").await;
    let target = Db::open_target(&config).await.unwrap();
    assert_eq!(plan(&source, &target, &storage).await.unwrap(), Plan::Copy);
    let compared = moved(&source, &target).await;
    assert_eq!(different(&compared), [""; 0]);
    assert_eq!(compared.iter().find(|table| table.table == "chunks").unwrap().target.rows, CHUNKS);
    hand_over(&source, &target, &storage, "there", 1_000).await.unwrap();
    assert_eq!(plan(&source, &target, &storage).await.unwrap(), Plan::Finish);
    let opened = Db::open(&config).await.unwrap();
    starts(&opened, &storage).await.unwrap();
    let refused = Db::open(&sqlite(folder.path(), "source.db")).await.unwrap_err();
    assert!(matches!(&refused, DbError::Moved(to) if to == "there"), "{refused}");
    let mut conn = opened.reader().await.unwrap();
    assert!(caches::lookup(conn.exec(), &"main".parse().unwrap()).await.unwrap().is_some());
    drop(conn);

    // What was written since goes back with the rest, over the rows that are there.
    tamper(&target).await;
    let compared = verify(&source, &target, &mut |_| {}).await.unwrap();
    assert_eq!(different(&compared), ["revoked_tokens"]);
    assert_eq!(plan(&opened, &source, &storage).await.unwrap(), Plan::Replace);
    empty(&source).await.unwrap();
    assert_eq!(plan(&opened, &source, &storage).await.unwrap(), Plan::Copy);
    assert_eq!(different(&moved(&opened, &source).await), [""; 0]);
    hand_over(&opened, &source, &storage, "back", 1_000).await.unwrap();
    starts(&source, &storage).await.unwrap();
    assert!(matches!(Db::open(&config).await, Err(DbError::Moved(_))));
    assert!(starts(&opened, &storage).await.unwrap_err().is_lost());

    // And there once more: PostgreSQL's rows are removed as well.
    assert_eq!(plan(&source, &target, &storage).await.unwrap(), Plan::Replace);
    empty(&target).await.unwrap();
    assert_eq!(different(&moved(&source, &target).await), [""; 0]);
    hand_over(&source, &target, &storage, "there", 1_000).await.unwrap();
    starts(&Db::open(&config).await.unwrap(), &storage).await.unwrap();
}

/// Whether a server starts over a database, which is asked of a copy of all, so that asking changes
/// nothing.
async fn startable(folder: &Path, name: &str) -> bool {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_file())
    {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let place = copy.path().join("storage");
    let storage =
        Arc::new(Storage::open(&StorageConfig::Local { path: place.clone() }).await.unwrap());
    std::fs::copy(folder.join("storage/snowbank-instance"), place.join("snowbank-instance"))
        .unwrap();
    let Ok(db) = Db::open(&sqlite(copy.path(), name)).await else { return false };
    starts(&db, &storage).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_step_of_handing_over_one_database_starts() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(folder.path()).await;
    let storage = storage(&source, folder.path()).await;
    let target = Db::open_target(&sqlite(folder.path(), "target.db")).await.unwrap();
    assert_eq!(different(&moved(&source, &target).await), [""; 0]);
    let both = async || {
        (startable(folder.path(), "source.db").await, startable(folder.path(), "target.db").await)
    };
    assert_eq!(both().await, (true, false));

    // Step 1, and a crash.
    let number = chain::links(source.reader().await.unwrap().exec()).await.unwrap()[0].link.number;
    let link = draw_link(number).unwrap();
    let mut tx = target.exclusive_tx().await.unwrap();
    chain::begin(tx.exec(), &link, 1_000).await.unwrap();
    transfer::set_state(tx.exec(), Some(MoveState::Arriving)).await.unwrap();
    let instance = instance::lookup(tx.exec()).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    assert_eq!(both().await, (true, false));
    assert_eq!(plan(&source, &target, &storage).await.unwrap(), Plan::Replace);

    // Step 2, and a crash.
    storage.mark(&marker_of(&instance, &link)).await.unwrap();
    assert_eq!(both().await, (false, true));
    assert_eq!(plan(&source, &target, &storage).await.unwrap(), Plan::Finish);

    // Step 3, and a crash.
    let mut tx = source.exclusive_tx().await.unwrap();
    chain::set_moved_to(tx.exec(), Some("there")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(both().await, (false, true));
    assert_eq!(plan(&source, &target, &storage).await.unwrap(), Plan::Finish);
    finish(&source, &target, "there").await.unwrap();
    assert_eq!(both().await, (false, true));
    starts(&target, &storage).await.unwrap();
}

#[tokio::test]
async fn a_source_that_went_on_after_a_move_was_cut_off_keeps_the_storage() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(folder.path()).await;
    let storage = storage(&source, folder.path()).await;
    let target = Db::open_target(&sqlite(folder.path(), "target.db")).await.unwrap();
    assert_eq!(different(&moved(&source, &target).await), [""; 0]);
    let mut tx = target.exclusive_tx().await.unwrap();
    chain::begin(tx.exec(), &draw_link(1).unwrap(), 1_000).await.unwrap();
    transfer::set_state(tx.exec(), Some(MoveState::Arriving)).await.unwrap();
    tx.commit().await.unwrap();
    starts(&source, &storage).await.unwrap();
    starts(&source, &storage).await.unwrap();
    assert!(matches!(starts(&target, &storage).await, Err(ChainError::Arriving)));
    // Run again, the move ends.
    assert_eq!(plan(&source, &target, &storage).await.unwrap(), Plan::Replace);
    empty(&target).await.unwrap();
    assert_eq!(different(&moved(&source, &target).await), [""; 0]);
    hand_over(&source, &target, &storage, "there", 1_000).await.unwrap();
    starts(&target, &storage).await.unwrap();
    assert!(starts(&source, &storage).await.unwrap_err().is_lost());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_cut_off_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(folder.path()).await;
    let storage = storage(&source, folder.path()).await;
    let server = Server::start();
    for batches in [1, 5, 9, 12] {
        let config = server.config(&format!("after-{batches}")).await;
        let target = Db::open_target(&config).await.unwrap();
        let mut left = batches;
        let (enough, mut stopped) = tokio::sync::mpsc::channel(1);
        let mut told = |_| {
            left -= 1;
            if left == 0 {
                let _ = enough.try_send(());
            }
        };
        tokio::select! {
            biased;
            _ = stopped.recv() => {}
            result = copy(&source, &target, &mut told) => result.unwrap(),
        }
        assert!(
            matches!(Db::open(&config).await, Err(DbError::Moving)),
            "no server takes half of it"
        );
        assert_eq!(plan(&source, &target, &storage).await.unwrap(), Plan::Resume);
        assert_eq!(different(&moved(&source, &target).await), [""; 0]);
        assert!(
            matches!(Db::open(&config).await, Err(DbError::Moving)),
            "it has not taken over yet"
        );
    }
}

#[tokio::test]
async fn a_target_that_is_somebody_elses_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(folder.path()).await;
    let storage = storage(&source, folder.path()).await;
    let other_folder = folder.path().join("other");
    std::fs::create_dir(&other_folder).unwrap();
    let other = filled(&other_folder).await;
    assert!(matches!(plan(&source, &other, &storage).await, Err(MoveError::OtherInstance { .. })));
    let empty = Db::open_target(&sqlite(folder.path(), "empty.db")).await.unwrap();
    assert!(matches!(plan(&empty, &source, &storage).await, Err(MoveError::NothingToMove)));
    tamper(&empty).await;
    assert!(matches!(
        plan(&source, &empty, &storage).await,
        Err(MoveError::NotEmpty("revoked_tokens"))
    ));
}

#[tokio::test]
async fn every_table_and_column_of_the_schema_is_moved() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&sqlite(folder.path(), "db")).await.unwrap();
    let mut conn = db.reader().await.unwrap();
    assert_eq!(transfer::unknown_columns(conn.exec()).await.unwrap(), Vec::<String>::new());
}
