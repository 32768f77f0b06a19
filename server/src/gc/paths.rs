//! Which paths stay, and how the others go.
//!
//! A path stays by itself while it is pinned, or until the time that it was pushed for, or while it
//! was pushed or read within the cache's retention; and with it all that it refers to. The others
//! go in small exclusive transactions, each path before all that it refers to, so that whatever is
//! visible has its closure at every moment. Each transaction looks again at what it removes (C1):
//! at paths that came since and refer to it, at its uses, at the pins, and at the cache's settings.
//! What turns out to be wanted stays, with all that it refers to, none of which has gone yet.

use std::collections::HashSet;

use snowbank_core::store_path::StorePathHash;
use snowbank_core::units::{Limit, Seconds};
use snowbank_core::wire::admin::collection::{GoingPath, GoingReason};

use super::GcError;
use super::ages::Ages;
use super::graph::{Fate, Graph, Node, used_at};
use super::mark::Marks;
use super::run::{Pace, Run};
use crate::db::caches::Cache;
use crate::db::collection::{self, PathUse};
use crate::db::paths::PathId;
use crate::db::{self, Exec};

/// Paths that a report lists.
const LISTED: usize = 10_000;
/// Rows read at a time.
const PAGE: u32 = 2_000;
/// Uses are written every few seconds, and those of a path that is used all the time every few
/// minutes; a path goes this much later than it could, so that none is missed.
const SLACK: u64 = 360;

/// What keeps a path by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keeping {
    now: i64,
    /// What was used after this stays; `None`: everything does.
    cutoff: Option<i64>,
}

impl Keeping {
    /// By a cache's settings. Nothing goes of a cache that was destroyed, as long as it can be
    /// restored.
    pub(super) fn of(cache: &Cache, default: Option<Seconds>, ages: &Ages) -> Self {
        let retention = match cache.retention {
            _ if cache.destroyed.is_some() => None,
            Limit::Default => default,
            Limit::None => None,
            Limit::Some(retention) => Some(retention),
        };
        let with_slack =
            |time: Seconds| Seconds::new(time.get().saturating_add(SLACK.min(time.get() / 8)));
        let now = if cache.destroyed.is_some() { i64::MIN } else { ages.now() };
        Self { now, cutoff: retention.map(|retention| ages.cutoff(with_slack(retention))) }
    }

    fn keeps(self, used: i64, expires: Option<i64>) -> bool {
        match expires {
            Some(expires) => self.now < expires,
            None => self.cutoff.is_none_or(|cutoff| used > cutoff),
        }
    }

    /// Whether a path stays by itself.
    pub(super) fn keeps_node(self, pinned: &HashSet<StorePathHash>, node: &Node) -> bool {
        pinned.contains(&node.hash) || self.keeps(node.used, node.expires)
    }
}

impl Run<'_> {
    /// Notes in the report which paths go.
    pub(super) async fn list_going(
        &mut self,
        graphs: &[Graph],
        marks: &Marks,
    ) -> Result<(), GcError> {
        for graph in graphs {
            let mut listed: Vec<(PathId, GoingReason, i64, u64)> = Vec::new();
            for node in &graph.nodes {
                let Fate::Goes(reason) = node.fate else { continue };
                let nar_bytes = marks.nar_size(node.nar);
                self.report.paths += 1;
                self.report.nar_bytes += nar_bytes;
                if self.report.going.len() + listed.len() < LISTED {
                    listed.push((node.id, reason, node.used, nar_bytes));
                }
            }
            let ids: Vec<PathId> = listed.iter().map(|(id, ..)| *id).collect();
            let names = collection::path_names(self.db.reader().await?.exec(), &ids).await?;
            let path = |(id, reason, used, nar_bytes)| {
                let store_path = names.get(&id)?.clone();
                Some(GoingPath {
                    cache: graph.cache.name.to_string(),
                    store_path,
                    reason,
                    used,
                    nar_bytes,
                })
            };
            self.report.going.extend(listed.into_iter().filter_map(path));
        }
        Ok(())
    }

    /// Removes the paths of a cache that go; what turns out to be wanted stays.
    pub(super) async fn remove_paths(
        &mut self,
        graph: &mut Graph,
        keeping: Keeping,
    ) -> Result<(), GcError> {
        let order = graph.going_in_order();
        let (mut next, mut pace) = (0, Pace::default());
        while next < order.len() {
            let end = (next + pace.rows()).min(order.len());
            let batch = &order[next..end];
            next = end;
            crate::fault::pause("gc-before-paths").await;
            let mut held = self.begin().await?;
            if !unchanged(held.tx.exec(), &graph.cache).await? {
                self.report.notes.push(format!(
                    "the cache `{}` was reconfigured; the next collection goes on",
                    graph.cache.name
                ));
                break;
            }
            rescue(held.tx.exec(), graph, batch, keeping, self.ages.since(), self.ages.now())
                .await?;
            let going: Vec<u32> = batch
                .iter()
                .copied()
                .filter(|&index| matches!(graph.node(index).fate, Fate::Goes(_)))
                .collect();
            let ids: Vec<PathId> = going.iter().map(|&index| graph.node(index).id).collect();
            collection::remove_paths(held.tx.exec(), &ids).await?;
            let time = self.end(held).await?;
            for index in going {
                graph.set_fate(index, Fate::Gone);
            }
            pace.rest(time).await;
        }
        Ok(())
    }
}

/// Whether a cache is kept as it was when the plan was made.
async fn unchanged(exec: Exec<'_>, planned: &Cache) -> Result<bool, GcError> {
    let found = db::caches::lookup_any(exec, &planned.name).await?;
    Ok(found.is_some_and(|found| {
        (found.id, found.retention, found.max_size, found.destroyed)
            == (planned.id, planned.retention, planned.max_size, planned.destroyed)
    }))
}

/// Keeps what of `batch` is wanted after all, and what paths refer to that came since the plan was
/// made.
async fn rescue(
    mut exec: Exec<'_>,
    graph: &mut Graph,
    batch: &[u32],
    keeping: Keeping,
    since: i64,
    now: i64,
) -> Result<(), GcError> {
    loop {
        let page = db::edges::since(exec.again(), graph.seen, PAGE).await?;
        let Some(last) = page.last() else { break };
        graph.seen = last.id;
        let cache = graph.cache.id;
        let of_this = page.iter().filter(|path| path.cache == cache);
        for hash in of_this.flat_map(|path| &path.references) {
            if let Some(index) = graph.find(hash) {
                graph.keep(index);
            }
        }
    }
    for (hash, _) in db::pins::kept(exec.again(), graph.cache.id, now).await? {
        if let Some(index) = graph.find(&hash) {
            graph.keep(index);
        }
    }
    let ids: Vec<PathId> = batch.iter().map(|&index| graph.node(index).id).collect();
    for path in collection::path_uses_of(exec, &ids).await? {
        let Some(index) = graph.find(&path.hash) else { continue };
        if is_wanted(graph.node(index), &path, keeping, since) {
            graph.keep(index);
        }
    }
    Ok(())
}

/// Whether a path has been used, or is kept for longer, than the plan knew.
fn is_wanted(node: &Node, path: &PathUse, keeping: Keeping, since: i64) -> bool {
    let used = used_at(path, since);
    match node.fate {
        Fate::Goes(GoingReason::CacheSize | GoingReason::ServerSize) => {
            used > node.used || path.expires != node.expires
        }
        _ => keeping.keeps(used, path.expires),
    }
}
