//! A server whose database already holds a great many chunks and paths.
//!
//! The rows are written with SQL while no server runs, and agree with one another as the server's
//! own would: every manifest names chunks that have rows, every chunk a pack that has one, and the
//! counters are beyond all ids. Only the packs' objects are not there; no figure reads one.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use snowbank_core::manifest::{Segment, SegmentEntry};
use snowbank_harness::{Random, Scratch, Server, trees};
use sqlx::{
    ConnectOptions as _, Connection as _, QueryBuilder, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

/// Rows per statement.
const BATCH: u64 = 500;
/// Chunks per pack, and bytes of a chunk's record: a pack of 8 MB.
const CHUNKS_PER_PACK: u64 = 96;
const RECORD_LEN: u64 = 80_000;
/// When everything was made: any time will do.
const CREATED: i64 = 1_700_000_000;

/// A data folder with rows, from which servers are started.
#[derive(Debug)]
pub(crate) struct Prefilled {
    folder: Scratch,
    /// Hash parts of the paths that it holds.
    pub(crate) hashes: Vec<String>,
}

/// A server on a data folder that ends with it.
#[derive(Debug)]
pub(crate) struct OnCopy {
    // Ended before its folder is removed.
    pub(crate) server: Server,
    _folder: Scratch,
}

impl Prefilled {
    /// Makes one of `chunks` chunks and `paths` paths, no fewer chunks than paths.
    pub(crate) fn make(chunks: u64, paths: u64) -> Result<Self> {
        ensure!(chunks >= paths && paths > 0, "every path needs a chunk");
        eprintln!("making a database of {chunks} chunks and {paths} paths");
        let folder = Scratch::new("prefilled");
        let data_dir = folder.join("data");
        let mut server = Server::options().data_dir(&data_dir).start();
        ensure!(server.terminate().success(), "snowbankd did not end well: {}", server.log());
        drop(server);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hashes = runtime.block_on(fill(data_dir.join("snowbank.db"), chunks, paths));
        Ok(Self { folder, hashes: hashes.context("cannot fill the database")? })
    }

    /// The data folder itself, for who changes it.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts a server on a copy.
    pub(crate) fn start(&self) -> OnCopy {
        let folder = self.copy();
        OnCopy { server: Server::options().data_dir(&folder.join("data")).start(), _folder: folder }
    }

    /// A copy of the data folder, as `data` in a folder of its own.
    pub(crate) fn copy(&self) -> Scratch {
        let copy = Scratch::new("prefilled-copy");
        trees::copy_with_modes(&self.folder.join("data"), &copy.join("data"));
        copy
    }
}

async fn fill(file: PathBuf, chunks: u64, paths: u64) -> Result<Vec<String>> {
    let options = SqliteConnectOptions::new().filename(file).foreign_keys(false);
    // Nothing is lost when this breaks off: the folder is thrown away then.
    let options =
        options.journal_mode(SqliteJournalMode::Memory).synchronous(SqliteSynchronous::Off);
    let mut db = options.pragma("cache_size", "-1000000").connect().await?;
    let cache: i64 =
        sqlx::query_scalar("SELECT id FROM caches WHERE name = 'main'").fetch_one(&mut db).await?;
    let mut random = Random::fixed(5);
    sqlx::query("BEGIN").execute(&mut db).await?;
    add_packs(&mut db, &mut random, cache, chunks).await?;
    add_chunks(&mut db, &mut random, chunks).await?;
    add_nars(&mut db, &mut random, chunks, paths).await?;
    let hashes = add_paths(&mut db, &mut random, cache, paths).await?;
    for (counter, count) in
        [("pack", packs(chunks)), ("chunk", chunks), ("nar", paths), ("path", paths)]
    {
        let set = sqlx::query("UPDATE counters SET next = $1 WHERE name = $2")
            .bind(signed(count) + 1)
            .bind(counter);
        ensure!(set.execute(&mut db).await?.rows_affected() == 1, "there is no counter {counter}");
    }
    sqlx::query("COMMIT").execute(&mut db).await?;
    db.close().await?;
    Ok(hashes)
}

fn packs(chunks: u64) -> u64 {
    chunks.div_ceil(CHUNKS_PER_PACK)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Ids from 1 to `count`, in batches.
fn batches(count: u64) -> impl Iterator<Item = std::ops::RangeInclusive<u64>> {
    (0..count.div_ceil(BATCH))
        .map(move |batch| batch * BATCH + 1..=((batch + 1) * BATCH).min(count))
}

async fn add_packs(
    db: &mut SqliteConnection,
    random: &mut Random,
    cache: i64,
    chunks: u64,
) -> Result<()> {
    for ids in batches(packs(chunks)) {
        let head =
            "INSERT INTO packs (id, domain_id, cache_id, key, state, bytes, chunk_count, created) ";
        let mut insert = QueryBuilder::<Sqlite>::new(head);
        insert.push_values(ids, |mut row, id| {
            let count = CHUNKS_PER_PACK.min(chunks - (id - 1) * CHUNKS_PER_PACK);
            row.push_bind(signed(id))
                .push_bind(1)
                .push_bind(cache)
                .push_bind(random.bytes(16))
                .push_bind(0);
            row.push_bind(signed(count * RECORD_LEN)).push_bind(signed(count)).push_bind(CREATED);
        });
        insert.build().execute(&mut *db).await?;
    }
    Ok(())
}

async fn add_chunks(db: &mut SqliteConnection, random: &mut Random, chunks: u64) -> Result<()> {
    for ids in batches(chunks) {
        let head = "INSERT INTO chunks (id, domain_id, name, pack_id, pack_offset, record_len) ";
        let mut insert = QueryBuilder::<Sqlite>::new(head);
        insert.push_values(ids, |mut row, id| {
            let (pack, place) = ((id - 1) / CHUNKS_PER_PACK + 1, (id - 1) % CHUNKS_PER_PACK);
            row.push_bind(signed(id))
                .push_bind(1)
                .push_bind(random.bytes(32))
                .push_bind(signed(pack));
            row.push_bind(signed(place * RECORD_LEN)).push_bind(signed(RECORD_LEN));
        });
        insert.build().execute(&mut *db).await?;
    }
    Ok(())
}

/// NARs share the chunks evenly.
async fn add_nars(
    db: &mut SqliteConnection,
    random: &mut Random,
    chunks: u64,
    nars: u64,
) -> Result<()> {
    let first = |nar: u64| (nar - 1) * chunks / nars + 1;
    for ids in batches(nars) {
        let head = "INSERT INTO nars (id, domain_id, nar_hash, nar_size, file_hash, file_size, \
            content_digest, chunk_count, segment_count, format, created, manifest, cut_id) ";
        let mut insert = QueryBuilder::<Sqlite>::new(head);
        insert.push_values(ids, |mut row, id| {
            let entry = |id| SegmentEntry { id, raw_len: 160_000, frame_len: 79_900, slots: 0 };
            let entries: Vec<SegmentEntry> = (first(id)..first(id + 1)).map(entry).collect();
            let (count, segment) =
                (signed(entries.len() as u64), Segment { entries, ..Segment::default() });
            row.push_bind(signed(id))
                .push_bind(1)
                .push_bind(random.bytes(32))
                .push_bind(signed(segment.end_raw()));
            row.push_bind(random.bytes(32))
                .push_bind(signed(segment.end_stored()))
                .push_bind(random.bytes(32));
            row.push_bind(count)
                .push_bind(1)
                .push_bind(1)
                .push_bind(CREATED)
                .push_bind(segment.encode())
                .push_bind(1);
        });
        insert.build().execute(&mut *db).await?;
    }
    Ok(())
}

/// Each path refers to up to three others. Gives their hash parts.
async fn add_paths(
    db: &mut SqliteConnection,
    random: &mut Random,
    cache: i64,
    paths: u64,
) -> Result<Vec<String>> {
    let mut hashes: Vec<String> = Vec::with_capacity(usize::try_from(paths)?);
    for ids in batches(paths) {
        let head = "INSERT INTO paths (id, cache_id, hash, name, nar_id, refs, deriver, \
            signatures, ca, pushed_by, created) ";
        let mut insert = QueryBuilder::<Sqlite>::new(head);
        insert.push_values(ids, |mut row, id| {
            let hash = random.hash_chars();
            let mut references: Vec<String> = [2, 3, 5]
                .into_iter()
                .filter_map(|part| {
                    Some((id / part, hashes.get(usize::try_from(id / part).ok()?.checked_sub(1)?)?))
                })
                .map(|(other, hash)| format!("{hash}-stored-{other}"))
                .collect();
            references.sort();
            references.dedup();
            row.push_bind(signed(id))
                .push_bind(cache)
                .push_bind(hash.clone())
                .push_bind(format!("stored-{id}"));
            row.push_bind(signed(id))
                .push_bind(references.join(" "))
                .push_bind(None::<String>)
                .push_bind("");
            row.push_bind(None::<String>).push_bind("bench").push_bind(CREATED);
            hashes.push(hash);
        });
        insert.build().execute(&mut *db).await?;
    }
    Ok(hashes)
}
