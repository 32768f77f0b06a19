//! Which rows a pack's own table gives.
//!
//! A table is believed when its hash holds. Its chunks have the ids under which manifests name
//! them, unless another row got that id since, which happens after a backup was restored.

use std::collections::{HashMap, HashSet};

use snowbank_core::chunk::ChunkName;
use snowbank_core::pack::PackIndex;

use super::plan::LostChunks;
use crate::db::caches::DomainId;
use crate::db::damage::retired_name;
use crate::db::packs::PackId;
use crate::db::repair::{ChunkRow, RowChange};
use crate::db::{self, DbError, Exec};

/// A chunk that is to have a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewRow {
    /// Its id, unless that is taken.
    pub(super) id: Option<u64>,
    pub(super) name: ChunkName,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// The rows that a table gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TableRows {
    pub(super) new: Vec<NewRow>,
    pub(super) changes: Vec<RowChange>,
}

impl TableRows {
    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.changes.is_empty()
    }
}

/// The rows that the database has for the chunks of a table.
#[derive(Debug, Default)]
pub(super) struct ExistingRows {
    by_name: HashMap<(DomainId, ChunkName), ChunkRow>,
    /// Retired rows, by the names that they had.
    retired: HashMap<(DomainId, ChunkName), ChunkRow>,
    taken: HashSet<u64>,
}

impl ExistingRows {
    /// Reads them. Rows of domains other than the pack's are of interest where chunks are lost.
    pub(super) async fn load(
        mut exec: Exec<'_>,
        index: &PackIndex,
        domains: &[DomainId],
        lost: &LostChunks,
    ) -> Result<Self, DbError> {
        let names: Vec<ChunkName> = index.entries.iter().map(|entry| entry.header.name).collect();
        let ids: Vec<u64> = index.entries.iter().map(|entry| entry.id).collect();
        let mut rows =
            Self { taken: db::repair::taken(exec.again(), &ids).await?, ..Self::default() };
        for &domain in
            domains.iter().filter(|domain| is_of(index, **domain) || !lost.bad.is_empty())
        {
            let found = db::repair::by_names(exec.again(), domain, &names).await?;
            rows.by_name.extend(found.into_iter().map(|row| ((domain, row.name), row)));
            let known = |name: &ChunkName| {
                lost.retired.get(&(domain, *name)).map(|id| (retired_name(*id), *name))
            };
            let retired: HashMap<ChunkName, ChunkName> = names.iter().filter_map(known).collect();
            let renamed: Vec<ChunkName> = retired.keys().copied().collect();
            for row in db::repair::by_names(exec.again(), domain, &renamed).await? {
                rows.retired.extend(retired.get(&row.name).map(|name| ((domain, *name), row)));
            }
        }
        Ok(rows)
    }
}

impl ExistingRows {
    /// A domain's row of that name, or else the retired one that had it.
    fn of(&self, domain: DomainId, name: ChunkName) -> Option<&ChunkRow> {
        self.by_name.get(&(domain, name)).or_else(|| self.retired.get(&(domain, name)))
    }
}

pub(super) fn is_of(index: &PackIndex, domain: DomainId) -> bool {
    index.domain == domain.0.unsigned_abs()
}

/// Which rows are asked of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableQuery<'p> {
    pub(super) lost: &'p LostChunks,
    /// Whether every chunk is to have a row.
    pub(super) all: bool,
}

/// The rows that the table of the pack `into` gives: rows for chunks that a manifest names and that
/// have none, another place for rows that lead to no bytes, and with `query.all` rows for every
/// chunk that its domain does not have.
///
/// A manifest knows how long each frame is, and a chunk that was sent twice may be two frames. So a
/// row is led to another record only when that has the row's id; one of another domain, when it lay
/// where such a row did.
pub(super) fn rows_from_table(
    index: &PackIndex,
    domains: &[DomainId],
    rows: &ExistingRows,
    query: TableQuery<'_>,
    into: PackId,
) -> TableRows {
    let mut given = TableRows::default();
    let mut done: HashSet<ChunkName> = HashSet::new();
    let mut used: HashSet<u64> = HashSet::new();
    let own = domains.iter().copied().find(|domain| is_of(index, *domain));
    for entry in &index.entries {
        let name = entry.header.name;
        let written_for = own.and_then(|own| rows.of(own, name)).filter(|row| row.id == entry.id);
        let lies_there = |row: &&ChunkRow| {
            written_for.is_some_and(|own| (own.pack, own.offset) == (row.pack, row.offset))
                && row.pack != into
        };
        let lost = domains
            .iter()
            .filter_map(|domain| rows.of(*domain, name))
            .filter(|row| query.lost.bad.contains(row.id));
        let change = |found: &ChunkRow| {
            let (offset, len) = (entry.span.offset, entry.span.len);
            RowChange { found: *found, name, pack: into, offset, len }
        };
        given.changes.extend(lost.filter(lies_there).map(change));

        let is_asked_for = query.all || query.lost.missing.contains(entry.id);
        let is_there =
            written_for.is_some() || own.is_none_or(|own| rows.by_name.contains_key(&(own, name)));
        if !is_asked_for || is_there || done.contains(&name) {
            continue;
        }
        let is_free = !rows.taken.contains(&entry.id) && used.insert(entry.id);
        if is_free || query.all {
            let id = is_free.then_some(entry.id);
            given.new.push(NewRow { id, name, offset: entry.span.offset, len: entry.span.len });
            done.insert(name);
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use snowbank_core::frame::ChunkHeader;
    use snowbank_core::pack::{PackEntry, PackKey, RecordSpan};

    const OWN: DomainId = DomainId(1);
    const OTHER: DomainId = DomainId(2);
    const INTO: PackId = PackId(9);

    fn name(number: u8) -> ChunkName {
        ChunkName::from_bytes([number; 32])
    }

    fn index(chunks: &[(u64, u8)]) -> PackIndex {
        let entry = |(id, number): &(u64, u8)| PackEntry {
            id: *id,
            span: RecordSpan { offset: u32::from(*number) * 100, len: 50 },
            header: ChunkHeader {
                name: name(*number),
                raw_len: 1,
                frame_len: 1,
                slots: Vec::new(),
            },
        };
        PackIndex {
            domain: 1,
            key: PackKey::from_bytes([1; 16]),
            entries: chunks.iter().map(entry).collect(),
        }
    }

    fn row(id: u64, domain: DomainId, number: u8) -> ChunkRow {
        ChunkRow { id, domain, name: name(number), pack: PackId(3), offset: 7, len: 50 }
    }

    fn rows(found: &[ChunkRow]) -> ExistingRows {
        let by_name = found.iter().map(|row| ((row.domain, row.name), *row)).collect();
        ExistingRows {
            by_name,
            taken: found.iter().map(|row| row.id).collect(),
            ..ExistingRows::default()
        }
    }

    fn bad(ids: &[u64]) -> LostChunks {
        LostChunks { bad: ids.iter().copied().collect(), ..LostChunks::default() }
    }

    fn new_ids(given: &TableRows) -> Vec<Option<u64>> {
        given.new.iter().map(|row| row.id).collect()
    }

    #[test]
    fn an_unnamed_pack_gives_rows_for_what_is_not_there_under_its_ids_if_they_are_free() {
        let (none, table) = (LostChunks::default(), index(&[(1, 1), (2, 2), (3, 3), (4, 3)]));
        let query = TableQuery { lost: &none, all: true };
        // The first is there; the second's id has been given to another chunk since; the last is
        // there twice.
        let found = rows(&[row(1, OWN, 1), row(2, OWN, 99)]);
        let given = rows_from_table(&table, &[OWN, OTHER], &found, query, INTO);
        assert_eq!(new_ids(&given), [None, Some(3)]);
        assert!(given.changes.is_empty());
        let every = rows_from_table(&table, &[OWN], &ExistingRows::default(), query, INTO);
        assert_eq!(new_ids(&every), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_pack_with_a_row_gives_only_what_manifests_name() {
        let lost = LostChunks { missing: [2].into_iter().collect(), ..LostChunks::default() };
        let table = index(&[(1, 1), (2, 2), (3, 3)]);
        let query = TableQuery { lost: &lost, all: false };
        assert_eq!(
            new_ids(&rows_from_table(&table, &[OWN], &ExistingRows::default(), query, INTO)),
            [Some(2)]
        );
        let taken = rows(&[row(2, OWN, 99)]);
        assert!(
            rows_from_table(&table, &[OWN], &taken, query, INTO).is_empty(),
            "a manifest's id means one chunk"
        );
    }

    #[test]
    fn rows_that_lead_to_nothing_are_led_here_in_every_domain() {
        let query = TableQuery { lost: &bad(&[1, 20]), all: false };
        let lost = [row(1, OWN, 1), row(20, OTHER, 1), row(3, OWN, 3)];
        let given =
            rows_from_table(&index(&[(1, 1), (3, 3)]), &[OWN, OTHER], &rows(&lost), query, INTO);
        assert!(given.new.is_empty());
        let changed: Vec<(u64, PackId, u32)> = given
            .changes
            .iter()
            .map(|change| (change.found.id, change.pack, change.offset))
            .collect();
        assert_eq!(changed, [(1, INTO, 100), (20, INTO, 100)]);

        // Another record of that name may be another frame.
        let twice =
            rows_from_table(&index(&[(7, 1), (3, 3)]), &[OWN, OTHER], &rows(&lost), query, INTO);
        assert!(twice.is_empty(), "{twice:?}");
        let elsewhere = [row(1, OWN, 1), ChunkRow { offset: 8, ..row(20, OTHER, 1) }];
        let given =
            rows_from_table(&index(&[(1, 1)]), &[OWN, OTHER], &rows(&elsewhere), query, INTO);
        assert_eq!(given.changes.iter().map(|change| change.found.id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_retired_chunk_gets_its_name_back() {
        let retired = ChunkRow { name: retired_name(5), ..row(5, OWN, 1) };
        let mut found = rows(&[retired]);
        found.retired.insert((OWN, name(1)), retired);
        let query = TableQuery { lost: &bad(&[5]), all: false };
        let given = rows_from_table(&index(&[(5, 1)]), &[OWN], &found, query, INTO);
        assert_eq!(given.changes.len(), 1);
        assert_eq!((given.changes[0].found, given.changes[0].name), (retired, name(1)));
        // Unless it was sent again meanwhile.
        found.by_name.insert((OWN, name(1)), row(8, OWN, 1));
        assert!(rows_from_table(&index(&[(5, 1)]), &[OWN], &found, query, INTO).is_empty());
    }
}
