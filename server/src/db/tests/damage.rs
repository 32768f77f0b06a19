//! Retired chunks, withdrawn paths, and rows that are set right.

use snowbank_core::store_path::StorePath;

use super::{FreshDatabase, add_cache, name, nar, nar_hash, pack};
use crate::db::caches::{Cache, DomainId};
use crate::db::chunks::{ChunkLocation, NewChunk};
use crate::db::counters::{self, Counter};
use crate::db::damage::{self, Retirement, is_retired, retired_name};
use crate::db::nars::{EncodedSegment, NarId};
use crate::db::packs::{PackId, PackState};
use crate::db::paths::{NewPath, PathId};
use crate::db::repair::{self, ChunkRow, RowChange};
use crate::db::{self, Tx};

fn chunk(id: u64, pack: i64) -> NewChunk {
    NewChunk {
        id,
        name: name(id),
        pack: PackId(pack),
        offset: 40 + 100 * u32::try_from(id).unwrap(),
        len: 90,
    }
}

/// A cache, two packs, and chunks 1 to 5, the last of them in the second pack.
async fn stored(tx: &mut Tx) -> Cache {
    let cache = add_cache(tx, "main", DomainId::SHARED).await;
    for id in 1..=2 {
        db::packs::add(tx.exec(), &pack(id, &cache)).await.unwrap();
    }
    let chunks: Vec<NewChunk> = (1..=5).map(|id| chunk(id, if id == 5 { 2 } else { 1 })).collect();
    assert_eq!(db::chunks::add(tx.exec(), cache.domain, &chunks).await.unwrap(), 5);
    cache
}

async fn location(tx: &mut Tx, id: u64) -> ChunkLocation {
    db::chunks::lookup_by_ids(tx.exec(), &[id]).await.unwrap().remove(&id).unwrap()
}

async fn row(tx: &mut Tx, id: u64) -> ChunkRow {
    let ChunkLocation { name, pack, offset, len, .. } = location(tx, id).await;
    ChunkRow { id, domain: DomainId::SHARED, name, pack, offset, len }
}

async fn retire(tx: &mut Tx, ids: &[u64]) -> Vec<u64> {
    let mut chunks = Vec::new();
    for id in ids {
        let (domain, chunk) = (DomainId::SHARED, location(tx, *id).await);
        chunks.push(Retirement { domain, chunk, reason: format!("test {id}") });
    }
    damage::retire(tx.exec(), &chunks, 77).await.unwrap()
}

pub(super) async fn a_retired_chunk_is_missing_by_name_and_comes_again(fresh: FreshDatabase) {
    let mut tx = fresh.db.exclusive_tx().await.unwrap();
    let cache = stored(&mut tx).await;
    let found = [(2, name(2)), (3, name(3))];
    let stale = Retirement {
        domain: cache.domain,
        chunk: ChunkLocation { offset: 1, ..location(&mut tx, 4).await },
        reason: "it has moved since".to_owned(),
    };
    assert_eq!(damage::retire(tx.exec(), &[stale], 70).await.unwrap(), Vec::<u64>::new());
    assert_eq!(retire(&mut tx, &[2, 3]).await, [2, 3]);
    assert!(is_retired(&location(&mut tx, 2).await) && !is_retired(&location(&mut tx, 4).await));
    let there =
        db::chunks::present(tx.exec(), cache.domain, &[name(1), name(2), name(3)]).await.unwrap();
    assert_eq!(there.into_iter().collect::<Vec<_>>(), [name(1)]);
    assert_eq!(
        db::chunks::exists(tx.exec(), &found).await.unwrap().len(),
        2,
        "whoever read them finds that out"
    );
    assert_eq!(damage::counts(tx.exec()).await.unwrap(), (2, 0));
    let page = damage::page(tx.exec(), 2, 10).await.unwrap();
    assert_eq!((page.len(), page[0].id, page[0].name, page[0].found), (1, 3, name(3), 77));
    assert_eq!((page[0].reason.as_str(), page[0].pack_key), ("test 3", pack(1, &cache).key));

    let again = NewChunk { id: 9, ..chunk(2, 2) };
    assert_eq!(db::chunks::add(tx.exec(), cache.domain, &[again]).await.unwrap(), 1);
    let found = db::chunks::lookup_by_names(tx.exec(), cache.domain, &[name(2)]).await.unwrap();
    assert_eq!(found[&name(2)].id, 9);
}

pub(super) async fn paths_are_withdrawn_with_their_nar_and_cleared_by_a_push(fresh: FreshDatabase) {
    let path = |letter: &str| {
        StorePath::from_base_name(&format!("{}-some-name", letter.repeat(32))).unwrap()
    };
    let paths = [path("a"), path("b"), path("c")];
    let segments =
        [0_u64, 1].map(|seq| EncodedSegment { first_raw: seq, first_stored: seq, data: vec![1] });
    let mut tx = fresh.db.exclusive_tx().await.unwrap();
    let cache = stored(&mut tx).await;
    let other = add_cache(&mut tx, "other", DomainId::SHARED).await;
    db::nars::add(tx.exec(), &[nar(1, cache.domain, &segments), nar(2, cache.domain, &[])])
        .await
        .unwrap();
    let new = |id: i64, cache: &Cache, path, nar| NewPath {
        id: PathId(id),
        cache: cache.id,
        store_path: path,
        nar: NarId(nar),
        references: &[],
        deriver: None,
        signatures: &[],
        expires: None,
        ca: None,
        extra: "",
        pushed_by: "ci",
        created: 1,
    };
    let rows =
        [new(1, &cache, &paths[0], 1), new(2, &other, &paths[1], 1), new(3, &cache, &paths[2], 2)];
    db::paths::add(tx.exec(), &rows).await.unwrap();

    assert_eq!(damage::paths_of(tx.exec(), NarId(1), 1).await.unwrap(), [PathId(1)]);
    let ids = damage::paths_of(tx.exec(), NarId(1), 10).await.unwrap();
    let withdrawn = damage::withdraw(tx.exec(), &ids, "a test", 80).await.unwrap();
    assert_eq!(withdrawn.len(), 2);
    assert!(
        withdrawn.iter().all(|path| path.nar_hash == nar_hash(1)
            && path.since == 80
            && path.reason == "a test")
    );
    damage::remove_nar(tx.exec(), NarId(1)).await.unwrap();
    assert!(damage::remove_nar(tx.exec(), NarId(2)).await.is_err(), "a path has it");
    tx = {
        drop(tx);
        fresh.db.exclusive_tx().await.unwrap()
    };
    let cache = stored(&mut tx).await;
    db::nars::add(tx.exec(), &[nar(1, cache.domain, &segments)]).await.unwrap();
    db::paths::add(tx.exec(), &[new(1, &cache, &paths[0], 1)]).await.unwrap();
    let of_one = [PathId(1)];
    let first = damage::withdraw(tx.exec(), &of_one, "first", 80).await.unwrap();
    assert_eq!((first[0].base_name(), first[0].cache), (paths[0].base_name(), cache.id));
    let there =
        damage::withdrawn_among(tx.exec(), cache.id, &paths.each_ref().map(StorePath::hash))
            .await
            .unwrap();
    assert_eq!(there.into_iter().collect::<Vec<_>>(), [paths[0].hash()]);
    assert_eq!(damage::withdrawn_of(tx.exec(), cache.id, "", 10).await.unwrap(), first);
    assert!(
        damage::withdrawn_of(tx.exec(), cache.id, &first[0].hash, 10).await.unwrap().is_empty()
    );
    assert_eq!(damage::withdrawn(tx.exec(), (cache.id, ""), 10).await.unwrap(), first);
    damage::clear(tx.exec(), cache.id, &[paths[1].hash()]).await.unwrap();
    assert_eq!(damage::counts(tx.exec()).await.unwrap(), (0, 1));
    damage::clear(tx.exec(), cache.id, &[paths[0].hash(), paths[1].hash()]).await.unwrap();
    assert_eq!(damage::counts(tx.exec()).await.unwrap(), (0, 0));
}

pub(super) async fn rows_are_set_right_only_as_they_were_found(fresh: FreshDatabase) {
    let mut tx = fresh.db.exclusive_tx().await.unwrap();
    let cache = stored(&mut tx).await;
    let (one, two) = (row(&mut tx, 1).await, row(&mut tx, 2).await);
    assert_eq!(
        repair::by_names(tx.exec(), cache.domain, &[name(1), name(77)]).await.unwrap(),
        [one]
    );
    assert_eq!(
        repair::taken(tx.exec(), &[1, 8]).await.unwrap().into_iter().collect::<Vec<_>>(),
        [1]
    );
    let moved = |found: ChunkRow| RowChange {
        found,
        name: found.name,
        pack: PackId(2),
        offset: 700,
        len: 91,
    };
    let stale = RowChange { found: ChunkRow { offset: 1, ..two }, ..moved(two) };
    assert_eq!(repair::change_rows(tx.exec(), &[moved(one), stale]).await.unwrap(), 1);
    let after = row(&mut tx, 1).await;
    assert_eq!((after.pack, after.offset, after.len), (PackId(2), 700, 91));
    assert_eq!(row(&mut tx, 2).await, two);

    // Out of retirement by its old name, and into nothing.
    assert_eq!(retire(&mut tx, &[2, 3, 4]).await, [2, 3, 4]);
    let retired = row(&mut tx, 2).await;
    let back = RowChange {
        found: retired,
        name: name(2),
        pack: retired.pack,
        offset: retired.offset,
        len: 90,
    };
    assert_eq!(repair::change_rows(tx.exec(), &[back]).await.unwrap(), 1);
    assert_eq!((row(&mut tx, 2).await, damage::counts(tx.exec()).await.unwrap().0), (two, 2));
    assert_eq!(repair::remove_retired(tx.exec(), &[1, 3, 4]).await.unwrap(), [PackId(1)]);
    assert_eq!(
        repair::taken(tx.exec(), &[1, 3, 4]).await.unwrap().into_iter().collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(db::packs::claim_empty(tx.exec(), &[PackId(1), PackId(2)], 90).await.unwrap(), 0);
    assert_eq!(retire(&mut tx, &[2]).await, [2]);
    assert_eq!(repair::remove_retired(tx.exec(), &[2]).await.unwrap(), [PackId(1)]);
    assert_eq!(db::packs::claim_empty(tx.exec(), &[PackId(1), PackId(2)], 90).await.unwrap(), 1);
    let dead = db::packs::lookup(tx.exec(), PackId(1)).await.unwrap().unwrap();
    assert_eq!(dead.state, PackState::Dead);
    assert_eq!(
        repair::incomplete_packs(tx.exec(), PackId(0), 10).await.unwrap(),
        [PackId(2)],
        "three records, two rows"
    );
    assert!(repair::without_pack(tx.exec(), 0, 10).await.unwrap().is_empty());
}

pub(super) async fn what_check_and_repair_ask_has_answers(fresh: FreshDatabase) {
    let mut tx = fresh.db.exclusive_tx().await.unwrap();
    let cache = stored(&mut tx).await;
    assert_eq!(retire(&mut tx, &[5]).await, [5]);
    let chunks = db::check::chunks(tx.exec(), 3, 10).await.unwrap();
    let facts: Vec<_> = chunks.into_iter().map(|(id, row)| (id, row.unwrap())).collect();
    assert_eq!((facts.len(), facts[0].0), (2, 4));
    assert!(
        facts[0].1.is_domain_known && facts[0].1.found_pack == Some((PackState::Live, 1 << 20))
    );
    assert_eq!(facts[1].1.name, retired_name(5));
    assert!(db::check::nars(tx.exec(), 0, 10).await.unwrap().is_empty());
    assert!(db::check::nar(tx.exec(), NarId(1)).await.unwrap().is_none());
    assert!(db::check::path(tx.exec(), PathId(1)).await.unwrap().is_none());
    let keys = [pack(1, &cache).key, pack(7, &cache).key];
    assert_eq!(db::check::packs_by_key(tx.exec(), &keys).await.unwrap()[&keys[0]].id, PackId(1));
    assert!(db::check::loose_pins(tx.exec(), 0, 10).await.unwrap().is_empty());
    assert!(db::check::pins_without_generation(tx.exec(), 10).await.unwrap().is_empty());
    assert_eq!(db::check::loose_segments(tx.exec()).await.unwrap(), 0);
    assert_eq!(repair::domains(tx.exec()).await.unwrap(), [(cache.domain, cache.id)]);

    // The rows above took no ids from the counters.
    let counter = |found: &[db::check::CounterFacts], name| {
        *found.iter().find(|one| one.name == name).unwrap()
    };
    let found = db::check::counters(tx.exec()).await.unwrap();
    let chunk = counter(&found, "chunk");
    assert_eq!((chunk.next, chunk.highest), (Some(1), 5));
    for next in [6, 3] {
        repair::raise(tx.exec(), Counter::Chunk, next).await.unwrap();
    }
    assert_eq!(counters::reserve(tx.exec(), Counter::Chunk, 1).await.unwrap(), 6);

    assert_eq!(
        (
            repair::count_stale(tx.exec()).await.unwrap(),
            repair::remove_stale(tx.exec()).await.unwrap()
        ),
        (0, 0)
    );
}
