//! Databases, their copies and one storage: who has it, and what a crash between two steps leaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::standing::OwnChain;
use super::*;
use crate::config::{DatabaseConfig, DatabaseUrl, StorageConfig};
use crate::db::chain::{self, Link};
use crate::db::instance;
use crate::db::tests::postgres::Server;

const NOW: i64 = 1_800_000_000;

struct World {
    folder: tempfile::TempDir,
    storage: Arc<Storage>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StorageConfig::Local { path: folder.path().join("storage") };
        Self { storage: Arc::new(Storage::open(&config).await.unwrap()), folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A database of this name, which is set up unless it is there.
    async fn database(&self, name: &str) -> Chain {
        self.over(Db::open(&DatabaseConfig::new(DatabaseUrl::Sqlite(self.at(name)))).await.unwrap())
            .await
    }

    async fn over(&self, db: Db) -> Chain {
        let mut tx = db.exclusive_tx().await.unwrap();
        instance::load_or_create(tx.exec(), "test", NOW).await.unwrap();
        tx.commit().await.unwrap();
        Chain::new(db, Arc::clone(&self.storage))
    }

    /// Copies a database as it is at this moment.
    async fn copy(&self, from: &str, to: &str) -> Chain {
        crate::db::backup::copy(&self.at(from), &self.at(to)).await.unwrap();
        self.database(to).await
    }

    async fn marker(&self) -> Marker {
        self.storage.marker().await.unwrap().unwrap()
    }
}

impl Chain {
    async fn own(&self) -> OwnChain {
        OwnChain::load(&self.0.db).await.unwrap()
    }

    async fn number(&self) -> u64 {
        self.own().await.last().link.number
    }

    /// The first step of an advance, and a crash.
    async fn choose_next(&self) -> Link {
        let mut tx = self.0.db.upkeep_tx().await.unwrap();
        let next = draw_link(self.number().await).unwrap();
        chain::add(tx.exec(), &next).await.unwrap();
        tx.commit().await.unwrap();
        next
    }
}

fn is_superseded(result: &Result<(), Arc<ChainError>>) -> bool {
    matches!(result, Err(error) if matches!(**error, ChainError::Superseded { .. }))
}

#[tokio::test]
async fn each_start_adds_a_link_to_both() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    assert!(matches!(
        &*chain.confirm().await.unwrap_err(),
        ChainError::Marker(MarkerError::Missing)
    ));
    for number in 1..=3 {
        chain.take(NOW).await.unwrap();
        let (own, marker) = (chain.own().await.last().link, world.marker().await);
        assert_eq!((own.number, &own.link), (number, &marker.link));
        assert_eq!(marker.number, number);
        chain.confirm().await.unwrap();
    }
}

#[tokio::test]
async fn a_storage_with_something_else_in_it_is_not_taken() {
    let world = World::new().await;
    world.storage.put("holiday/photo.jpg", bytes::Bytes::from_static(b"x")).await.unwrap();
    let error = world.database("a.db").await.take(NOW).await.unwrap_err();
    assert!(error.to_string().contains("holiday/photo.jpg"), "{error}");
    assert_eq!(world.storage.list("", None, 10).await.unwrap(), ["holiday/photo.jpg"]);
}

#[tokio::test]
async fn a_storage_of_before_the_chain_is_taken_once() {
    let world = World::new().await;
    let (first, second) = (world.database("a.db").await, world.database("b.db").await);
    let old = Marker { instance: "test".to_owned(), epoch: 1, ..Marker::default() };
    world.storage.mark(&old).await.unwrap();
    first.confirm().await.unwrap();
    first.take(NOW).await.unwrap();
    assert!(
        matches!(second.take(NOW).await, Err(ChainError::Superseded { .. })),
        "a copy of before the chain"
    );
}

#[tokio::test]
async fn after_a_crash_between_any_two_steps_the_database_has_its_storage() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    chain.take(NOW).await.unwrap();
    // After the link was chosen.
    let next = chain.choose_next().await;
    chain.confirm().await.unwrap();
    chain.take(NOW).await.unwrap();
    assert_eq!(
        world.marker().await.link,
        next.link,
        "the link that was chosen is the one that is written"
    );
    // After the marker was written.
    let next = chain.choose_next().await;
    world.storage.mark(&marker_of(&chain.own().await.instance, &next)).await.unwrap();
    chain.confirm().await.unwrap();
    chain.take(NOW).await.unwrap();
    assert_eq!((chain.number().await, world.marker().await.link), (3, next.link));
    chain.take(NOW).await.unwrap();
    assert_eq!(chain.number().await, 4);
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_gone_on_with() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    let next = chain.choose_next().await;
    chain.take(NOW).await.unwrap();
    assert_eq!(world.marker().await.link, next.link);
}

#[tokio::test]
async fn a_write_that_comes_late_locks_nobody_out() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    chain.take(NOW).await.unwrap();
    let late = world.marker().await;
    for _ in 0..3 {
        chain.take(NOW).await.unwrap();
    }
    world.storage.mark(&late).await.unwrap();
    chain.confirm().await.unwrap();
    chain.take(NOW).await.unwrap();
    assert_eq!((chain.number().await, world.marker().await.number), (5, 5));
}

#[tokio::test]
async fn an_older_state_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    chain.take(NOW).await.unwrap();
    let older = world.copy("a.db", "older.db").await;
    chain.take(NOW).await.unwrap();
    let (marker, number) = (world.marker().await, older.number().await);
    assert!(is_superseded(&older.confirm().await));
    let message = older.take(NOW).await.unwrap_err().to_string();
    assert!(
        message.contains("snowbankd restore --in-place") && message.contains("link 2"),
        "{message}"
    );
    assert_eq!((world.marker().await, older.number().await), (marker, number));
    chain.confirm().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_starts_beside_a_server_at_work_is_refused() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    chain.take(NOW).await.unwrap();
    let stop = CancellationToken::new();
    let watching = tokio::spawn(chain.clone().watch(stop.clone()));
    // The same link as the marker: it has to ask.
    let copy = world.copy("a.db", "copy.db").await;
    assert!(matches!(copy.take(NOW).await, Err(ChainError::Superseded { .. })));
    chain.health().await.unwrap();
    assert!(is_superseded(&copy.confirm().await));
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn a_copy_takes_over_from_a_server_that_is_gone_which_finds_out_when_it_comes_back() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    chain.take(NOW).await.unwrap();
    let copy = world.copy("a.db", "copy.db").await;
    let waited = std::time::Instant::now();
    copy.take(NOW).await.unwrap();
    assert!(waited.elapsed() >= Duration::from_secs(5), "it asks first");
    copy.confirm().await.unwrap();
    assert!(is_superseded(&chain.confirm().await));
    assert!(matches!(chain.take(NOW).await, Err(ChainError::Superseded { .. })));
    // In its own place it need not ask.
    let waited = std::time::Instant::now();
    copy.take(NOW).await.unwrap();
    assert!(waited.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn of_two_copies_that_start_together_one_is_refused() {
    let world = World::new().await;
    world.database("a.db").await.take(NOW).await.unwrap();
    let copies = [world.copy("a.db", "b.db").await, world.copy("a.db", "c.db").await];
    let [first, second] = [&copies[0], &copies[1]].map(|copy| copy.take(NOW));
    let (first, second) = tokio::join!(first, second);
    let (of_first, of_second) = (copies[0].confirm().await, copies[1].confirm().await);
    assert!(first.is_err() || second.is_err(), "{first:?} {second:?}");
    assert!(of_first.is_ok() != of_second.is_ok(), "{of_first:?} {of_second:?}");
}

#[tokio::test]
async fn another_instance_and_another_epoch_are_refused() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    chain.take(NOW).await.unwrap();
    let marker = world.marker().await;
    world.storage.mark(&Marker { instance: "other".to_owned(), ..marker.clone() }).await.unwrap();
    assert!(matches!(&*chain.confirm().await.unwrap_err(), ChainError::Foreign { .. }));
    world.storage.mark(&Marker { epoch: 2, ..marker }).await.unwrap();
    assert!(is_superseded(&chain.confirm().await));
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_found_well_again() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    chain.take(NOW).await.unwrap();
    chain.health().await.unwrap();
    let (storage, aside) = (world.at("storage"), world.at("aside"));
    std::fs::rename(&storage, &aside).unwrap();
    assert!(
        matches!(&*chain.confirm().await.unwrap_err(), ChainError::Marker(MarkerError::Missing)),
        "unmounted"
    );
    std::fs::create_dir(&storage).unwrap();
    assert!(
        matches!(&*chain.confirm().await.unwrap_err(), ChainError::Marker(MarkerError::Missing)),
        "emptied"
    );
    // Reading a folder fails for every user.
    std::fs::create_dir(storage.join("snowbank-instance")).unwrap();
    assert!(
        matches!(&*chain.confirm().await.unwrap_err(), ChainError::Marker(MarkerError::Storage(_))),
        "unreadable"
    );
    std::fs::remove_dir_all(&storage).unwrap();
    chain.health().await.unwrap_err();
    std::fs::rename(&aside, &storage).unwrap();
    chain.confirm().await.unwrap();
    chain.health().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_advance_together_and_never_lock_one_another_out() {
    let world = World::new().await;
    let server = Server::start();
    let config = server.config("chain").await;
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(world.over(Db::open(&config).await.unwrap()).await);
    }
    for round in 0..10 {
        let mut tasks = tokio::task::JoinSet::new();
        for chain in &replicas {
            let chain = chain.clone();
            tasks.spawn(async move {
                if round == 0 {
                    chain.take(NOW).await.map(drop)
                } else {
                    chain.advance(NOW).await.map(drop)
                }
            });
        }
        for result in tasks.join_all().await {
            result.unwrap();
        }
        for chain in &replicas {
            chain.confirm().await.unwrap();
        }
    }
    assert!(replicas[0].number().await >= 10);
    // A slow one may have written the marker of the link before the last; then the next that starts
    // goes one further. One that starts right after another one leaves it at that.
    replicas[0].take(NOW).await.unwrap();
    let number = replicas[0].number().await;
    replicas[1].take(NOW).await.unwrap();
    assert_eq!(replicas[2].number().await, number);
    replicas[1].take(NOW + 60).await.unwrap();
    assert_eq!(replicas[2].number().await, number + 1);
}

#[tokio::test]
async fn a_file_has_a_place_of_its_own() {
    let world = World::new().await;
    let chain = world.database("a.db").await;
    let copy = world.copy("a.db", "b.db").await;
    let place = chain.db().place().await.unwrap();
    assert_eq!(place, chain.db().place().await.unwrap());
    assert_ne!(place, copy.db().place().await.unwrap());
    assert!(Path::new("/proc/sys/kernel/random/boot_id").exists());
}
