//! The chunk index, with more chunks than a batch holds.

use super::{FreshDatabase, add_cache, name, pack};
use crate::db::caches::{Cache, DomainId};
use crate::db::chunks::{self, NewChunk};
use crate::db::packs::PackId;
use crate::db::{self, Db};

const CHUNKS: u64 = 1_300;

fn new(id: u64) -> NewChunk {
    let offset = u32::try_from(id).unwrap();
    NewChunk { id, name: name(id), pack: PackId(1), offset, len: 100 }
}

async fn with_chunks(db: &Db) -> Cache {
    let mut tx = db.commit_tx().await.unwrap();
    let cache = add_cache(&mut tx, "main", DomainId::SHARED).await;
    db::packs::add(tx.exec(), &pack(1, &cache)).await.unwrap();
    let mut all: Vec<NewChunk> = (1..=CHUNKS).map(new).collect();
    all.sort_by_key(|chunk| chunk.name);
    assert_eq!(chunks::add(tx.exec(), cache.domain, &all).await.unwrap(), CHUNKS);
    tx.commit().await.unwrap();
    cache
}

pub(super) async fn chunks_are_found_by_name_and_id(fresh: FreshDatabase) {
    let cache = with_chunks(&fresh.db).await;
    let mut conn = fresh.db.reader().await.unwrap();
    let asked: Vec<_> = (1..=CHUNKS + 50).map(name).collect();
    let present = chunks::present(conn.exec(), cache.domain, &asked).await.unwrap();
    assert_eq!(present.len() as u64, CHUNKS);
    assert!(present.contains(&name(1)) && !present.contains(&name(CHUNKS + 1)));

    let by_name = chunks::lookup_by_names(conn.exec(), cache.domain, &asked).await.unwrap();
    assert_eq!(by_name.len() as u64, CHUNKS);
    let found = &by_name[&name(77)];
    assert_eq!((found.id, found.pack, found.offset, found.len), (77, PackId(1), 77, 100));
    assert_eq!(found.pack_key, pack(1, &cache).key);

    // A long run, singles, repetitions and ids that nobody has.
    let mut ids: Vec<u64> = (100..1_000).collect();
    ids.extend([5, 7, 9, 7, 5_000_000]);
    let by_id = chunks::lookup_by_ids(conn.exec(), &ids).await.unwrap();
    assert_eq!(by_id.len(), 903);
    assert_eq!(by_id[&9].name, name(9));

    let read = [(5, name(5)), (6, name(5)), (CHUNKS + 1, name(CHUNKS + 1)), (7, name(7))];
    let mut gone = vec![name(5), name(CHUNKS + 1)];
    gone.sort_unstable();
    assert_eq!(chunks::exists(conn.exec(), &read).await.unwrap(), gone);

    let page = chunks::page(conn.exec(), CHUNKS - 2, 10).await.unwrap();
    assert_eq!(page.iter().map(|(_, chunk)| chunk.id).collect::<Vec<_>>(), [CHUNKS - 1, CHUNKS]);
}

pub(super) async fn the_first_row_of_a_name_stays(fresh: FreshDatabase) {
    let cache = with_chunks(&fresh.db).await;
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let again = [NewChunk { id: 9_000, ..new(3) }, NewChunk { id: 9_001, ..new(CHUNKS + 1) }];
    assert_eq!(chunks::add(tx.exec(), cache.domain, &again).await.unwrap(), 1);
    let found = chunks::lookup_by_names(tx.exec(), cache.domain, &[name(3)]).await.unwrap();
    assert_eq!(found[&name(3)].id, 3);
    assert!(chunks::lookup_by_ids(tx.exec(), &[9_000]).await.unwrap().is_empty());
}

pub(super) async fn domains_do_not_see_each_other(fresh: FreshDatabase) {
    let cache = with_chunks(&fresh.db).await;
    let mut tx = fresh.db.commit_tx().await.unwrap();
    let other = db::caches::add_domain(tx.exec(), 1_000).await.unwrap();
    assert!(chunks::present(tx.exec(), other, &[name(1)]).await.unwrap().is_empty());
    assert_eq!(
        chunks::add(tx.exec(), other, &[NewChunk { id: 9_000, ..new(1) }]).await.unwrap(),
        1
    );
    let here = chunks::lookup_by_names(tx.exec(), cache.domain, &[name(1)]).await.unwrap();
    let there = chunks::lookup_by_names(tx.exec(), other, &[name(1)]).await.unwrap();
    assert_eq!((here[&name(1)].id, there[&name(1)].id), (1, 9_000));
}

pub(super) async fn lists_may_be_longer_than_the_engines_allow(fresh: FreshDatabase) {
    let cache = with_chunks(&fresh.db).await;
    let mut conn = fresh.db.reader().await.unwrap();
    // Neither engine takes this many variables in one statement.
    let asked: Vec<_> = (1..=70_000).map(name).collect();
    let present = chunks::present(conn.exec(), cache.domain, &asked).await.unwrap();
    assert_eq!(present.len() as u64, CHUNKS);
    let ids: Vec<u64> = (0..70_000).map(|id| id * 2 + 1).collect();
    let found = chunks::lookup_by_ids(conn.exec(), &ids).await.unwrap();
    assert_eq!(found.len() as u64, CHUNKS / 2);
    assert!(chunks::present(conn.exec(), cache.domain, &[]).await.unwrap().is_empty());
}
