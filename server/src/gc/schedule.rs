//! Scheduled collections, and the notes of the time that ages rest on.

use std::time::{Duration, Instant};

use snowbank_core::wire::admin::collection::GcRequest;
use tokio_util::sync::CancellationToken;

use super::collect::Collector;
use super::{COLLECTED_AT, GcError, ages};
use crate::clock::unix_now;
use crate::config::GcConfig;
use crate::db::{Db, settings, usage};

/// How often the time is noted, and the schedule looked at.
const PERIOD: Duration = Duration::from_mins(1);
/// The first scheduled collection comes this long after the start at the earliest.
const FIRST_DELAY: Duration = Duration::from_mins(10);
/// Above the server's size limit, collections come no oftener than this.
const MIN_INTERVAL_SECONDS: i64 = 600;

/// Notes the time every minute, and collects when a collection is due, until `stop`.
pub async fn run(collector: Collector, stop: CancellationToken) {
    let (db, settings) = (collector.db(), collector.settings());
    let started = Instant::now();
    loop {
        // Noted whether or not collections are scheduled, so that ages are known when one is asked
        // for.
        if let Err(error) = ages::note(db, unix_now(), false).await {
            tracing::warn!(%error, "the time could not be noted");
        }
        if stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_none() {
            return;
        }
        if settings.interval.is_none() || started.elapsed() < first_delay(settings) {
            continue;
        }
        match is_due(db, settings, unix_now()).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::warn!(%error, "whether a collection is due could not be seen");
                continue;
            }
        }
        let mut progress = |text: String| tracing::debug!("collection: {text}");
        let request = GcRequest::default();
        match stop.run_until_cancelled(collector.run(&request, &unix_now, &mut progress)).await {
            None => return,
            // Another server does it.
            Some(Ok(_) | Err(GcError::Busy)) => {}
            Some(Err(error)) => {
                tracing::error!(%error, "a collection was not finished; the next one goes on");
            }
        }
    }
}

fn first_delay(settings: &GcConfig) -> Duration {
    settings.interval.map_or(FIRST_DELAY, |interval| FIRST_DELAY.min(interval.duration()))
}

/// Whether a scheduled collection is due.
async fn is_due(db: &Db, config: &GcConfig, now: i64) -> Result<bool, GcError> {
    let mut conn = db.reader().await?;
    let last = settings::lookup(conn.exec(), COLLECTED_AT)
        .await?
        .and_then(|text| text.parse::<i64>().ok());
    let Some(last) = last else { return Ok(true) };
    let passed = now.saturating_sub(last);
    let interval =
        config.interval.map_or(i64::MAX, |time| i64::try_from(time.get()).unwrap_or(i64::MAX));
    if passed < 0 || passed >= interval {
        return Ok(true);
    }
    // Before that only if the server is above its limit, by sums that were counted since.
    let Some(limit) = config.max_size else { return Ok(false) };
    let usage = usage::lookup(conn.exec()).await?.unwrap_or_default();
    let is_above = usage.bytes > limit.bytes() && usage.counted > last;
    Ok(is_above && passed > MIN_INTERVAL_SECONDS)
}
