//! Rows of chunks from the packs' own tables: what is read of them, and what they give.
//!
//! A table is believed when its hash holds. Its chunks have the ids under which manifests name
//! them, unless another row got that id since, which happens after a backup was restored.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt as _};
use roaring::RoaringTreemap;
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::FrameVerifier;
use snowbank_core::pack::{
    FOOTER_LEN, Footer, HEAD_LEN, MAX_PACK_BYTES, PackEntry, PackIndex, PackKey,
};

use super::plan::{RepairPlan, Source};
use super::{RepairError, Repairer, Tell};
use crate::damage::{read_pack, record_at};
use crate::db::caches::DomainId;
use crate::db::damage::retired_name;
use crate::db::packs::PackId;
use crate::db::repair::{ChunkRow, RowChange};
use crate::db::{self, DbError, Exec};
use crate::integrity::listing::Objects;
use crate::pack::pack_object_key;
use crate::serving::ServeError;
use crate::storage::{Storage, StorageError};

/// Rows read at a time.
const PAGE: u32 = 512;
/// The end of a pack that is read at once: the tables of nearly all packs fit.
const TAIL: u64 = 128 * 1024;
/// Tables that are read at the same time.
const AT_ONCE: usize = 8;

/// A chunk that is to have a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewRow {
    /// Its id, unless that is taken.
    pub(super) id: Option<u64>,
    pub(super) name: ChunkName,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// What a table gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) new: Vec<NewRow>,
    pub(super) changes: Vec<RowChange>,
}

impl Given {
    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.changes.is_empty()
    }
}

/// The rows that there are for the chunks of a table.
#[derive(Debug, Default)]
pub(super) struct Rows {
    by_name: HashMap<(DomainId, ChunkName), ChunkRow>,
    /// Retired rows, by the names that they had.
    retired: HashMap<(DomainId, ChunkName), ChunkRow>,
    taken: HashSet<u64>,
}

impl Rows {
    /// Reads them. Rows of domains other than the pack's are of interest where chunks are lost.
    pub(super) async fn load(
        mut exec: Exec<'_>,
        index: &PackIndex,
        domains: &[DomainId],
        plan: &RepairPlan,
    ) -> Result<Self, DbError> {
        let names: Vec<ChunkName> = index.entries.iter().map(|entry| entry.header.name).collect();
        let ids: Vec<u64> = index.entries.iter().map(|entry| entry.id).collect();
        let mut rows =
            Self { taken: db::repair::taken(exec.again(), &ids).await?, ..Self::default() };
        for &domain in
            domains.iter().filter(|domain| is_of(index, **domain) || !plan.bad.is_empty())
        {
            let found = db::repair::by_names(exec.again(), domain, &names).await?;
            rows.by_name.extend(found.into_iter().map(|row| ((domain, row.name), row)));
            let known = |name: &ChunkName| {
                plan.retired.get(&(domain, *name)).map(|id| (retired_name(*id), *name))
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

impl Rows {
    /// A domain's row of that name, or else the retired one that had it.
    fn of(&self, domain: DomainId, name: ChunkName) -> Option<&ChunkRow> {
        self.by_name.get(&(domain, name)).or_else(|| self.retired.get(&(domain, name)))
    }
}

fn is_of(index: &PackIndex, domain: DomainId) -> bool {
    index.domain == domain.0.unsigned_abs()
}

/// What is sought in tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sought<'p> {
    pub(super) missing: &'p RoaringTreemap,
    pub(super) bad: &'p RoaringTreemap,
    /// Whether every chunk is to have a row.
    pub(super) all: bool,
}

/// What the table of the pack `into` gives: rows for chunks that a manifest names and that have
/// none, another place for rows that lead to no bytes, and with `sought.all` rows for every chunk
/// that its domain does not have.
///
/// A manifest knows how long each frame is, and a chunk that was sent twice may be two frames. So a
/// row is led to another record only when that has the row's id; one of another domain, when it lay
/// where such a row did.
pub(super) fn give(
    index: &PackIndex,
    domains: &[DomainId],
    rows: &Rows,
    sought: Sought<'_>,
    into: PackId,
) -> Given {
    let mut given = Given::default();
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
            .filter(|row| sought.bad.contains(row.id));
        let change = |found: &ChunkRow| {
            let (offset, len) = (entry.span.offset, entry.span.len);
            RowChange { found: *found, name, pack: into, offset, len }
        };
        given.changes.extend(lost.filter(lies_there).map(change));

        let is_sought = sought.all || sought.missing.contains(entry.id);
        let is_there =
            written_for.is_some() || own.is_none_or(|own| rows.by_name.contains_key(&(own, name)));
        if !is_sought || is_there || done.contains(&name) {
            continue;
        }
        let is_free = !rows.taken.contains(&entry.id) && used.insert(entry.id);
        if is_free || sought.all {
            let id = is_free.then_some(entry.id);
            given.new.push(NewRow { id, name, offset: entry.span.offset, len: entry.span.len });
            done.insert(name);
        }
    }
    given
}

/// A pack's table, by ranged reads; the error says what is wrong with the object.
pub(super) async fn read_table(
    storage: &Storage,
    key: &PackKey,
    len: u64,
) -> Result<Result<PackIndex, String>, StorageError> {
    let object = pack_object_key(key);
    if len > MAX_PACK_BYTES as u64 || len < (HEAD_LEN + FOOTER_LEN) as u64 {
        return Ok(Err(format!("no pack has {len} bytes")));
    }
    let tail_start = len - len.min(TAIL);
    let tail = match storage.get_up_to(&object, tail_start, len - tail_start).await {
        Err(StorageError::NotFound { .. }) => return Ok(Err("it is gone".to_owned())),
        tail => tail?,
    };
    let Some((before, footer)) =
        tail.split_last_chunk().filter(|_| tail.len() as u64 == len - tail_start)
    else {
        return Ok(Err("it is shorter than the listing says".to_owned()));
    };
    let footer = match Footer::parse(footer) {
        Ok(footer) if footer.pack_len() == len => footer,
        Ok(_) => return Ok(Err("its length is not what its footer says".to_owned())),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let (table_start, table_len) = (u64::from(footer.table_offset), u64::from(footer.table_len));
    let table =
        match table_start.checked_sub(tail_start).and_then(|start| usize::try_from(start).ok()) {
            Some(start) => before.get(start..).unwrap_or_default().to_vec(),
            None => storage.get_up_to(&object, table_start, table_len).await?,
        };
    let head = if tail_start == 0 {
        tail.clone()
    } else {
        storage.get_up_to(&object, 0, HEAD_LEN as u64).await?
    };
    let Some(head) = head.first_chunk() else { return Ok(Err("it has no head".to_owned())) };
    Ok(match PackIndex::parse_parts(head, &table, &footer) {
        Ok(index) if index.key == *key => Ok(index),
        Ok(index) => Err(format!("it says that it is the pack {}", index.key)),
        Err(error) => Err(error.to_string()),
    })
}

/// A pack's table, with those of its entries alone whose records are sound.
pub(super) async fn read_sound(
    storage: &Storage,
    key: &PackKey,
) -> Result<Result<PackIndex, String>, RepairError> {
    let Some(object) = read_pack(storage, key).await? else {
        return Ok(Err("it is gone".to_owned()));
    };
    let key = *key;
    let read = tokio::task::spawn_blocking(move || {
        let mut index = PackIndex::parse(&object).map_err(|error| error.to_string())?;
        if index.key != key {
            return Err(format!("it says that it is the pack {}", index.key));
        }
        let mut verifier = FrameVerifier::new();
        index.entries.retain(|PackEntry { span, header, .. }| {
            record_at(&mut verifier, &object, span.offset, span.len, &header.name).is_ok()
        });
        Ok(index)
    });
    Ok(read.await.map_err(|_| ServeError::Stopped)?)
}

impl Repairer<'_> {
    /// Reads the tables of objects that no row names and, where chunks are lost, of packs that have
    /// more than rows name.
    pub(super) async fn survey_tables(
        &self,
        listed: &Objects,
        plan: &mut RepairPlan,
        tell: Tell<'_>,
    ) -> Result<(), RepairError> {
        let source = |(key, bytes): &(PackKey, u64)| (*key, *bytes, None);
        let mut sources: Vec<(PackKey, u64, Option<PackId>)> =
            listed.unnamed.iter().map(source).collect();
        if !plan.missing.is_empty() || !plan.bad.is_empty() {
            let mut after = PackId(0);
            loop {
                let ids = db::repair::incomplete_packs(self.db.reader().await?.exec(), after, PAGE)
                    .await?;
                let Some(last) = ids.last() else { break };
                after = *last;
                let packs = db::packs::lookup_many(self.db.reader().await?.exec(), &ids).await?;
                sources.extend(packs.into_iter().map(|pack| (pack.key, pack.bytes, Some(pack.id))));
            }
        }
        let domains = self.domains().await?;
        let tables = sources.into_iter().map(|(key, bytes, pack)| async move {
            ((key, bytes, pack), read_table(self.storage, &key, bytes).await)
        });
        let mut tables = std::pin::pin!(stream::iter(tables).buffered(AT_ONCE));
        let mut read = 0_u64;
        while let Some(((key, bytes, pack), table)) = tables.next().await {
            read += 1;
            if read.is_multiple_of(1_000) {
                tell(format!("read the tables of {read} packs"));
            }
            let index = match table? {
                Ok(index) => index,
                Err(reason) => {
                    // What a row names is looked at by its own.
                    if pack.is_none() {
                        plan.skipped.push(format!("{}: {reason}", pack_object_key(&key)));
                    }
                    continue;
                }
            };
            if !domains.iter().any(|domain| is_of(&index, *domain)) {
                let reason = format!("its domain {} has no row", index.domain);
                plan.skipped.push(format!("{}: {reason}", pack_object_key(&key)));
                continue;
            }
            let highest = index.entries.iter().map(|entry| entry.id).max().unwrap_or(0);
            plan.highest_chunk =
                plan.highest_chunk.max(i64::try_from(highest).unwrap_or(i64::MAX - 1));
            self.note_source(&index, (key, bytes, pack), &domains, plan).await?;
        }
        Ok(())
    }

    async fn note_source(
        &self,
        index: &PackIndex,
        (key, bytes, pack): (PackKey, u64, Option<PackId>),
        domains: &[DomainId],
        plan: &mut RepairPlan,
    ) -> Result<(), RepairError> {
        let rows = Rows::load(self.db.reader().await?.exec(), index, domains, plan).await?;
        let takes_all = pack.is_none();
        // No pack has that id.
        let into = pack.unwrap_or(PackId(0));
        let sought = |all| Sought { missing: &plan.missing, bad: &plan.bad, all };
        let needed = give(index, domains, &rows, sought(false), into);
        let given = give(index, domains, &rows, sought(takes_all), into);
        if given.is_empty() {
            return Ok(());
        }
        let restored: Vec<u64> = needed.new.iter().filter_map(|row| row.id).collect();
        plan.restored.extend(restored);
        plan.restored.extend(needed.changes.iter().map(|change| change.found.id));
        let rows = (given.new.len() + given.changes.len()) as u64;
        plan.sources.push(Source {
            key,
            bytes,
            pack,
            takes_all,
            is_needed: !needed.is_empty(),
            rows,
        });
        Ok(())
    }

    pub(super) async fn domains(&self) -> Result<Vec<DomainId>, RepairError> {
        let domains = db::repair::domains(self.db.reader().await?.exec()).await?;
        Ok(domains.into_iter().map(|(domain, _)| domain).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snowbank_core::frame::ChunkHeader;
    use snowbank_core::pack::RecordSpan;

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

    fn rows(found: &[ChunkRow]) -> Rows {
        let by_name = found.iter().map(|row| ((row.domain, row.name), *row)).collect();
        Rows { by_name, taken: found.iter().map(|row| row.id).collect(), ..Rows::default() }
    }

    fn new_ids(given: &Given) -> Vec<Option<u64>> {
        given.new.iter().map(|row| row.id).collect()
    }

    #[test]
    fn an_unnamed_pack_gives_rows_for_what_is_not_there_under_its_ids_if_they_are_free() {
        let (none, table) = (RoaringTreemap::new(), index(&[(1, 1), (2, 2), (3, 3), (4, 3)]));
        let sought = Sought { missing: &none, bad: &none, all: true };
        // The first is there; the second's id has been given to another chunk since; the last is
        // there twice.
        let found = rows(&[row(1, OWN, 1), row(2, OWN, 99)]);
        let given = give(&table, &[OWN, OTHER], &found, sought, INTO);
        assert_eq!(new_ids(&given), [None, Some(3)]);
        assert!(given.changes.is_empty());
        let every = give(&table, &[OWN], &Rows::default(), sought, INTO);
        assert_eq!(new_ids(&every), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_pack_with_a_row_gives_only_what_manifests_name() {
        let (none, missing) = (RoaringTreemap::new(), RoaringTreemap::from_iter([2]));
        let table = index(&[(1, 1), (2, 2), (3, 3)]);
        let sought = Sought { missing: &missing, bad: &none, all: false };
        assert_eq!(new_ids(&give(&table, &[OWN], &Rows::default(), sought, INTO)), [Some(2)]);
        let taken = rows(&[row(2, OWN, 99)]);
        assert!(
            give(&table, &[OWN], &taken, sought, INTO).is_empty(),
            "a manifest's id means one chunk"
        );
    }

    #[test]
    fn rows_that_lead_to_nothing_are_led_here_in_every_domain() {
        let (none, bad) = (RoaringTreemap::new(), RoaringTreemap::from_iter([1, 20]));
        let sought = Sought { missing: &none, bad: &bad, all: false };
        let lost = [row(1, OWN, 1), row(20, OTHER, 1), row(3, OWN, 3)];
        let given = give(&index(&[(1, 1), (3, 3)]), &[OWN, OTHER], &rows(&lost), sought, INTO);
        assert!(given.new.is_empty());
        let changed: Vec<(u64, PackId, u32)> = given
            .changes
            .iter()
            .map(|change| (change.found.id, change.pack, change.offset))
            .collect();
        assert_eq!(changed, [(1, INTO, 100), (20, INTO, 100)]);

        // Another record of that name may be another frame.
        let twice = give(&index(&[(7, 1), (3, 3)]), &[OWN, OTHER], &rows(&lost), sought, INTO);
        assert!(twice.is_empty(), "{twice:?}");
        let elsewhere = [row(1, OWN, 1), ChunkRow { offset: 8, ..row(20, OTHER, 1) }];
        let given = give(&index(&[(1, 1)]), &[OWN, OTHER], &rows(&elsewhere), sought, INTO);
        assert_eq!(given.changes.iter().map(|change| change.found.id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_retired_chunk_gets_its_name_back() {
        let (none, bad) = (RoaringTreemap::new(), RoaringTreemap::from_iter([5]));
        let retired = ChunkRow { name: retired_name(5), ..row(5, OWN, 1) };
        let mut found = rows(&[retired]);
        found.retired.insert((OWN, name(1)), retired);
        let sought = Sought { missing: &none, bad: &bad, all: false };
        let given = give(&index(&[(5, 1)]), &[OWN], &found, sought, INTO);
        assert_eq!(given.changes.len(), 1);
        assert_eq!((given.changes[0].found, given.changes[0].name), (retired, name(1)));
        // Unless it was sent again meanwhile.
        found.by_name.insert((OWN, name(1)), row(8, OWN, 1));
        assert!(give(&index(&[(5, 1)]), &[OWN], &found, sought, INTO).is_empty());
    }
}
