//! Counters, pins, leftovers, and the lists of damaged chunks and withdrawn paths.

use snowbank_cli::date::utc;

use super::{CheckError, PAGE, Run};
use crate::db;
use crate::db::caches::CacheId;
use crate::db::settings::COLLECTION_OFF;

/// Pins that are named.
const PINS: u32 = 1_000;

pub(super) async fn lists(run: &mut Run<'_>) -> Result<(), CheckError> {
    counters(run).await?;
    chain(run).await?;
    pins(run).await?;
    damaged(run).await?;
    withdrawn(run).await?;
    let mut conn = run.checker.db.reader().await?;
    let loose = db::check::loose_segments(conn.exec()).await?;
    let off = db::settings::lookup(conn.exec(), COLLECTION_OFF).await?;
    if loose > 0 {
        let detail = format!("{loose} of them belong to no NAR; `snowbankd repair` removes them");
        run.found("W3", "segments of manifests", detail);
    }
    if let Some(why) = off {
        // As it should be after a backup was restored, and nothing that contradicts an invariant.
        run.observer.noted(why);
    }
    Ok(())
}

/// C2: no id is given out again.
async fn counters(run: &mut Run<'_>) -> Result<(), CheckError> {
    for counter in db::check::counters(run.checker.db.reader().await?.exec()).await? {
        let named = if counter.name == "chunk" { run.stats.highest_named_chunk } else { 0 };
        let highest = counter.highest.max(i64::try_from(named).unwrap_or(i64::MAX));
        let detail = match counter.next {
            None => "it is not there".to_owned(),
            Some(next) if next <= highest => {
                format!("it would give {next}, and {highest} is in use")
            }
            Some(_) => continue,
        };
        run.found("C2", format!("counter `{}`", counter.name), detail);
    }
    Ok(())
}

/// C3: the links follow one another, and all but the last one are known to be written.
async fn chain(run: &mut Run<'_>) -> Result<(), CheckError> {
    let links = db::chain::links(run.checker.db.reader().await?.exec()).await?;
    for (newer, older) in links.iter().zip(links.iter().skip(1)) {
        let subject = format!("link {} of the chain", older.link.number);
        if older.written.is_none() {
            run.found("C3", subject, "it is not known to be written, and a later one is there");
        } else if older.link.number + 1 != newer.link.number {
            run.found("C3", subject, format!("link {} follows it", newer.link.number));
        }
    }
    Ok(())
}

/// What is pinned is visible, or withdrawn. (A look at both in one statement: neither is seen
/// without the other.)
async fn pins(run: &mut Run<'_>) -> Result<(), CheckError> {
    let mut conn = run.checker.db.reader().await?;
    let loose = db::check::loose_pins(conn.exec(), run.checker.now, PINS).await?;
    let empty = db::check::pins_without_generation(conn.exec(), PINS).await?;
    drop(conn);
    for pin in loose {
        let subject =
            format!("pin {} of the cache {}, generation {}", pin.name, pin.cache, pin.generation);
        run.found(
            "pins",
            subject,
            format!("its path {} is neither visible nor withdrawn", pin.path),
        );
    }
    for (cache, name) in empty {
        run.found(
            "pins",
            format!("pin {name} of the cache {cache}"),
            "it stands for a generation that is not there",
        );
    }
    Ok(())
}

/// Chunks that are retired, by pack: which of them are missed is said by the paths that are
/// withdrawn.
async fn damaged(run: &mut Run<'_>) -> Result<(), CheckError> {
    let (mut after, mut last) = (0, None);
    loop {
        let page = db::damage::page(run.checker.db.reader().await?.exec(), after, PAGE).await?;
        let Some(end) = page.last() else { return Ok(()) };
        after = end.id;
        for chunk in page {
            run.stats.damaged_chunks += 1;
            // The first of a pack stands for the others.
            if last != Some(chunk.pack_key) {
                last = Some(chunk.pack_key);
                let subject =
                    format!("chunk {} ({}) of the pack {}", chunk.id, chunk.name, chunk.pack_key);
                let detail = format!(
                    "found damaged on {}: {}; `snowbankd repair` settles it and others of that \
                     pack",
                    utc(chunk.found),
                    chunk.reason
                );
                run.found("damage", subject, detail);
            }
        }
    }
}

async fn withdrawn(run: &mut Run<'_>) -> Result<(), CheckError> {
    let mut after = (CacheId(i64::MIN), String::new());
    let caches = db::caches::list(run.checker.db.reader().await?.exec()).await?;
    loop {
        let page =
            db::damage::withdrawn(run.checker.db.reader().await?.exec(), (after.0, &after.1), PAGE)
                .await?;
        let Some(end) = page.last() else { return Ok(()) };
        after = (end.cache, end.hash.clone());
        for path in page {
            run.stats.withdrawn_paths += 1;
            let cache = caches.iter().find(|cache| cache.id == path.cache);
            let cache =
                cache.map_or_else(|| path.cache.to_string(), |cache| cache.name.to_string());
            let detail = format!(
                "withdrawn since {}: {}; push it again to make it whole, or forget it with \
                 `snowbankd repair --forget-withdrawn`",
                utc(path.since),
                path.reason
            );
            run.found("damage", format!("path {} of the cache {cache}", path.base_name()), detail);
        }
    }
}
