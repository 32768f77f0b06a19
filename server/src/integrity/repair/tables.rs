//! Planning, third part: which packs have tables that give rows which the database lacks.

use futures_util::stream::{self, StreamExt as _};
use roaring::RoaringTreemap;
use snowbank_core::pack::{PackIndex, PackKey};

use super::plan::{LostChunks, Source};
use super::read_table::read_table;
use super::table_rows::{ExistingRows, TableQuery, is_of, rows_from_table};
use super::{Progress, RepairError, Repairer};
use crate::db;
use crate::db::caches::DomainId;
use crate::db::packs::PackId;
use crate::integrity::listing::Objects;
use crate::pack::pack_object_key;

/// Rows read at a time.
const PAGE: u32 = 512;
/// Tables that are read at the same time.
const READ_AT_ONCE: usize = 8;

/// A pack whose table may give rows: its key, its length, and its row if it has one.
type Candidate = (PackKey, u64, Option<PackId>);

/// Reads tables, and notes those that give rows.
pub(super) struct TableSurvey<'a> {
    repairer: &'a Repairer<'a>,
    lost: &'a LostChunks,
    domains: Vec<DomainId>,
    found: TableFindings,
}

/// What the tables say.
#[derive(Debug, Default)]
pub(super) struct TableFindings {
    pub(super) sources: Vec<Source>,
    /// Of the lost chunks, those that the sources give.
    pub(super) restored: RoaringTreemap,
    /// The highest chunk id in any of the tables.
    pub(super) highest_chunk: i64,
    /// Objects that are not touched, and why.
    pub(super) skipped: Vec<String>,
}

impl<'a> TableSurvey<'a> {
    /// Has read nothing yet.
    pub(super) async fn new(
        repairer: &'a Repairer<'a>,
        lost: &'a LostChunks,
    ) -> Result<Self, RepairError> {
        let domains = db::repair::domains(repairer.db.reader().await?.exec()).await?;
        let domains = domains.into_iter().map(|(domain, _)| domain).collect();
        Ok(Self { repairer, lost, domains, found: TableFindings::default() })
    }

    /// Reads the tables of objects that no row names and, where chunks are lost, of packs that have
    /// more than rows name.
    pub(super) async fn read(
        mut self,
        listed: &Objects,
        progress: Progress<'_>,
    ) -> Result<TableFindings, RepairError> {
        let storage = self.repairer.storage;
        let candidates = self.candidates(listed).await?;
        let tables = candidates.into_iter().map(|(key, bytes, pack)| async move {
            ((key, bytes, pack), read_table(storage, &key, bytes).await)
        });
        let mut tables = std::pin::pin!(stream::iter(tables).buffered(READ_AT_ONCE));
        let mut read = 0_u64;
        while let Some((candidate, table)) = tables.next().await {
            read += 1;
            if read.is_multiple_of(1_000) {
                progress(format!("read the tables of {read} packs"));
            }
            let (key, _, pack) = candidate;
            match table? {
                Ok(index) => self.note(&index, candidate).await?,
                // A pack with a row is judged by its rows.
                Err(_) if pack.is_some() => {}
                Err(reason) => {
                    self.found.skipped.push(format!("{}: {reason}", pack_object_key(&key)));
                }
            }
        }
        Ok(self.found)
    }

    async fn candidates(&self, listed: &Objects) -> Result<Vec<Candidate>, RepairError> {
        let db = self.repairer.db;
        let unnamed = listed.unnamed.iter().map(|(key, bytes)| (*key, *bytes, None));
        let mut candidates: Vec<Candidate> = unnamed.collect();
        if self.lost.missing.is_empty() && self.lost.bad.is_empty() {
            return Ok(candidates);
        }
        let mut after = PackId(0);
        loop {
            let ids = db::repair::incomplete_packs(db.reader().await?.exec(), after, PAGE).await?;
            let Some(last) = ids.last() else { return Ok(candidates) };
            after = *last;
            let packs = db::packs::lookup_many(db.reader().await?.exec(), &ids).await?;
            candidates.extend(packs.into_iter().map(|pack| (pack.key, pack.bytes, Some(pack.id))));
        }
    }

    /// Notes a pack as a source, if its table gives rows.
    async fn note(
        &mut self,
        index: &PackIndex,
        (key, bytes, pack): Candidate,
    ) -> Result<(), RepairError> {
        if !self.domains.iter().any(|domain| is_of(index, *domain)) {
            let reason = format!("its domain {} has no row", index.domain);
            self.found.skipped.push(format!("{}: {reason}", pack_object_key(&key)));
            return Ok(());
        }
        let highest = index.entries.iter().map(|entry| entry.id).max().unwrap_or(0);
        let highest = i64::try_from(highest).unwrap_or(i64::MAX - 1);
        self.found.highest_chunk = self.found.highest_chunk.max(highest);
        let (domains, lost) = (&self.domains, self.lost);
        let mut conn = self.repairer.db.reader().await?;
        let rows = ExistingRows::load(conn.exec(), index, domains, lost).await?;
        let takes_all = pack.is_none();
        // No pack has the id 0.
        let into = pack.unwrap_or(PackId(0));
        let given = |all| rows_from_table(index, domains, &rows, TableQuery { lost, all }, into);
        let (needed, given) = (given(false), given(takes_all));
        if given.is_empty() {
            return Ok(());
        }
        self.found.restored.extend(needed.new.iter().filter_map(|row| row.id));
        self.found.restored.extend(needed.changes.iter().map(|change| change.found.id));
        let rows = (given.new.len() + given.changes.len()) as u64;
        let is_needed = !needed.is_empty();
        self.found.sources.push(Source { key, bytes, pack, takes_all, is_needed, rows });
        Ok(())
    }
}
