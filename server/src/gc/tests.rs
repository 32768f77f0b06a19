//! Collections of a small server: rows and packs as pushes leave them, and a clock of its own.

use std::collections::HashMap;
use std::sync::Arc;

use snowbank_core::chunk::{Chunk, ChunkName};
use snowbank_core::frame::FrameEncoder;
use snowbank_core::hash::{FileHash, NarHash, Sha256};
use snowbank_core::manifest::{ContentDigest, SegmentBuilder, SegmentEntry};
use snowbank_core::store_path::{StoreDir, StorePath, StorePathHash};
use snowbank_core::units::{Limit, Seconds, Size};
use snowbank_core::wire::admin::collection::{GcReport, GcRequest, GoingReason};

use super::GcError;
use super::ages;
use super::collect::Collector;
use crate::chain::Chain;
use crate::config::{DatabaseConfig, DatabaseUrl, GcConfig, StorageConfig};
use crate::db::caches::{Cache, DomainId, NewCache};
use crate::db::counters::{self, Counter};
use crate::db::nars::{EncodedSegment, NarId, NewNar};
use crate::db::packs::{PackId, PackState};
use crate::db::paths::{NewPath, PathId};
use crate::db::{self, Db};
use crate::pack::{NewRecord, Packs, pack_object_key, read_chunks};
use crate::storage::{FreeSpace, Storage};

const START: i64 = 1_800_000_000;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

struct World {
    _folder: tempfile::TempDir,
    db: Db,
    storage: Arc<Storage>,
    chain: Chain,
    packs: Packs,
    settings: GcConfig,
    cache: Cache,
    now: i64,
}

/// A chunk's content: noise that does not compress, the same for the same name.
fn content(name: &str) -> Vec<u8> {
    let mut bytes = vec![0; 40_000];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn path(name: &str) -> StorePath {
    let hash = StorePathHash::from_bytes(
        blake3::hash(name.as_bytes()).as_bytes()[..20].try_into().unwrap(),
    );
    format!("{hash}-{name}").parse().unwrap()
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("snowbank.db")));
        let db = Db::open(&config).await.unwrap();
        let storage = Arc::new(
            Storage::open(&StorageConfig::Local { path: folder.path().join("storage") })
                .await
                .unwrap(),
        );
        let packs = Packs::new(db.clone(), Arc::clone(&storage), 0);
        let mut tx = db.exclusive_tx().await.unwrap();
        db::instance::load_or_create(tx.exec(), "test", START).await.unwrap();
        let new = NewCache {
            name: "main".parse().unwrap(),
            domain: DomainId::SHARED,
            public: true,
            store_dir: StoreDir::default(),
            priority: 41,
            compression_level: 3,
            created: START,
        };
        let cache = db::caches::add(tx.exec(), &new).await.unwrap();
        tx.commit().await.unwrap();
        let chain = Chain::new(db.clone(), Arc::clone(&storage));
        chain.take(START).await.unwrap();
        ages::note(&db, START, false).await.unwrap();
        let settings = GcConfig { min_age: Seconds::new(0), ..GcConfig::default() };
        Self { _folder: folder, db, storage, chain, packs, settings, cache, now: START }
    }

    /// Time passes, and a server notes it.
    async fn pass(&mut self, seconds: i64) {
        let until = self.now + seconds;
        while self.now < until {
            self.now = (self.now + 300).min(until);
            ages::note(&self.db, self.now, false).await.unwrap();
        }
    }

    async fn configure(&mut self, retention: Limit<Seconds>, max_size: Limit<Size>) {
        let mut tx = self.db.exclusive_tx().await.unwrap();
        (self.cache.retention, self.cache.max_size) = (retention, max_size);
        db::caches::update(tx.exec(), &self.cache).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Pushes a path whose NAR is of these chunks; those that are not there are stored in one pack.
    async fn push(&self, name: &str, references: &[&str], chunks: &[&str]) {
        let names: Vec<ChunkName> =
            chunks.iter().map(|chunk| Chunk::closed(content(chunk)).name()).collect();
        let domain = self.cache.domain;
        let there = db::chunks::present(self.db.reader().await.unwrap().exec(), domain, &names)
            .await
            .unwrap();
        let mut frames = FrameEncoder::new(1);
        let mut record = |chunk: &&str| {
            let chunk = Chunk::closed(content(chunk));
            let encoded = frames.encode(&chunk, &chunk.name()).unwrap();
            NewRecord { header: encoded.header, frame: encoded.frame }
        };
        let missing = chunks.iter().zip(&names).filter(|(_, name)| !there.contains(*name));
        let records: Vec<NewRecord> = missing.map(|(chunk, _)| record(chunk)).collect();
        if !records.is_empty() {
            self.packs.store(domain, self.cache.id, records, self.now, || {}).await.unwrap();
        }
        let mut tx = self.db.commit_tx().await.unwrap();
        let places = db::chunks::lookup_by_names(tx.exec(), domain, &names).await.unwrap();
        let mut builder = SegmentBuilder::new();
        for name in &names {
            let entry = SegmentEntry {
                id: places[name].id,
                raw_len: 40_000,
                frame_len: places[name].len,
                slots: 0,
            };
            assert!(builder.push(entry, &[]).is_none());
        }
        let segment = builder.finish().unwrap();
        let data = segment.encode();
        let segments = [EncodedSegment { first_raw: 0, first_stored: 0, data }];
        let nar = NarId(counters::reserve(tx.exec(), Counter::Nar, 1).await.unwrap());
        let new = NewNar {
            id: nar,
            domain,
            nar_hash: NarHash::from(Sha256::of(format!("{name} {}", nar.0).as_bytes())),
            nar_size: 40_000 * chunks.len() as u64,
            file_hash: FileHash::from(Sha256::of(name.as_bytes())),
            file_size: 1,
            content_digest: ContentDigest::from_bytes([0; 32]),
            chunk_count: chunks.len() as u64,
            segments: &segments,
            cut_id: 0,
            created: self.now,
        };
        db::nars::add(tx.exec(), &[new]).await.unwrap();
        let (store_path, references) =
            (path(name), references.iter().map(|name| path(name)).collect::<Vec<_>>());
        let id = PathId(counters::reserve(tx.exec(), Counter::Path, 1).await.unwrap());
        let row = NewPath {
            id,
            cache: self.cache.id,
            store_path: &store_path,
            nar,
            references: &references,
            deriver: None,
            signatures: &[],
            ca: None,
            extra: "",
            pushed_by: "test",
            created: self.now,
            expires: None,
        };
        db::paths::add(tx.exec(), &[row]).await.unwrap();
        tx.commit().await.unwrap();
    }

    fn collector(&self) -> Collector {
        Collector::new(
            self.chain.clone(),
            self.packs.clone(),
            FreeSpace::default(),
            self.settings.clone(),
        )
    }

    async fn collect(&self, request: GcRequest) -> GcReport {
        self.collector().run(&request, &|| self.now, &mut |_| ()).await.unwrap()
    }

    /// Collects, and finds that just what the dry run planned is done.
    async fn gc(&self) -> GcReport {
        let plan = self.collect(GcRequest { dry_run: true, ..GcRequest::default() }).await;
        let done = self.collect(GcRequest::default()).await;
        let rows = |of: &GcReport| {
            (of.paths, of.nar_bytes, of.nars, of.chunks, of.chunk_bytes, of.packs, of.freed_bytes)
        };
        let packs = |of: &GcReport| (of.compacted_packs, of.compacted_bytes, of.unnamed_objects);
        assert_eq!((rows(&plan), packs(&plan)), (rows(&done), packs(&done)));
        assert_eq!((&plan.going, &plan.caches), (&done.going, &done.caches));
        assert_eq!(plan.notes, done.notes);
        done
    }

    /// Names of the visible paths.
    async fn paths(&self) -> Vec<String> {
        let page =
            db::paths::page(self.db.reader().await.unwrap().exec(), PathId(0), 100).await.unwrap();
        let mut names: Vec<String> =
            page.iter().map(|(_, path)| path.store_path.name().to_owned()).collect();
        names.sort();
        names
    }

    async fn objects(&self) -> Vec<String> {
        self.storage.list("packs/", None, 1_000).await.unwrap()
    }

    async fn chunk_count(&self) -> usize {
        db::chunks::page(self.db.reader().await.unwrap().exec(), 0, 1_000).await.unwrap().len()
    }

    /// Every chunk row leads to its chunk, in a pack that is live.
    async fn assert_whole(&self) {
        let mut conn = self.db.reader().await.unwrap();
        let rows = db::chunks::page(conn.exec(), 0, 1_000).await.unwrap();
        for (_, chunk) in &rows {
            let pack = db::packs::lookup(conn.exec(), chunk.pack).await.unwrap().unwrap();
            assert_eq!(pack.state, PackState::Live);
        }
        let places: Vec<_> = rows.into_iter().map(|(_, chunk)| chunk).collect();
        read_chunks(&self.packs, &places).await.unwrap();
    }
}

fn days(days: u64) -> Limit<Seconds> {
    Limit::Some(Seconds::new(days * 86_400))
}

fn reasons(report: &GcReport) -> HashMap<String, GoingReason> {
    report.going.iter().map(|path| (path.store_path[33..].to_owned(), path.reason)).collect()
}

#[tokio::test]
async fn what_is_unused_goes_in_the_order_of_the_invariants_and_what_a_living_path_needs_stays() {
    let mut world = World::new().await;
    world.configure(days(30), Limit::None).await;
    world.push("libc", &[], &["c1", "c2"]).await;
    world.push("old", &["libc"], &["o1", "o2"]).await;
    world.pass(20 * DAY).await;
    world.push("new", &["libc"], &["n1", "c1"]).await;
    assert_eq!(world.gc().await.paths, 0);
    world.pass(11 * DAY).await;

    let plan = world.collect(GcRequest { dry_run: true, ..GcRequest::default() }).await;
    assert_eq!(reasons(&plan), HashMap::from([("old".to_owned(), GoingReason::Unused)]));
    assert_eq!(world.paths().await, ["libc", "new", "old"], "a dry run removes nothing");

    let report = world.gc().await;
    assert_eq!(
        (report.paths, report.nars, report.chunks),
        (1, 0, 0),
        "NARs wait for the grace period"
    );
    assert_eq!(world.paths().await, ["libc", "new"]);
    world.pass(DAY + HOUR).await;
    let report = world.gc().await;
    assert_eq!((report.nars, report.chunks, report.packs), (1, 2, 1), "{report:?}");
    assert_eq!(
        (world.chunk_count().await, world.objects().await.len()),
        (3, 3),
        "the object stays for readers"
    );
    world.assert_whole().await;
    world.pass(2 * HOUR).await;
    let report = world.gc().await;
    assert_eq!((report.objects, world.objects().await.len()), (1, 2));
    world.assert_whole().await;
    assert_eq!(report.caches[0].paths, 2);
    assert_eq!(report.caches[0].logical_bytes, 160_000);
    assert_eq!(report.caches[0].stored_bytes, report.caches[0].own_bytes);
    assert!(
        (120_000..121_000).contains(&report.caches[0].stored_bytes),
        "three chunks: {report:?}"
    );
}

#[tokio::test]
async fn a_clock_that_jumps_a_year_ahead_and_back_loses_nothing() {
    let mut world = World::new().await;
    world.configure(days(30), Limit::None).await;
    world.push("pushed", &[], &["p"]).await;
    world.pass(HOUR).await;
    world.now += 365 * DAY;
    let report = world.gc().await;
    assert_eq!((report.paths, report.chunks), (0, 0), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("clock")), "{report:?}");
    world.now -= 365 * DAY;
    assert_eq!(world.gc().await.paths, 0);
    world.pass(20 * DAY).await;
    assert_eq!(world.gc().await.paths, 0);
    world.pass(11 * DAY).await;
    assert_eq!(world.gc().await.paths, 1, "time that passed counts");
}

#[tokio::test]
async fn a_mostly_dead_pack_is_rewritten_and_what_was_in_it_reads_the_same() {
    let mut world = World::new().await;
    let chunks: Vec<String> = (0..10).map(|number| format!("chunk {number}")).collect();
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    world.push("big", &[], &chunks).await;
    world.push("part", &[], &chunks[3..5]).await;
    world.configure(days(10), Limit::None).await;
    world.pass(8 * DAY).await;
    let mut tx = world.db.commit_tx().await.unwrap();
    db::uses::touch(tx.exec(), &[PathId(2)], world.now, None).await.unwrap();
    tx.commit().await.unwrap();
    world.pass(4 * DAY).await;
    assert_eq!(world.gc().await.paths, 1);
    world.pass(DAY + HOUR).await;
    let report = world.gc().await;
    assert_eq!((report.chunks, report.compacted_packs), (8, 1), "{report:?}");
    assert!(report.compacted_bytes > 300_000, "{report:?}");
    world.assert_whole().await;
    let stored = db::chunks::page(world.db.reader().await.unwrap().exec(), 0, 10).await.unwrap();
    assert_eq!(stored.len(), 2);
    world.pass(2 * HOUR).await;
    world.gc().await;
    assert_eq!(world.objects().await, [pack_object_key(&stored[0].1.pack_key)]);
    world.assert_whole().await;
}

#[tokio::test]
async fn an_object_without_a_row_goes_after_the_grace_period_and_its_key_stays_taken() {
    let mut world = World::new().await;
    world.push("kept", &[], &["k"]).await;
    let key = snowbank_core::pack::PackKey::from_bytes([9; 16]);
    world.storage.put(&pack_object_key(&key), "left by a crash".into()).await.unwrap();
    assert_eq!(world.gc().await.unnamed_objects, 1);
    world.pass(23 * HOUR).await;
    world.gc().await;
    assert_eq!(world.objects().await.len(), 2);
    world.pass(2 * HOUR).await;
    assert_eq!(world.gc().await.objects, 1);
    assert_eq!(world.objects().await.len(), 1);
    let late = db::packs::NewPack {
        id: PackId(1_000),
        domain: DomainId::SHARED,
        cache: world.cache.id,
        key,
        bytes: 15,
        chunk_count: 1,
        created: world.now,
    };
    let mut tx = world.db.commit_tx().await.unwrap();
    db::packs::add(tx.exec(), &late).await.unwrap_err();
    drop(tx);
    world.pass(31 * DAY).await;
    world.gc().await;
    let mut tx = world.db.commit_tx().await.unwrap();
    db::packs::add(tx.exec(), &late).await.unwrap();
}

#[tokio::test]
async fn above_a_size_limit_the_least_recently_used_roots_go() {
    let mut world = World::new().await;
    for name in ["a", "b", "c", "d"] {
        world.push(&format!("lib-{name}"), &[], &[&format!("lib {name}")]).await;
        world.push(name, &[&format!("lib-{name}")], &[name, "shared"]).await;
        world.pass(HOUR).await;
    }
    // 9 chunks of 40 kB.
    world.configure(Limit::Default, Limit::Some(Size::from_bytes(400_000))).await;
    assert_eq!(world.gc().await.paths, 0, "below the high-water mark");
    world.configure(Limit::Default, Limit::Some(Size::from_bytes(250_000))).await;
    let report = world.gc().await;
    let gone = reasons(&report);
    assert_eq!(
        gone.keys().filter(|name| ["a", "b", "lib-a", "lib-b"].contains(&name.as_str())).count(),
        4,
        "{gone:?}"
    );
    assert_eq!(world.paths().await, ["c", "d", "lib-c", "lib-d"]);
    assert!(gone.values().all(|reason| *reason == GoingReason::CacheSize));

    world.settings.min_age = Seconds::new(86_400);
    world.configure(Limit::Default, Limit::Some(Size::from_bytes(50_000))).await;
    let report = world.gc().await;
    assert_eq!(report.paths, 0, "what was used lately stays");
    assert!(report.notes.iter().any(|note| note.contains("`main`")), "{report:?}");
}

#[tokio::test]
async fn one_collection_runs_at_a_time_and_none_after_a_restored_backup() {
    let world = World::new().await;
    let mut other = world.db.leader(db::leader::Work::Collection);
    assert!(other.holds().await.unwrap());
    let run = async || world.collector().run(&GcRequest::default(), &|| START, &mut |_| ()).await;
    assert!(matches!(run().await, Err(GcError::Busy)));
    other.release().await;
    run().await.unwrap();
    let mut tx = world.db.exclusive_tx().await.unwrap();
    db::settings::set(tx.exec(), "collection-off", "a backup was restored; run repair")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(run().await, Err(GcError::Off(why)) if why.contains("repair")));
}
