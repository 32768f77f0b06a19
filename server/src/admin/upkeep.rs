//! What a server does for operators of its own accord: it writes down what waits for the audit log
//! and when tokens and paths were used last, forgets old entries, and takes away what is left of
//! caches that were destroyed a week ago.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::audit_queue::AuditQueue;
use super::{PushLog, path_uses, purge};
use crate::auth::TokenUses;
use crate::clock::unix_now;
use crate::config::Seconds;
use crate::db::caches::RESTORABLE_SECONDS;
use crate::db::{self, Db, DbError};
use crate::serving::PathUses;

/// How long an entry of the audit log waits at most.
const PERIOD: Duration = Duration::from_secs(1);
/// How old a token's `last_used` may be.
const USES_EVERY: Duration = Duration::from_secs(30);
/// How long the use of a path waits at most to be written, if it is.
const PATHS_EVERY: Duration = Duration::from_secs(10);
const CLEAN_EVERY: Duration = Duration::from_hours(1);

/// What a server notes down a moment later than it happens.
#[derive(Debug, Clone)]
pub struct DeferredWrites {
    /// Entries of the audit log.
    pub audit: AuditQueue,
    /// Uses of tokens.
    pub tokens: TokenUses,
    /// Reads of paths.
    pub paths: PathUses,
    /// Pushes that may be over.
    pub pushes: PushLog,
}

/// Works until `stop`, and writes what waits then. `keep` is for how long entries of the audit log
/// are kept, `retention` for how long unused paths are by caches that do not say.
pub async fn run(
    db: Db,
    noted: DeferredWrites,
    keep: Seconds,
    retention: Option<Seconds>,
    stop: CancellationToken,
) {
    let DeferredWrites { audit, tokens, paths, pushes } = noted;
    let (mut wrote_uses, mut wrote_paths, mut cleaned) =
        (Instant::now(), Instant::now(), None::<Instant>);
    let mut is_last = false;
    while !is_last {
        let pause = async {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = paths.nearly_full() => {}
            }
        };
        is_last = stop.run_until_cancelled(pause).await.is_none();
        pushes.tell(is_last);
        log("the audit log was not written", audit.write(&db, unix_now(), is_last).await);
        if is_last || wrote_uses.elapsed() >= USES_EVERY {
            wrote_uses = Instant::now();
            log("when tokens were used was not written", write_uses(&db, &tokens).await);
        }
        if is_last || wrote_paths.elapsed() >= PATHS_EVERY || paths.is_nearly_full() {
            wrote_paths = Instant::now();
            let written = path_uses::write(&db, &paths, retention, unix_now()).await;
            log("when paths were used was not written", written);
        }
        if !is_last && cleaned.is_none_or(|at| at.elapsed() >= CLEAN_EVERY) {
            cleaned = Some(Instant::now());
            let cleaning = stop.run_until_cancelled(clean(&db, keep, unix_now())).await;
            log("what is old was not removed", cleaning.unwrap_or(Ok(())));
        }
    }
}

fn log(what: &str, result: Result<(), DbError>) {
    if let Err(error) = result {
        // The next turn tries again.
        tracing::warn!(%error, "{what}");
    }
}

async fn write_uses(db: &Db, uses: &TokenUses) -> Result<(), DbError> {
    let uses = uses.take();
    if uses.is_empty() {
        return Ok(());
    }
    let mut tx = db.upkeep_tx().await?;
    db::tokens::used(tx.exec(), &uses).await?;
    tx.commit().await
}

async fn clean(db: &Db, keep: Seconds, now: i64) -> Result<(), DbError> {
    let keep = i64::try_from(keep.get()).unwrap_or(i64::MAX);
    let mut tx = db.upkeep_tx().await?;
    db::audit::remove_before(tx.exec(), now.saturating_sub(keep)).await?;
    tx.commit().await?;
    let caches = db::caches::list(db.reader().await?.exec()).await?;
    let over = |at: i64| at.saturating_add(RESTORABLE_SECONDS) <= now;
    for cache in caches.into_iter().filter(|cache| cache.destroyed.is_some_and(over)) {
        let (paths, _) = purge::remove(db, cache.id, || true).await?;
        tracing::info!(cache = %cache.name, paths, "a destroyed cache is gone for good");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{
        Actor, Admin, AdminError, create_cache, destroy_cache, purge_cache, restore_cache,
    };
    use crate::config::{DatabaseConfig, DatabaseUrl};
    use crate::secrets::Sealer;
    use snowbank_core::wire::admin::{CacheSettings, CreateCache};

    #[tokio::test]
    async fn a_destroyed_cache_can_be_restored_for_a_week_and_is_gone_then() {
        let folder = tempfile::tempdir().unwrap();
        let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("snowbank.db")));
        let db = Db::open(&config).await.unwrap();
        let admin = Admin {
            db: db.clone(),
            sealer: Sealer::new(&[1; 32]),
            compression_level: 3,
            host: None,
            key_files: Vec::new(),
            legacy_keys: crate::auth::LegacyKeys::default(),
        };
        let settings = CacheSettings::default();
        let request = CreateCache {
            name: "old".to_owned(),
            isolated: false,
            store_dir: None,
            signing_key: None,
            settings,
        };
        let (actor, name) = (Actor::host(), "old".parse().unwrap());
        create_cache(&admin, &actor, &request, 0).await.unwrap();
        destroy_cache(&admin, &actor, &name, 100).await.unwrap();
        let week = 100 + RESTORABLE_SECONDS;
        clean(&db, Seconds::new(3_600), week - 1).await.unwrap();
        restore_cache(&admin, &actor, &name, week - 1).await.unwrap();
        destroy_cache(&admin, &actor, &name, 100).await.unwrap();
        restore_cache(&admin, &actor, &name, week).await.unwrap_err();
        create_cache(&admin, &actor, &request, week).await.unwrap_err();
        clean(&db, Seconds::new(3_600), week).await.unwrap();
        create_cache(&admin, &actor, &request, week).await.unwrap();

        let purge = async |patience| {
            purge_cache(&admin, &actor, &name, Seconds::new(60), patience, week + 2).await
        };
        let refused = purge(Duration::MAX).await;
        assert!(matches!(refused, Err(AdminError::InUse(_))), "it was not destroyed");
        destroy_cache(&admin, &actor, &name, week + 1).await.unwrap();
        let purged = purge(Duration::MAX).await.unwrap();
        assert_eq!((purged.paths, purged.is_gone), (0, true));
        restore_cache(&admin, &actor, &name, week + 2).await.unwrap_err();
        create_cache(&admin, &actor, &request, week + 2).await.unwrap();
    }
}
