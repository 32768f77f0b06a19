//! What is stored, in sums: counted once a minute by one server, and shown in the metrics of all.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::unix_now;
use crate::db::leader::{Leader, Work};
use crate::db::usage::{self, Usage};
use crate::db::{Db, DbError};

const PERIOD: Duration = Duration::from_mins(1);

/// Counts and shows until `stop`; ends promptly then, also in the middle of a query.
pub async fn run(db: Db, stop: CancellationToken) {
    let mut leader = db.leader(Work::Usage);
    while let Some(turn) = stop.run_until_cancelled(turn(&db, &mut leader)).await {
        match turn {
            Ok(Some(usage)) => record_gauges(&usage),
            Ok(None) => {}
            // The next turn tries again; the gauges keep what was counted last.
            Err(error) => tracing::warn!(%error, "what is stored could not be summed up"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_none() {
            break;
        }
    }
    leader.release().await;
}

/// Counts where this is the server to do so, and reads what was counted.
async fn turn(db: &Db, leader: &mut Leader) -> Result<Option<Usage>, DbError> {
    if leader.holds().await? {
        let usage = usage::count(db.reader().await?.exec(), unix_now()).await?;
        let mut tx = db.upkeep_tx().await?;
        usage::store(tx.exec(), &usage).await?;
        tx.commit().await?;
    }
    usage::lookup(db.reader().await?.exec()).await
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; beyond 2^53 the last digits say nothing"
)]
fn record_gauges(usage: &Usage) {
    metrics::gauge!("snowbank_stored_packs").set(usage.packs as f64);
    metrics::gauge!("snowbank_stored_bytes").set(usage.bytes as f64);
    metrics::gauge!("snowbank_stored_chunks").set(usage.chunks as f64);
    metrics::gauge!("snowbank_stored_nars").set(usage.nars as f64);
    metrics::gauge!("snowbank_stored_paths").set(usage.paths as f64);
    metrics::gauge!("snowbank_damaged_chunks").set(usage.damaged_chunks as f64);
    metrics::gauge!("snowbank_withdrawn_paths").set(usage.withdrawn_paths as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseConfig, DatabaseUrl};

    #[tokio::test]
    async fn sums_are_kept_and_the_work_stops_when_it_is_told_to() {
        let folder = tempfile::tempdir().unwrap();
        let config = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("snowbank.db")));
        let db = Db::open(&config).await.unwrap();
        let stop = CancellationToken::new();
        let work = tokio::spawn(run(db.clone(), stop.clone()));
        let counted = async {
            loop {
                let found = usage::lookup(db.reader().await.unwrap().exec()).await.unwrap();
                if let Some(usage) = found {
                    break usage;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let usage = tokio::time::timeout(Duration::from_secs(20), counted).await.unwrap();
        assert_eq!(usage, Usage { counted: usage.counted, ..Usage::default() });
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), work).await.unwrap().unwrap();
    }
}
