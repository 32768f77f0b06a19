//! Moves between real databases: whole, cut off, into the wrong place, and tampered with.

use std::path::Path;

use snowbank_core::hash::{FileHash, NarHash, Sha256};
use snowbank_core::manifest::ContentDigest;
use snowbank_core::pack::PackKey;

use super::*;
use crate::admin::{Admin, first_start};
use crate::config::{DatabaseConfig, DatabaseUrl};
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

/// A database after its first start, with rows in every large table and more bytes of manifests than a batch holds.
async fn filled(folder: &Path) -> Db {
    let db = Db::open(&sqlite(folder, "source.db")).await.unwrap();
    let data_dir = DataDir::create(folder).unwrap();
    let admin = Admin {
        db: db.clone(),
        sealer: Sealer::new(&[1; 32]),
        compression_level: 3,
        host: None,
        key_files: Vec::new(),
    };
    first_start(&admin, &data_dir, 1_000).await.unwrap();
    let mut tx = db.commit_tx().await.unwrap();
    let (domain, key) = (DomainId::SHARED, PackKey::from_bytes([1; 16]));
    let pack = NewPack { id: PackId(1), domain, cache: CacheId(1), key, bytes: 9, chunk_count: 3, created: 1 };
    packs::add(tx.exec(), &pack).await.unwrap();
    let chunk = |id: u64| {
        let name = snowbank_core::chunk::ChunkName::from_bytes(*blake3::hash(&id.to_le_bytes()).as_bytes());
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

async fn moved(source: &Db, target: &Db) -> Vec<Compared> {
    copy(source, target, &mut |_| {}).await.unwrap();
    verify(source, target, &mut |_| {}).await.unwrap()
}

fn different(compared: &[Compared]) -> Vec<&'static str> {
    compared.iter().filter(|table| !table.is_equal()).map(|table| table.table).collect()
}

async fn tamper(db: &Db) {
    let mut tx = db.exclusive_tx().await.unwrap();
    let chunks = TABLES.iter().find(|table| table.name == "revoked_tokens").unwrap();
    chunks.write(tx.exec(), &[vec![transfer::Value::Text("jti".to_owned()), transfer::Value::Int(1)]]).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snowbank_moves_to_postgresql_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(folder.path()).await;
    let server = Server::start();
    let config = server.config("moved").await;
    let target = Db::open_target(&config).await.unwrap();
    assert_eq!(plan(&source, &target).await.unwrap(), Plan::Copy);
    let compared = moved(&source, &target).await;
    assert_eq!(different(&compared), [""; 0]);
    assert_eq!(compared.iter().find(|table| table.table == "chunks").unwrap().target.rows, CHUNKS);
    assert_eq!(plan(&source, &target).await.unwrap(), Plan::Compare);
    let opened = Db::open(&config).await.unwrap();
    let mut conn = opened.reader().await.unwrap();
    assert!(caches::lookup(conn.exec(), &"main".parse().unwrap()).await.unwrap().is_some());
    drop(conn);

    let back = Db::open_target(&sqlite(folder.path(), "back.db")).await.unwrap();
    assert_eq!(plan(&opened, &back).await.unwrap(), Plan::Copy);
    assert_eq!(different(&moved(&opened, &back).await), [""; 0]);

    tamper(&target).await;
    let compared = verify(&source, &target, &mut |_| {}).await.unwrap();
    assert_eq!(different(&compared), ["revoked_tokens"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_cut_off_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(folder.path()).await;
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
        assert!(matches!(Db::open(&config).await, Err(DbError::Moving)), "no server takes half of it");
        assert_eq!(plan(&source, &target).await.unwrap(), Plan::Resume);
        assert_eq!(different(&moved(&source, &target).await), [""; 0]);
        Db::open(&config).await.unwrap();
    }
}

#[tokio::test]
async fn a_target_that_is_somebody_elses_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(folder.path()).await;
    let other_folder = folder.path().join("other");
    std::fs::create_dir(&other_folder).unwrap();
    let other = filled(&other_folder).await;
    assert!(matches!(plan(&source, &other).await, Err(MoveError::OtherInstance { .. })));
    let empty = Db::open_target(&sqlite(folder.path(), "empty.db")).await.unwrap();
    assert!(matches!(plan(&empty, &source).await, Err(MoveError::NothingToMove)));
    tamper(&empty).await;
    assert!(matches!(plan(&source, &empty).await, Err(MoveError::NotEmpty("revoked_tokens"))));
}

#[tokio::test]
async fn every_table_and_column_of_the_schema_is_moved() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&sqlite(folder.path(), "db")).await.unwrap();
    let mut conn = db.reader().await.unwrap();
    assert_eq!(transfer::unknown_columns(conn.exec()).await.unwrap(), Vec::<String>::new());
}
