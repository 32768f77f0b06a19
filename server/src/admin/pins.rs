//! Pins: made, listed, rolled back and removed; each change is one transaction with its entry in
//! the audit log.
//!
//! A path is pinned in a transaction that has seen it in the cache. Such a transaction and one that
//! destroys exclude each other (C1), so that what was pinned is there, and what destroys sees the
//! pin. To pin a path that the name stands for already makes no new generation: a request that is
//! made twice counts once, and a job that pushes the same result every night does not push the one
//! before out of the history.

use std::collections::HashMap;

use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::{StorePath, StorePathHash};
use snowbank_core::units::Seconds;
use snowbank_core::wire::PinnedGeneration;
use snowbank_core::wire::admin::pins::{
    DEFAULT_KEPT, HistoryQuery, MAX_KEPT, PinDetails, PinGeneration, PinInfo, PinList, PinnedPath,
    RollbackPin, SetPin,
};

use super::page::{count_rows, cut};
use super::paths::hash_part;
use super::pin_error::PinError;
use super::{Actor, AdminError};
use crate::db::caches::Cache;
use crate::db::pins::{Generation, Pin};
use crate::db::{self, Db, DbError, Exec, Tx};

/// How often a transaction is begun again that lost a race for a name that both made.
const MAX_RACES: u32 = 8;
/// Pins, and generations of one, in one answer.
const MAX_LISTED: u32 = 500;

/// A name and what it is to stand for.
#[derive(Debug, Clone, Copy)]
pub struct NewPin<'a> {
    /// The name.
    pub name: &'a PinName,
    /// The path, which the cache shows.
    pub store_path: &'a StorePath,
    /// How many generations are kept; `None` for as many as before.
    pub keep: Option<u32>,
    /// Until when it holds; `None` until it is removed.
    pub expires: Option<i64>,
    /// How many pins the cache may have.
    pub max_pins: u64,
}

/// Whether so many generations can be kept.
///
/// # Errors
/// [`AdminError::BadSetting`] when not.
pub fn check_keep(keep: Option<u32>) -> Result<(), AdminError> {
    match keep {
        Some(keep) if !(1..=MAX_KEPT).contains(&keep) => Err(AdminError::BadSetting(format!(
            "{keep} generations of a pin; 1 to {MAX_KEPT} can be kept"
        ))),
        _ => Ok(()),
    }
}

/// Has a name stand for a path, in a transaction that has seen the path in the cache.
///
/// # Errors
/// [`PinError::TooMany`], before anything was changed but pins whose time is over; as any write,
/// and [`DbError::Constraint`] when another transaction makes the same name at this moment.
pub async fn pin_in(
    tx: &mut Tx,
    actor: &Actor,
    cache: &Cache,
    new: &NewPin<'_>,
    now: i64,
) -> Result<PinnedGeneration, PinError> {
    let NewPin { name, store_path, keep, expires, max_pins } = *new;
    let mut before = db::pins::lock(tx.exec(), cache.id, name).await?;
    if before.is_some_and(|pin| is_over(&pin, now)) {
        // What it stood for is kept no more, and is no history of this one.
        db::pins::remove(tx.exec(), cache.id, name).await?;
        before = None;
    }
    if before.is_none() {
        make_room(tx, cache, max_pins, now).await?;
    }
    let keep = keep.or(before.map(|pin| pin.keep)).unwrap_or(DEFAULT_KEPT);
    let newest = db::pins::generation_before(tx.exec(), cache.id, name, u64::MAX).await?;
    let same = match before {
        Some(pin) => generation(tx.exec(), cache, name, pin.generation).await?,
        None => None,
    };
    let same = same.filter(|current| current.store_path == *store_path);
    let number = same
        .as_ref()
        .map_or_else(|| newest.map_or(1, |newest| newest.number + 1), |same| same.number);
    let pin = Pin { generation: number, keep, expires };
    if before != Some(pin) {
        db::pins::set(tx.exec(), cache.id, name, &pin).await?;
        if same.is_none() {
            let (store_path, created_by) = (store_path.clone(), actor.subject.clone());
            let made = Generation { number, store_path, created: now, created_by, present: true };
            db::pins::add_generation(tx.exec(), cache.id, name, &made).await?;
        }
        db::pins::remove_surplus(tx.exec(), cache.id, name, &pin).await?;
        let detail = format!("{name} generation {number}: {}", store_path.base_name());
        actor.record(tx, "pin.set", cache.name.as_str(), detail, now).await?;
    }
    Ok(PinnedGeneration { name: name.clone(), generation: number })
}

/// Sees to it that a cache may have another pin. Transactions that do so at once may each add one.
async fn make_room(tx: &mut Tx, cache: &Cache, max_pins: u64, now: i64) -> Result<(), PinError> {
    let mut is_full = db::pins::count(tx.exec(), cache.id, max_pins).await? >= max_pins;
    // A collection would remove these later.
    if is_full && db::pins::remove_expired_of(tx.exec(), cache.id, now).await? > 0 {
        is_full = db::pins::count(tx.exec(), cache.id, max_pins).await? >= max_pins;
    }
    if is_full { Err(PinError::TooMany(max_pins)) } else { Ok(()) }
}

/// The generation of that number, if it is kept.
async fn generation(
    exec: Exec<'_>,
    cache: &Cache,
    name: &PinName,
    number: u64,
) -> Result<Option<Generation>, DbError> {
    let found = db::pins::generation_before(exec, cache.id, name, number.saturating_add(1)).await?;
    Ok(found.filter(|found| found.number == number))
}

fn is_over(pin: &Pin, now: i64) -> bool {
    pin.expires.is_some_and(|expires| expires <= now)
}

/// Has a name stand for a path that the cache shows; the cache may have `max_pins` pins.
///
/// # Errors
/// [`AdminError::NoPath`], [`AdminError::Pin`] when the cache has too many, or
/// [`AdminError::BadSetting`] when a value is out of bounds.
pub async fn set_pin(
    db: &Db,
    actor: &Actor,
    cache: &Cache,
    name: &PinName,
    request: &SetPin,
    max_pins: u64,
    now: i64,
) -> Result<PinDetails, AdminError> {
    check_keep(request.keep)?;
    if request.expires == Some(Seconds::new(0)) {
        return Err(AdminError::BadSetting(
            "a pin that is over at once would keep nothing; give a time".to_owned(),
        ));
    }
    let lifetime = request.expires.map(|time| i64::try_from(time.get()).unwrap_or(i64::MAX));
    let expires = lifetime.map(|seconds| now.saturating_add(seconds));
    let hash = hash_part(&cache.store_dir, &request.path)?;
    let mut races = 0;
    loop {
        let mut tx = db.commit_tx().await?;
        let found = db::paths::lookup_many(tx.exec(), cache.id, &[hash]).await?;
        let Some(path) = found.get(&hash) else {
            return Err(AdminError::NoPath(request.path.clone()));
        };
        let new =
            NewPin { name, store_path: &path.store_path, keep: request.keep, expires, max_pins };
        match pin_in(&mut tx, actor, cache, &new, now).await {
            Err(PinError::Database(DbError::Constraint(_))) if races < MAX_RACES => races += 1,
            Err(error) => return Err(error.into()),
            Ok(_) => {
                let details =
                    details(tx.exec(), cache, name, &HistoryQuery::default(), now).await?;
                tx.commit().await?;
                return Ok(details);
            }
        }
    }
}

/// Removes a pin with its history; its paths are kept as long as others are then. Gives what it
/// was.
///
/// # Errors
/// [`AdminError::NoPin`].
pub async fn remove_pin(
    db: &Db,
    actor: &Actor,
    cache: &Cache,
    name: &PinName,
    now: i64,
) -> Result<PinDetails, AdminError> {
    let mut tx = db.commit_tx().await?;
    locked(&mut tx, cache, name, now).await?;
    let details = details(tx.exec(), cache, name, &HistoryQuery::default(), now).await?;
    db::pins::remove(tx.exec(), cache.id, name).await?;
    let detail =
        format!("{name} generation {}: {}", details.pin.generation, details.pin.store_path);
    actor.record(&mut tx, "pin.remove", cache.name.as_str(), detail, now).await?;
    tx.commit().await?;
    Ok(details)
}

/// Has a name stand again for what it stood for before.
///
/// # Errors
/// [`AdminError::NoPin`], [`AdminError::NoGeneration`], or [`AdminError::GenerationGone`] when the
/// cache does not show that path.
pub async fn rollback_pin(
    db: &Db,
    actor: &Actor,
    cache: &Cache,
    name: &PinName,
    request: &RollbackPin,
    now: i64,
) -> Result<PinDetails, AdminError> {
    let mut tx = db.commit_tx().await?;
    let pin = locked(&mut tx, cache, name, now).await?;
    let target = match request.to {
        Some(to) => generation(tx.exec(), cache, name, to).await?,
        None => db::pins::generation_before(tx.exec(), cache.id, name, pin.generation).await?,
    };
    let target = target.ok_or_else(|| {
        let what = request.to.map_or_else(
            || format!("no generation before {}, which it stands for", pin.generation),
            |to| format!("no generation {to}"),
        );
        AdminError::NoGeneration { pin: name.clone(), what }
    })?;
    if !target.present {
        return Err(AdminError::GenerationGone {
            pin: name.clone(),
            path: target.store_path.base_name(),
        });
    }
    if target.number != pin.generation {
        let back = Pin { generation: target.number, ..pin };
        db::pins::set(tx.exec(), cache.id, name, &back).await?;
        let detail = format!(
            "{name} from generation {} to {}: {}",
            pin.generation, back.generation, target.store_path
        );
        actor.record(&mut tx, "pin.rollback", cache.name.as_str(), detail, now).await?;
    }
    let details = details(tx.exec(), cache, name, &HistoryQuery::default(), now).await?;
    tx.commit().await?;
    Ok(details)
}

/// The pin, which nobody else changes until the transaction ends.
async fn locked(tx: &mut Tx, cache: &Cache, name: &PinName, now: i64) -> Result<Pin, AdminError> {
    let pin = db::pins::lock(tx.exec(), cache.id, name).await?;
    pin.filter(|pin| !is_over(pin, now)).ok_or_else(|| AdminError::NoPin(name.to_string()))
}

/// The cache's pins, by name; `after` is the name that an earlier answer ended with.
pub async fn list_pins(
    db: &Db,
    cache: &Cache,
    after: Option<&str>,
    now: i64,
) -> Result<PinList, AdminError> {
    let after = match after {
        Some(name) => name
            .parse::<PinName>()
            .map_err(|error| AdminError::BadSetting(error.to_string()))?
            .to_string(),
        None => String::new(),
    };
    let page =
        db::pin_pages::page(db.reader().await?.exec(), cache.id, &after, now, MAX_LISTED).await?;
    count_rows(page.pins.len());
    let mut pins: Vec<PinInfo> =
        page.pins.iter().map(|(name, pin, current)| info(cache, name, pin, current)).collect();
    let mut next = page.next.map(|name| name.to_string());
    if cut(&mut pins) {
        next = pins.last().map(|last| last.name.to_string());
    }
    Ok(PinList { pins, next })
}

/// A pin and its history.
///
/// # Errors
/// [`AdminError::NoPin`].
pub async fn show_pin(
    db: &Db,
    cache: &Cache,
    name: &PinName,
    query: &HistoryQuery,
    now: i64,
) -> Result<PinDetails, AdminError> {
    details(db.reader().await?.exec(), cache, name, query, now).await
}

/// The path that a name stands for, which the cache shows at this moment.
///
/// # Errors
/// [`AdminError::NoPin`], also where its path is out of sight.
pub async fn pinned_path(
    db: &Db,
    cache: &Cache,
    name: &PinName,
    now: i64,
) -> Result<PinnedPath, AdminError> {
    let found = db::pins::resolve(db.reader().await?.exec(), cache.id, name, now).await?;
    let found = found.ok_or_else(|| AdminError::NoPin(name.to_string()))?;
    Ok(PinnedPath {
        name: name.clone(),
        generation: found.generation,
        store_path: found.store_path.full(&cache.store_dir),
        nar_hash: found.nar_hash,
        nar_size: found.nar_size,
        created: found.created,
        expires: found.expires,
    })
}

/// The names of the pins that keep each path.
pub(super) async fn pins_by_path(
    exec: Exec<'_>,
    cache: &Cache,
    now: i64,
) -> Result<HashMap<StorePathHash, Vec<String>>, DbError> {
    let mut pins: HashMap<StorePathHash, Vec<String>> = HashMap::new();
    for (hash, name) in db::pins::kept(exec, cache.id, now).await? {
        pins.entry(hash).or_default().push(name);
    }
    Ok(pins)
}

async fn details(
    mut exec: Exec<'_>,
    cache: &Cache,
    name: &PinName,
    query: &HistoryQuery,
    now: i64,
) -> Result<PinDetails, AdminError> {
    let no_pin = || AdminError::NoPin(name.to_string());
    let pin = db::pins::lookup(exec.again(), cache.id, name, now).await?.ok_or_else(no_pin)?;
    let current = match generation(exec.again(), cache, name, pin.generation).await? {
        Some(current) => Some(current),
        // Outside of a transaction it may have been set anew in between.
        None => db::pins::generation_before(exec.again(), cache.id, name, u64::MAX).await?,
    };
    let pin = info(cache, name, &pin, &current.ok_or_else(no_pin)?);
    let before = query.before.unwrap_or(u64::MAX);
    let history = db::pins::generations(exec, cache.id, name, before, MAX_LISTED).await?;
    let is_full = history.len() == MAX_LISTED as usize;
    let generation = |one: Generation| PinGeneration {
        generation: one.number,
        store_path: one.store_path.full(&cache.store_dir),
        present: one.present,
        created: one.created,
        created_by: Some(one.created_by),
    };
    let mut history: Vec<PinGeneration> = history.into_iter().map(generation).collect();
    let is_cut = cut(&mut history);
    let next = history.last().filter(|_| is_full || is_cut).map(|last| last.generation);
    Ok(PinDetails { pin, history, next })
}

fn info(cache: &Cache, name: &PinName, pin: &Pin, current: &Generation) -> PinInfo {
    PinInfo {
        name: name.clone(),
        store_path: current.store_path.full(&cache.store_dir),
        present: current.present,
        generation: current.number,
        keep: pin.keep,
        expires: pin.expires,
        created: current.created,
        created_by: Some(current.created_by.clone()),
    }
}

#[cfg(test)]
mod tests;
