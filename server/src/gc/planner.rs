//! Planning: reads everything, and changes nothing.
//!
//! Which paths stay is decided first: by what keeps them (pins, expiry, retention), then by size
//! limits. From that follows which NARs go, from the manifests of the others which chunks go, and
//! from the chunks which packs are empty or worth rewriting. The ids of the last NAR and the last
//! path are read under the exclusive lock, everything else without one: an execution finds out by
//! itself what came since.

mod census;
mod compaction;
mod limits;
mod marking;

use snowbank_core::pack::PackKey;
use snowbank_core::units::Size;
use snowbank_core::wire::admin::collection::GoingPath;

use super::cutoffs::Cutoffs;
use super::plan::graph::{Graph, PathState};
use super::plan::packs::PackUses;
use super::plan::{ListedPath, NarSizes, Plan, Rewrites, count_paths};
use super::transactions::Transactions;
use super::{GcError, Progress};
use crate::config::GcConfig;
use crate::db::collection::last_nar;
use crate::db::paths::PathId;
use crate::db::{self, collection, unnamed};
use crate::pack::pack_of_object;
use crate::storage::Storage;
use census::Census;
use compaction::Budget;
use limits::Bounds;
use marking::Marking;

/// Paths that a report lists.
const MAX_LISTED: usize = 10_000;
/// Keys that are read at a time.
const KEYS: usize = 1_000;

/// Makes the plan of one collection.
pub(super) struct Planner<'a> {
    pub(super) transactions: &'a Transactions<'a>,
    pub(super) storage: &'a Storage,
    pub(super) settings: &'a GcConfig,
    pub(super) cutoffs: &'a Cutoffs,
    /// Whether packs are rewritten.
    pub(super) compacts: bool,
}

impl Planner<'_> {
    /// Reads everything, and decides what goes.
    ///
    /// # Errors
    /// When database or storage cannot be read.
    pub(super) async fn plan(&self, progress: Progress<'_>) -> Result<Plan, GcError> {
        let (db, cutoffs) = (self.transactions.db(), self.cutoffs);
        progress("reading paths".to_owned());
        let mut exclusive = self.transactions.begin().await?;
        let last = last_nar(exclusive.exec()).await?;
        let last_path = db::edges::last_id(exclusive.exec()).await?;
        drop(exclusive);
        let mut graphs = self.graphs(last_path).await?;
        progress("reading manifests".to_owned());
        let mut marking = Marking::read(db, last, &graphs, cutoffs).await?;
        let mut packs = PackUses::load(db, cutoffs.unneeded_before()).await?;
        let mut notes = Vec::new();
        let bounds = Bounds {
            max_bytes: self.settings.max_size.map(Size::bytes),
            stored_bytes: packs.stored_bytes(),
            used_before: cutoffs.ages().cutoff(self.settings.min_age),
        };
        if limits::is_any(&graphs, bounds) {
            progress("looking at size limits".to_owned());
            let (of_limits, changed) = limits::enforce(db, &mut graphs, &marking, bounds).await?;
            notes.extend(of_limits);
            if changed {
                // Its bitmaps are large: not two of each at once.
                drop(marking);
                marking = Marking::read(db, last, &graphs, cutoffs).await?;
            }
        }
        if marking.damaged > 0 {
            let damaged = marking.damaged;
            notes.push(format!("{damaged} manifests do not parse; run `snowbankd repair`"));
        }
        let (paths, nar_bytes) = count_paths(&graphs, &marking.sizes, Graph::is_going);
        let listed = self.list_paths(&graphs, &marking.sizes).await?;
        progress("reading chunks".to_owned());
        let Census { chunks, caches, waiting_bytes } =
            Census::take(db, &marking, &mut packs).await?;
        let rewrites = self.rewrites(&packs, bounds);
        progress("listing the storage".to_owned());
        let unnamed = self.list_unnamed().await?;
        let Marking { marks, nars, sizes, .. } = marking;
        Ok(Plan {
            graphs,
            paths,
            nar_bytes,
            listed,
            nars,
            nar_sizes: sizes,
            marks,
            chunks,
            cache_bytes: caches,
            empty_packs: packs.claimable(),
            packs,
            rewrites,
            unnamed,
            waiting_bytes,
            notes,
        })
    }

    /// The paths of all caches up to `last`, and which of them go for want of use.
    async fn graphs(&self, last: PathId) -> Result<Vec<Graph>, GcError> {
        let db = self.transactions.db();
        let caches = db::caches::list(db.reader().await?.exec()).await?;
        let (retention, ages) = (self.settings.retention, self.cutoffs.ages());
        let mut graphs = Graph::load(db, caches, last, retention, ages).await?;
        graphs.iter_mut().for_each(Graph::apply_retention);
        Ok(graphs)
    }

    /// The first of the paths that go.
    async fn list_paths(
        &self,
        graphs: &[Graph],
        sizes: &NarSizes,
    ) -> Result<Vec<ListedPath>, GcError> {
        let db = self.transactions.db();
        let mut listed = Vec::new();
        for (number, graph) in graphs.iter().enumerate() {
            let going: Vec<u32> = graph
                .indexes()
                .filter(|index| graph.is_going(*index))
                .take(MAX_LISTED - listed.len())
                .collect();
            let ids: Vec<PathId> = going.iter().map(|index| graph.node(*index).id).collect();
            let names = collection::path_names(db.reader().await?.exec(), &ids).await?;
            listed.extend(going.into_iter().filter_map(|index| {
                let node = graph.node(index);
                let PathState::Going(reason) = node.state else { return None };
                let path = GoingPath {
                    cache: graph.cache.name.to_string(),
                    store_path: names.get(&node.id)?.clone(),
                    reason,
                    used: node.used_at,
                    nar_bytes: sizes.of(node.nar),
                };
                Some(ListedPath { place: (number, index), path })
            }));
        }
        Ok(listed)
    }

    fn rewrites(&self, packs: &PackUses, bounds: Bounds) -> Rewrites {
        if !self.compacts {
            return Rewrites::new();
        }
        let budget = Budget::new(self.settings.compact_budget.bytes(), bounds.is_pressed());
        compaction::choose(packs, budget)
    }

    /// The objects that no row names. Keys that are not a pack's are not ours to judge.
    async fn list_unnamed(&self) -> Result<Vec<PackKey>, GcError> {
        let db = self.transactions.db();
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.storage.list("packs/", after.as_deref(), KEYS).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.clone());
            let keys: Vec<PackKey> = page.iter().filter_map(|key| pack_of_object(key)).collect();
            let named = unnamed::named(db.reader().await?.exec(), &keys).await?;
            found.extend(keys.into_iter().filter(|key| !named.contains(key)));
        }
    }
}
