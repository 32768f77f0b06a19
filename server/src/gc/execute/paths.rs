//! Removes path rows.
//!
//! The paths that go are removed in small exclusive transactions, each path before its references,
//! so that every visible path has its closure at every moment. Each transaction looks again at its
//! paths (C1): at paths that came since and refer to them, at their uses, at the pins, and at the
//! cache's settings. A path that is wanted after all stays with its closure, of which nothing has
//! been removed yet.

use snowbank_core::wire::admin::collection::GoingReason;

use super::super::GcError;
use super::super::cutoffs::Cutoffs;
use super::super::plan::graph::{Graph, PathState, used_at};
use super::super::transactions::{Pace, Transactions};
use crate::db::caches::Cache;
use crate::db::collection::{self, PathUse};
use crate::db::edges::PathEdges;
use crate::db::paths::PathId;
use crate::db::{self, Exec};

/// Rows read at a time.
const PAGE: u32 = 2_000;

/// Removes the paths of a cache that go. Gives a note where it stops before the last of them.
pub(super) async fn remove(
    transactions: &Transactions<'_>,
    cutoffs: &Cutoffs,
    graph: &mut Graph,
) -> Result<Option<String>, GcError> {
    let order = graph.going_in_order();
    if !order.is_empty() {
        approach(transactions, graph).await?;
    }
    let (mut rest, mut pace) = (&order[..], Pace::default());
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(pace.rows().min(rest.len()));
        rest = later;
        crate::fault::pause("gc-before-paths").await;
        let mut exclusive = transactions.begin().await?;
        if !is_unchanged(exclusive.exec(), &graph.cache).await? {
            let name = &graph.cache.name;
            return Ok(Some(format!(
                "the cache `{name}` was reconfigured; the next collection goes on"
            )));
        }
        keep_wanted(exclusive.exec(), graph, batch, cutoffs).await?;
        let going: Vec<u32> =
            batch.iter().copied().filter(|&index| graph.is_going(index)).collect();
        let ids: Vec<PathId> = going.iter().map(|&index| graph.node(index).id).collect();
        collection::remove_paths(exclusive.exec(), &ids).await?;
        let time = transactions.commit(exclusive).await?;
        for index in going {
            graph.set_state(index, PathState::Removed);
        }
        pace.rest(time).await;
    }
    Ok(None)
}

/// Keeps the paths to which paths refer that came since the plan was made. Only the last id is read
/// under the lock, which leaves little for the transactions that remove paths.
async fn approach(transactions: &Transactions<'_>, graph: &mut Graph) -> Result<(), GcError> {
    let mut exclusive = transactions.begin().await?;
    let last = db::edges::last_id(exclusive.exec()).await?;
    drop(exclusive);
    while graph.last_read < last {
        let mut conn = transactions.db().reader().await?;
        let mut page = db::edges::since(conn.exec(), graph.last_read, PAGE).await?;
        // A path above it may come later than one with a higher id.
        page.retain(|path| path.id <= last);
        graph.last_read = page.last().map_or(last, |path| path.id);
        keep_references(graph, &page);
    }
    Ok(())
}

/// Keeps the paths of the graph to which these refer.
fn keep_references(graph: &mut Graph, paths: &[PathEdges]) {
    let cache = graph.cache.id;
    let of_this = paths.iter().filter(|path| path.cache == cache);
    for hash in of_this.flat_map(|path| &path.references) {
        if let Some(index) = graph.find(hash) {
            graph.keep(index);
        }
    }
}

/// Whether a cache has the settings by which the plan was made.
async fn is_unchanged(exec: Exec<'_>, planned: &Cache) -> Result<bool, GcError> {
    let found = db::caches::lookup_any(exec, &planned.name).await?;
    Ok(found.is_some_and(|found| {
        (found.id, found.retention, found.max_size, found.destroyed)
            == (planned.id, planned.retention, planned.max_size, planned.destroyed)
    }))
}

/// Keeps the paths to which paths refer that came since the plan was made, those that are pinned
/// now, and those of `batch` that were used, or kept for longer, since.
async fn keep_wanted(
    mut exec: Exec<'_>,
    graph: &mut Graph,
    batch: &[u32],
    cutoffs: &Cutoffs,
) -> Result<(), GcError> {
    loop {
        let page = db::edges::since(exec.again(), graph.last_read, PAGE).await?;
        let Some(last) = page.last() else { break };
        graph.last_read = last.id;
        keep_references(graph, &page);
    }
    for (hash, _) in db::pins::kept(exec.again(), graph.cache.id, cutoffs.now()).await? {
        if let Some(index) = graph.find(&hash) {
            graph.keep(index);
        }
    }
    let ids: Vec<PathId> = batch.iter().map(|&index| graph.node(index).id).collect();
    for path in collection::path_uses_of(exec, &ids).await? {
        let Some(index) = graph.find(&path.hash) else { continue };
        if is_wanted(graph, index, &path, cutoffs.ages().since()) {
            graph.keep(index);
        }
    }
    Ok(())
}

/// Whether a path was used, or is kept for longer, since the plan was made.
fn is_wanted(graph: &Graph, index: u32, path: &PathUse, noted_since: i64) -> bool {
    let (node, used_at) = (graph.node(index), used_at(path, noted_since));
    match node.state {
        PathState::Going(GoingReason::CacheSize | GoingReason::ServerSize) => {
            used_at > node.used_at || path.expires != node.expires_at
        }
        _ => graph.rule.keeps(used_at, path.expires),
    }
}
