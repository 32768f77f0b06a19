//! Pins: made, listed, rolled back and removed; each change is one transaction with its entry in the audit log.
//!
//! A path is pinned in a transaction that has seen it in the cache. Such a transaction and one that destroys exclude each
//! other (C1), so that what was pinned is there, and what destroys sees the pin. To pin a path that the name stands for
//! already makes no new generation: a request that is made twice counts once, and a job that pushes the same result every
//! night does not push the one before out of the history.

use std::collections::HashMap;

use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::{StorePath, StorePathHash};
use snowbank_core::units::Seconds;
use snowbank_core::wire::Pinned;
use snowbank_core::wire::admin::pins::{
    DEFAULT_KEPT, MOST_KEPT, PinDetails, PinGeneration, PinInfo, PinList, PinnedPath, RollbackPin, SetPin,
};

use super::paths::hash_part;
use super::{Actor, AdminError};
use crate::db::caches::Cache;
use crate::db::pins::{Generation, Pin};
use crate::db::{self, Db, DbError, Exec, Tx};

/// How often a transaction is begun again that lost a race for a name that both made.
const MOST_RACES: u32 = 8;

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
}

/// Whether so many generations can be kept.
///
/// # Errors
/// [`AdminError::BadSetting`] when not.
pub fn check_keep(keep: Option<u32>) -> Result<(), AdminError> {
    match keep {
        Some(keep) if !(1..=MOST_KEPT).contains(&keep) => {
            Err(AdminError::BadSetting(format!("{keep} generations of a pin; 1 to {MOST_KEPT} can be kept")))
        }
        _ => Ok(()),
    }
}

/// Has a name stand for a path, in a transaction that has seen the path in the cache.
///
/// # Errors
/// As any write; [`DbError::Constraint`] when another transaction makes the same name at this moment.
pub async fn pin_in(tx: &mut Tx, actor: &Actor, cache: &Cache, new: &NewPin<'_>, now: i64) -> Result<Pinned, DbError> {
    let NewPin { name, store_path, keep, expires } = *new;
    let mut before = db::pins::lock(tx.exec(), cache.id, name).await?;
    if before.is_some_and(|pin| is_over(&pin, now)) {
        // What it stood for is kept no more, and is no history of this one.
        db::pins::remove(tx.exec(), cache.id, name).await?;
        before = None;
    }
    let keep = keep.or(before.map(|pin| pin.keep)).unwrap_or(DEFAULT_KEPT);
    let history = db::pins::generations(tx.exec(), cache.id, name).await?;
    let is_current = |one: &&Generation| before.is_some_and(|pin| pin.generation == one.number);
    let same = history.iter().find(is_current).filter(|current| current.store_path == *store_path);
    let generation = same.map_or_else(|| history.first().map_or(1, |newest| newest.number + 1), |same| same.number);
    let pin = Pin { generation, keep, expires };
    if before != Some(pin) {
        db::pins::set(tx.exec(), cache.id, name, &pin).await?;
        if same.is_none() {
            let (store_path, created_by) = (store_path.clone(), actor.subject.clone());
            let made = Generation { number: generation, store_path, created: now, created_by, present: true };
            db::pins::add_generation(tx.exec(), cache.id, name, &made).await?;
        }
        db::pins::remove_surplus(tx.exec(), cache.id, name, &pin).await?;
        let detail = format!("{name} generation {generation}: {}", store_path.base_name());
        actor.record(tx, "pin.set", cache.name.as_str(), detail, now).await?;
    }
    Ok(Pinned { name: name.clone(), generation })
}

fn is_over(pin: &Pin, now: i64) -> bool {
    pin.expires.is_some_and(|expires| expires <= now)
}

/// Has a name stand for a path that the cache shows.
///
/// # Errors
/// [`AdminError::NoPath`], or [`AdminError::BadSetting`] when a value is out of bounds.
pub async fn set_pin(
    db: &Db,
    actor: &Actor,
    cache: &Cache,
    name: &PinName,
    request: &SetPin,
    now: i64,
) -> Result<PinDetails, AdminError> {
    check_keep(request.keep)?;
    if request.expires == Some(Seconds::new(0)) {
        return Err(AdminError::BadSetting("a pin that is over at once would keep nothing; give a time".to_owned()));
    }
    let lifetime = request.expires.map(|time| i64::try_from(time.get()).unwrap_or(i64::MAX));
    let expires = lifetime.map(|seconds| now.saturating_add(seconds));
    let hash = hash_part(&cache.store_dir, &request.path)?;
    let mut races = 0;
    loop {
        let mut tx = db.commit_tx().await?;
        let found = db::paths::lookup_many(tx.exec(), cache.id, &[hash]).await?;
        let Some(path) = found.get(&hash) else { return Err(AdminError::NoPath(request.path.clone())) };
        let new = NewPin { name, store_path: &path.store_path, keep: request.keep, expires };
        match pin_in(&mut tx, actor, cache, &new, now).await {
            Err(DbError::Constraint(_)) if races < MOST_RACES => races += 1,
            Err(error) => return Err(error.into()),
            Ok(_) => {
                let details = details(tx.exec(), cache, name, now).await?;
                tx.commit().await?;
                return Ok(details);
            }
        }
    }
}

/// Removes a pin with its history; its paths are kept as long as others are then. Gives what it was.
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
    let details = details(tx.exec(), cache, name, now).await?;
    db::pins::remove(tx.exec(), cache.id, name).await?;
    let detail = format!("{name} generation {}: {}", details.pin.generation, details.pin.store_path);
    actor.record(&mut tx, "pin.remove", cache.name.as_str(), detail, now).await?;
    tx.commit().await?;
    Ok(details)
}

/// Has a name stand again for what it stood for before.
///
/// # Errors
/// [`AdminError::NoPin`], [`AdminError::NoGeneration`], or [`AdminError::GenerationGone`] when the cache does not show that
/// path.
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
    let history = db::pins::generations(tx.exec(), cache.id, name).await?;
    let target = match request.to {
        Some(to) => history.iter().find(|one| one.number == to),
        None => history.iter().find(|one| one.number < pin.generation),
    };
    let target = target.ok_or_else(|| {
        let what = request.to.map_or_else(
            || format!("no generation before {}, which it stands for", pin.generation),
            |to| format!("no generation {to}"),
        );
        AdminError::NoGeneration { pin: name.clone(), what }
    })?;
    if !target.present {
        return Err(AdminError::GenerationGone { pin: name.clone(), path: target.store_path.base_name() });
    }
    if target.number != pin.generation {
        let back = Pin { generation: target.number, ..pin };
        db::pins::set(tx.exec(), cache.id, name, &back).await?;
        let detail = format!("{name} from generation {} to {}: {}", pin.generation, back.generation, target.store_path);
        actor.record(&mut tx, "pin.rollback", cache.name.as_str(), detail, now).await?;
    }
    let details = details(tx.exec(), cache, name, now).await?;
    tx.commit().await?;
    Ok(details)
}

/// The pin, which nobody else changes until the transaction ends.
async fn locked(tx: &mut Tx, cache: &Cache, name: &PinName, now: i64) -> Result<Pin, AdminError> {
    let pin = db::pins::lock(tx.exec(), cache.id, name).await?;
    pin.filter(|pin| !is_over(pin, now)).ok_or_else(|| AdminError::NoPin(name.to_string()))
}

/// The cache's pins, by name.
///
/// # Errors
/// As any read.
pub async fn list_pins(db: &Db, cache: &Cache, now: i64) -> Result<PinList, AdminError> {
    let pins = db::pins::list(db.reader().await?.exec(), cache.id, now).await?;
    Ok(PinList { pins: pins.iter().map(|(name, pin, current)| info(cache, name, pin, current)).collect() })
}

/// A pin and its history.
///
/// # Errors
/// [`AdminError::NoPin`].
pub async fn show_pin(db: &Db, cache: &Cache, name: &PinName, now: i64) -> Result<PinDetails, AdminError> {
    details(db.reader().await?.exec(), cache, name, now).await
}

/// The path that a name stands for, which the cache shows at this moment.
///
/// # Errors
/// [`AdminError::NoPin`], also where its path is out of sight.
pub async fn pinned_path(db: &Db, cache: &Cache, name: &PinName, now: i64) -> Result<PinnedPath, AdminError> {
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
///
/// # Errors
/// As any read.
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

async fn details(mut exec: Exec<'_>, cache: &Cache, name: &PinName, now: i64) -> Result<PinDetails, AdminError> {
    let no_pin = || AdminError::NoPin(name.to_string());
    let pin = db::pins::lookup(exec.again(), cache.id, name, now).await?.ok_or_else(no_pin)?;
    let history = db::pins::generations(exec, cache.id, name).await?;
    // Outside of a transaction it may have been set anew in between.
    let current = history.iter().find(|one| one.number == pin.generation).or(history.first());
    let pin = info(cache, name, &pin, current.ok_or_else(no_pin)?);
    let generation = |one: Generation| PinGeneration {
        generation: one.number,
        store_path: one.store_path.full(&cache.store_dir),
        present: one.present,
        created: one.created,
        created_by: one.created_by,
    };
    Ok(PinDetails { pin, history: history.into_iter().map(generation).collect() })
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
        created_by: current.created_by.clone(),
    }
}

#[cfg(test)]
mod tests;
