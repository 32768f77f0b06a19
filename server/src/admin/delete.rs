//! Deleting paths, by a plan that keeps every visible path's closure visible.
//!
//! The plan is made without a lock, by reading what paths refer to page by page; memory holds the
//! paths that go and their neighbours, never the cache. Then one exclusive transaction looks at the
//! paths that became visible since the plan was begun. If one of them refers to what would go, the
//! plan is made anew; if not, the rows are removed. A commit of a push and this transaction exclude
//! each other (C1), and a commit looks for its references within its own transaction: one that
//! comes before is seen here, one that comes after finds its reference gone and is refused. The
//! same goes for pins: what is pinned is not deleted, and what is pinned meanwhile is a reason to
//! plan anew.

use std::collections::{BTreeSet, HashMap, HashSet};

use snowbank_core::store_path::StorePathHash;
use snowbank_core::wire::admin::{DeletePaths, DeletedPaths};

use super::paths::hash_part;
use super::pins::pins_by_path;
use super::{Actor, Admin, AdminError};
use crate::db::caches::Cache;
use crate::db::paths::PathId;
use crate::db::{self, Db, Exec};

/// Rows read at a time.
const PAGE: u32 = 2_000;
/// How often a plan is made anew.
const MAX_PLANS: u32 = 5;
/// Names in one request.
const MAX_NAMED: usize = 10_000;

/// The names of the pins that keep each path.
type Pins = HashMap<StorePathHash, Vec<String>>;

/// What goes, and up to which path the cache was looked at for it.
struct Plan {
    going: BTreeSet<StorePathHash>,
    seen: PathId,
}

/// Deletes paths, or says which would go.
///
/// # Errors
/// [`AdminError::NoPath`] for one that the cache does not have, [`AdminError::Referred`] when
/// others that stay need one, [`AdminError::Pinned`] when one is pinned; nothing is deleted then.
pub async fn delete_paths(
    admin: &Admin,
    actor: &Actor,
    cache: &Cache,
    request: &DeletePaths,
    now: i64,
) -> Result<DeletedPaths, AdminError> {
    if request.paths.is_empty() || request.paths.len() > MAX_NAMED {
        return Err(AdminError::BadSetting(format!("name 1 to {MAX_NAMED} paths to delete")));
    }
    let named = request
        .paths
        .iter()
        .map(|path| hash_part(&cache.store_dir, path))
        .collect::<Result<Vec<_>, _>>()?;
    let mut conn = admin.db.reader().await?;
    let there = db::paths::lookup_many(conn.exec(), cache.id, &named).await?;
    drop(conn);
    if let Some((_, path)) =
        named.iter().zip(&request.paths).find(|(hash, _)| !there.contains_key(*hash))
    {
        return Err(AdminError::NoPath(path.clone()));
    }
    for _ in 0..MAX_PLANS {
        let plan = plan(&admin.db, cache, &named, request, now).await?;
        let answer = describe(&admin.db, cache, &plan, request.dry_run).await?;
        if request.dry_run || execute(admin, actor, cache, &plan, &answer, now).await? {
            return Ok(answer);
        }
    }
    Err(AdminError::Raced)
}

async fn plan(
    db: &Db,
    cache: &Cache,
    named: &[StorePathHash],
    request: &DeletePaths,
    now: i64,
) -> Result<Plan, AdminError> {
    let mut going: BTreeSet<StorePathHash> = named.iter().copied().collect();
    // Referrers come after what they refer to, unless that was upstream's when they came: one pass
    // finds nearly all of them, and another one finds none, which ends this.
    let mut referring = Vec::new();
    let seen = loop {
        let before = going.len();
        referring.clear();
        // Under the exclusive lock, so that what came before this is seen by a pass that begins
        // after it.
        let seen = db::edges::last_id(db.exclusive_tx().await?.exec()).await?;
        let order = if request.referrers { Order::Age } else { Order::Hash };
        for_each_edge(db, cache, order, |hash, references| {
            if !going.contains(&hash)
                && references.iter().any(|reference| going.contains(reference))
            {
                if request.referrers {
                    going.insert(hash);
                } else {
                    referring.push(hash);
                }
            }
        })
        .await?;
        if going.len() == before {
            break seen;
        }
    };
    if !referring.is_empty() {
        let found = db::paths::lookup_many(db.reader().await?.exec(), cache.id, &referring).await?;
        return Err(AdminError::Referred(
            found.into_values().map(|path| path.store_path.base_name()).collect(),
        ));
    }
    let pins = pins_by_path(db.reader().await?.exec(), cache, now).await?;
    refuse_pinned(db, cache, &going, &pins).await?;
    if request.closure {
        let added = unneeded(db, cache, &going, &pins).await?;
        going.extend(added);
    }
    Ok(Plan { going, seen })
}

/// Refuses to delete what is pinned, naming the pins.
async fn refuse_pinned(
    db: &Db,
    cache: &Cache,
    going: &BTreeSet<StorePathHash>,
    pins: &Pins,
) -> Result<(), AdminError> {
    let pinned: Vec<StorePathHash> =
        going.iter().filter(|hash| pins.contains_key(*hash)).copied().collect();
    if pinned.is_empty() {
        return Ok(());
    }
    let found = db::paths::lookup_many(db.reader().await?.exec(), cache.id, &pinned).await?;
    let mut named = Vec::new();
    for hash in &pinned {
        let path =
            found.get(hash).map_or_else(|| hash.to_string(), |path| path.store_path.base_name());
        named.extend(pins.get(hash).into_iter().flatten().map(|pin| (path.clone(), pin.clone())));
    }
    Err(AdminError::Pinned(named))
}

/// What `going` refers to, however indirectly, and nothing that stays does: no other path, and no
/// pin.
async fn unneeded(
    db: &Db,
    cache: &Cache,
    going: &BTreeSet<StorePathHash>,
    pins: &Pins,
) -> Result<HashSet<StorePathHash>, AdminError> {
    let mut references: HashMap<StorePathHash, Vec<StorePathHash>> = HashMap::new();
    let mut next: Vec<StorePathHash> = going.iter().copied().collect();
    while !next.is_empty() {
        let found = db::paths::records(db.reader().await?.exec(), cache.id, &next).await?;
        next.clear();
        for (hash, path) in found {
            references.insert(
                hash,
                path.references.iter().map(snowbank_core::store_path::StorePath::hash).collect(),
            );
        }
        let known: HashSet<StorePathHash> = references.values().flatten().copied().collect();
        next.extend(known.into_iter().filter(|hash| !references.contains_key(hash)));
        // What the cache does not have is not asked for again.
        let absent: Vec<StorePathHash> = {
            let there = db::paths::lookup_many(db.reader().await?.exec(), cache.id, &next).await?;
            next.iter().filter(|hash| !there.contains_key(*hash)).copied().collect()
        };
        for hash in absent {
            references.insert(hash, Vec::new());
        }
        next.retain(|hash| !references.contains_key(hash));
    }
    let mut needed: Vec<StorePathHash> =
        references.keys().filter(|hash| pins.contains_key(*hash)).copied().collect();
    for_each_edge(db, cache, Order::Hash, |hash, referred| {
        if !references.contains_key(&hash) {
            needed.extend(referred.iter().filter(|reference| references.contains_key(reference)));
        }
    })
    .await?;
    let mut kept: HashSet<StorePathHash> = HashSet::new();
    while let Some(hash) = needed.pop() {
        if kept.insert(hash) {
            needed.extend(references.get(&hash).into_iter().flatten());
        }
    }
    Ok(references
        .into_keys()
        .filter(|hash| !kept.contains(hash) && !going.contains(hash))
        .collect())
}

/// The order of a pass over a cache's paths.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// What came first comes first; the other caches' paths are passed over.
    Age,
    /// No other cache's paths are read.
    Hash,
}

/// Calls `edge` for every path of the cache.
async fn for_each_edge(
    db: &Db,
    cache: &Cache,
    order: Order,
    mut edge: impl FnMut(StorePathHash, &[StorePathHash]),
) -> Result<(), AdminError> {
    let (mut after_id, mut after_hash) = (PathId(0), None);
    loop {
        let mut conn = db.reader().await?;
        let page = match order {
            Order::Age => db::edges::since(conn.exec(), after_id, PAGE).await?,
            Order::Hash => {
                db::edges::of_cache(conn.exec(), cache.id, after_hash.as_ref(), PAGE).await?
            }
        };
        let Some(last) = page.last() else { return Ok(()) };
        (after_id, after_hash) = (last.id, Some(last.hash));
        for path in page.iter().filter(|path| path.cache == cache.id) {
            edge(path.hash, &path.references);
        }
    }
}

/// Whether a path of the cache that came after `seen` refers to what is going.
async fn is_referred(mut exec: Exec<'_>, cache: &Cache, plan: &Plan) -> Result<bool, AdminError> {
    let mut after = plan.seen;
    loop {
        let page = db::edges::since(exec.again(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(false) };
        after = last.id;
        let mut references =
            page.iter().filter(|path| path.cache == cache.id).flat_map(|path| &path.references);
        if references.any(|reference| plan.going.contains(reference)) {
            return Ok(true);
        }
    }
}

async fn describe(
    db: &Db,
    cache: &Cache,
    plan: &Plan,
    dry_run: bool,
) -> Result<DeletedPaths, AdminError> {
    let going: Vec<StorePathHash> = plan.going.iter().copied().collect();
    let found = db::paths::lookup_many(db.reader().await?.exec(), cache.id, &going).await?;
    let nar_bytes = found.values().map(|path| path.nar_size).sum();
    let mut deleted: Vec<String> =
        found.into_values().map(|path| path.store_path.base_name()).collect();
    deleted.sort_unstable();
    Ok(DeletedPaths { deleted, nar_bytes, dry_run })
}

/// Removes the rows, unless a path that came meanwhile refers to one of them, or one of them was
/// pinned.
async fn execute(
    admin: &Admin,
    actor: &Actor,
    cache: &Cache,
    plan: &Plan,
    answer: &DeletedPaths,
    now: i64,
) -> Result<bool, AdminError> {
    let mut tx = admin.db.exclusive_tx().await?;
    let raced = is_referred(tx.exec(), cache, plan).await?;
    let pins = pins_by_path(tx.exec(), cache, now).await?;
    if raced || plan.going.iter().any(|hash| pins.contains_key(hash)) {
        return Ok(false);
    }
    let going: Vec<StorePathHash> = plan.going.iter().copied().collect();
    db::paths::remove(tx.exec(), cache.id, &going).await?;
    let named = answer.deleted.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(" ");
    let detail = format!("{} path(s): {named}", answer.deleted.len());
    actor.record(&mut tx, "path.delete", cache.name.as_str(), detail, now).await?;
    tx.commit().await?;
    Ok(true)
}
