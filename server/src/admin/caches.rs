//! Creating, configuring, renaming, destroying and restoring caches.
//!
//! Each is one exclusive transaction that reads the row, changes the fields that were named, and
//! writes it: two operators who change different fields at once both get what they said, and the
//! last one wins where they said the same.

use snowbank_core::cache_name::CacheName;
use snowbank_core::store_path::StoreDir;
use snowbank_core::token::looks_like_token;
use snowbank_core::units::Limit;
use snowbank_core::wire::admin::{CacheDetails, CacheList, CacheSettings, CreateCache};

use super::cache_details::{details, existing, summary};
use super::page::cut;
use super::signing_keys::{add_key, first_key, parse_secret};
use super::{Actor, Admin, AdminError};
use crate::db::caches::{Cache, CacheId, DomainId, NewCache, RESTORABLE_SECONDS};
use crate::db::{self, DbError, Tx};

/// Nix asks caches with a lower number first; cache.nixos.org has 40.
const DEFAULT_PRIORITY: i64 = 41;
/// Caches that are looked at for one answer.
const MAX_LOOKED_AT: u32 = 200;
const MAX_DESCRIPTION_CHARS: usize = 1_000;
const MAX_UPSTREAM_KEYS: usize = 100;

/// Makes a cache and its first signing key.
///
/// # Errors
/// [`AdminError::NameTaken`] or [`AdminError::NameDestroyed`] when there is one of that name,
/// [`AdminError::BadSetting`] when a value is out of bounds.
pub async fn create_cache(
    admin: &Admin,
    actor: &Actor,
    request: &CreateCache,
    now: i64,
) -> Result<CacheDetails, AdminError> {
    let mut tx = admin.db.exclusive_tx().await?;
    let details = create_cache_in(&mut tx, admin, actor, request, now).await?;
    tx.commit().await?;
    Ok(details)
}

pub(super) async fn create_cache_in(
    tx: &mut Tx,
    admin: &Admin,
    actor: &Actor,
    request: &CreateCache,
    now: i64,
) -> Result<CacheDetails, AdminError> {
    let name = parse_name(&request.name)?;
    match db::caches::lookup_any(tx.exec(), &name).await? {
        Some(Cache { destroyed: Some(_), .. }) => return Err(AdminError::NameDestroyed(name)),
        Some(_) => return Err(AdminError::NameTaken(name)),
        None => {}
    }
    let store_dir = match &request.store_dir {
        Some(dir) => dir
            .parse()
            .map_err(|error| AdminError::BadSetting(format!("the store directory: {error}")))?,
        None => StoreDir::default(),
    };
    let domain = if request.isolated {
        db::caches::add_domain(tx.exec(), now).await?
    } else {
        DomainId::SHARED
    };
    let new = NewCache {
        name: name.clone(),
        domain,
        public: false,
        store_dir,
        priority: DEFAULT_PRIORITY,
        compression_level: admin.compression_level,
        created: now,
    };
    let mut cache = match db::caches::add(tx.exec(), &new).await {
        // Someone else was quicker.
        Err(DbError::Constraint(_)) => return Err(AdminError::NameTaken(name)),
        result => result?,
    };
    apply(&request.settings, &mut cache)?;
    db::caches::update(tx.exec(), &cache).await?;
    let key = match &request.signing_key {
        Some(text) => parse_secret(text)?,
        None => first_key(admin, &cache.name)?,
    };
    add_key(tx, admin, &cache, &key, now).await?;
    let isolated = if request.isolated { " isolated" } else { "" };
    let detail = format!("key={}{isolated}{}", key.name(), describe(&request.settings));
    actor.record(tx, "cache.create", name.as_str(), detail, now).await?;
    details(tx.exec(), &cache).await
}

/// Changes what `settings` names of a cache.
///
/// # Errors
/// [`AdminError::NoCache`], or [`AdminError::BadSetting`] when a value is out of bounds; nothing
/// was changed then.
pub async fn configure_cache(
    admin: &Admin,
    actor: &Actor,
    name: &CacheName,
    settings: &CacheSettings,
    now: i64,
) -> Result<CacheDetails, AdminError> {
    let mut tx = admin.db.exclusive_tx().await?;
    let cache = existing(&mut tx, name).await?;
    let entry = ("cache.configure", describe(settings).trim().to_owned());
    change(tx, actor, cache, entry, now, |cache| apply(settings, cache)).await
}

/// Makes a cache as `request` says, or changes the one that is there to be so.
///
/// # Errors
/// As [`create_cache`] and [`configure_cache`]; [`AdminError::BadSetting`] when the one that is
/// there differs in what cannot be changed.
pub async fn ensure_cache(
    admin: &Admin,
    actor: &Actor,
    request: &CreateCache,
    now: i64,
) -> Result<CacheDetails, AdminError> {
    let name = parse_name(&request.name)?;
    let found = db::caches::lookup(admin.db.reader().await?.exec(), &name).await?;
    let Some(found) = found else { return create_cache(admin, actor, request, now).await };
    // What is not said stays.
    if request.isolated && found.domain == DomainId::SHARED {
        let message = format!(
            "`{name}` is there and shares chunks with others, which cannot be changed; use another \
             name"
        );
        return Err(AdminError::BadSetting(message));
    }
    if request.store_dir.as_deref().is_some_and(|dir| dir != found.store_dir.as_str()) {
        let message = format!(
            "`{name}` is there with the store directory {}, which cannot be changed",
            found.store_dir
        );
        return Err(AdminError::BadSetting(message));
    }
    let mut wanted = found.clone();
    apply(&request.settings, &mut wanted)?;
    if wanted == found {
        return details(admin.db.reader().await?.exec(), &found).await;
    }
    configure_cache(admin, actor, &name, &request.settings, now).await
}

/// Gives a cache another name. Its address changes; its keys, and so what machines trust, do not.
///
/// # Errors
/// [`AdminError::NoCache`], or [`AdminError::NameTaken`].
pub async fn rename_cache(
    admin: &Admin,
    actor: &Actor,
    name: &CacheName,
    new: &CacheName,
    now: i64,
) -> Result<CacheDetails, AdminError> {
    let mut tx = admin.db.exclusive_tx().await?;
    let cache = existing(&mut tx, name).await?;
    match db::caches::lookup_any(tx.exec(), new).await? {
        Some(Cache { destroyed: Some(_), .. }) => {
            return Err(AdminError::NameDestroyed(new.clone()));
        }
        Some(other) if other.id != cache.id => return Err(AdminError::NameTaken(new.clone())),
        _ => {}
    }
    let entry = ("cache.rename", format!("to {new}"));
    change(tx, actor, cache, entry, now, |cache| {
        cache.name = new.clone();
        Ok(())
    })
    .await
}

/// Takes a cache out of sight. It can be restored for seven days; its name stays taken so long.
///
/// # Errors
/// [`AdminError::NoCache`].
pub async fn destroy_cache(
    admin: &Admin,
    actor: &Actor,
    name: &CacheName,
    now: i64,
) -> Result<CacheDetails, AdminError> {
    let mut tx = admin.db.exclusive_tx().await?;
    let cache = existing(&mut tx, name).await?;
    change(tx, actor, cache, ("cache.destroy", String::new()), now, |cache| {
        cache.destroyed = Some(now);
        Ok(())
    })
    .await
}

/// Brings a destroyed cache back, as it was.
///
/// # Errors
/// [`AdminError::NoCache`], also where its seven days are over.
pub async fn restore_cache(
    admin: &Admin,
    actor: &Actor,
    name: &CacheName,
    now: i64,
) -> Result<CacheDetails, AdminError> {
    let mut tx = admin.db.exclusive_tx().await?;
    let found = db::caches::lookup_any(tx.exec(), name).await?;
    let restorable = |cache: &Cache| {
        cache.destroyed.is_some_and(|at| at.saturating_add(RESTORABLE_SECONDS) > now)
    };
    let cache = found.filter(restorable).ok_or_else(|| AdminError::NotDestroyed(name.clone()))?;
    change(tx, actor, cache, ("cache.restore", String::new()), now, |cache| {
        cache.destroyed = None;
        Ok(())
    })
    .await
}

/// Alters a cache that was read in `tx`, with its entry in the audit log under the name that it
/// had, and commits.
async fn change(
    mut tx: Tx,
    actor: &Actor,
    mut cache: Cache,
    (action, detail): (&str, String),
    now: i64,
    alter: impl FnOnce(&mut Cache) -> Result<(), AdminError>,
) -> Result<CacheDetails, AdminError> {
    let name = cache.name.clone();
    alter(&mut cache)?;
    db::caches::update(tx.exec(), &cache).await?;
    actor.record(&mut tx, action, name.as_str(), detail, now).await?;
    let details = details(tx.exec(), &cache).await?;
    tx.commit().await?;
    Ok(details)
}

/// A cache, as operators see it.
///
/// # Errors
/// [`AdminError::NoCache`].
pub async fn show_cache(admin: &Admin, name: &CacheName) -> Result<CacheDetails, AdminError> {
    let mut conn = admin.db.reader().await?;
    let cache = db::caches::lookup_any(conn.exec(), name)
        .await?
        .ok_or_else(|| AdminError::NoCache(name.clone()))?;
    details(conn.exec(), &cache).await
}

/// The caches that `may_see` allows, by name; `after` is the name that an earlier answer ended
/// with.
pub async fn list_caches(
    admin: &Admin,
    after: Option<&str>,
    may_see: impl Fn(&Cache) -> bool,
) -> Result<CacheList, AdminError> {
    let after = match after {
        Some(name) => parse_name(name)?.to_string(),
        None => String::new(),
    };
    let mut conn = admin.db.reader().await?;
    let seen = db::caches::page(conn.exec(), &after, MAX_LOOKED_AT).await?;
    let mut next = seen
        .last()
        .filter(|_| seen.len() == MAX_LOOKED_AT as usize)
        .map(|last| last.name.to_string());
    let caches: Vec<Cache> = seen.into_iter().filter(may_see).collect();
    let ids: Vec<CacheId> = caches.iter().map(|cache| cache.id).collect();
    let usages = db::usage::lookup_caches(conn.exec()).await?;
    let mut keys = db::keys::signing_keys_of(conn.exec(), &ids).await?;
    drop(conn);
    let details =
        |cache: &Cache| summary(cache, keys.remove(&cache.id).unwrap_or_default(), usages.as_ref());
    let mut caches: Vec<CacheDetails> = caches.iter().map(details).collect();
    if cut(&mut caches) {
        next = caches.last().map(|last| last.name.clone());
    }
    Ok(CacheList { caches, next })
}

fn parse_name(name: &str) -> Result<CacheName, AdminError> {
    name.parse().map_err(|error| AdminError::BadSetting(format!("{error}")))
}

/// Puts what is said over what was.
fn apply(settings: &CacheSettings, cache: &mut Cache) -> Result<(), AdminError> {
    let bad = |message: String| Err(AdminError::BadSetting(message));
    if let Some(public) = settings.public {
        cache.public = public;
    }
    if let Some(priority) = settings.priority {
        cache.priority = i64::from(priority);
    }
    if let Some(want) = settings.want_mass_query {
        cache.want_mass_query = want;
    }
    if let Some(keys) = &settings.upstream_keys {
        let is_name = |key: &String| {
            (1..=255).contains(&key.len())
                && !key.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control())
        };
        if let Some(key) = keys.iter().find(|key| !is_name(key)) {
            return bad(format!(
                "the upstream key `{key}` is not the name of a key, such as cache.nixos.org-1"
            ));
        }
        if keys.len() > MAX_UPSTREAM_KEYS {
            return bad(format!(
                "{} upstream keys; at most {MAX_UPSTREAM_KEYS} are taken",
                keys.len()
            ));
        }
        cache.upstream_keys.clone_from(keys);
    }
    if let Some(level) = settings.compression_level {
        if !(1..=19).contains(&level) {
            return bad(format!(
                "the compression level {level} is not one from 1 (fast) to 19 (small)"
            ));
        }
        cache.compression_level = level;
    }
    if let Some(description) = &settings.description {
        if description.chars().count() > MAX_DESCRIPTION_CHARS
            || description.chars().any(char::is_control)
        {
            return bad(format!(
                "a description is one line of at most {MAX_DESCRIPTION_CHARS} characters"
            ));
        }
        if looks_like_token(description) {
            return bad(
                "a description is shown to everybody, and this one holds a token".to_owned()
            );
        }
        cache.description.clone_from(description);
    }
    if let Some(retention) = settings.retention {
        if matches!(retention, Limit::Some(time) if time.get() == 0) {
            return bad(
                "a retention of no time would keep nothing; give a time, or `never` to keep \
                 everything"
                    .to_owned(),
            );
        }
        cache.retention = retention;
    }
    if let Some(size) = settings.max_size {
        if matches!(size, Limit::Some(size) if size.is_empty()) {
            return bad(
                "a size limit of nothing would keep nothing; give a size, or `none`".to_owned()
            );
        }
        cache.max_size = size;
    }
    Ok(())
}

/// What was said, for the audit log: ` key=value` each.
fn describe(settings: &CacheSettings) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(settings) else {
        return String::new();
    };
    let words: Vec<String> =
        fields.into_iter().map(|(key, value)| format!(" {key}={value}")).collect();
    words.concat()
}
