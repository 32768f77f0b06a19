//! The other NARs that name a chunk that was retired: found by reading all manifests, while the
//! server goes on, and withdrawn too. What a stopped server had not got to is found when it is
//! served, or by `repair`.

use std::time::{Duration, Instant};

use roaring::RoaringTreemap;
use snowbank_core::manifest::Segment;
use tokio_util::sync::CancellationToken;

use super::{Inspector, Withdrawal, withdraw_nar};
use crate::db::check::NarFacts;
use crate::db::{self, Db, DbError};

/// Rows read at a time.
const PAGE: u32 = 128;
/// What is retired within this time is looked for together.
const GATHER: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(30);

impl Inspector {
    /// Looks through the manifests whenever chunks were retired, until `stop`. `forget` is told
    /// what is out of sight now.
    pub async fn follow(
        self,
        now: impl Fn() -> i64 + Send,
        forget: impl Fn(&Withdrawal) + Send + Sync,
        stop: CancellationToken,
    ) {
        let mut pause = GATHER;
        loop {
            let gathered = async {
                self.chunks_retired().await;
                tokio::time::sleep(pause).await;
            };
            if stop.run_until_cancelled(gathered).await.is_none() {
                return;
            }
            pause = GATHER;
            let ids = self.take_unfollowed();
            match stop.run_until_cancelled(self.withdraw_all_with(&ids, now(), &forget)).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "NARs with damaged chunks were not looked for; they are \
                        in half a minute");
                    pause = RETRY;
                    self.leave_to_follow(ids.iter());
                }
            }
        }
    }

    /// Withdraws every NAR that names one of `ids`.
    async fn withdraw_all_with(
        &self,
        ids: &RoaringTreemap,
        now: i64,
        forget: &(impl Fn(&Withdrawal) + Sync),
    ) -> Result<(), DbError> {
        let db = self.db();
        let mut after = 0;
        while !ids.is_empty() {
            let began = Instant::now();
            let page = db::check::nars(db.reader().await?.exec(), after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            // Rows that make no sense cannot be served, and are told of then.
            for facts in page.into_iter().filter_map(|(_, row)| row.ok()) {
                if !names_any(db, &facts, ids).await? {
                    continue;
                }
                // A repair may have made them whole meanwhile.
                let damaged = still_damaged(db, ids).await?;
                if !names_any(db, &facts, &damaged).await? {
                    continue;
                }
                if !self.may_follow() {
                    return Ok(());
                }
                let reason = "some of its chunks are damaged or gone";
                forget(&withdraw_nar(db, facts.nar.id, facts.nar.nar_hash, reason, now).await?);
            }
            // Half of the time is the others'.
            tokio::time::sleep(began.elapsed()).await;
        }
        Ok(())
    }
}

/// Those of `ids` that are damaged as far as is known now.
async fn still_damaged(db: &Db, ids: &RoaringTreemap) -> Result<RoaringTreemap, DbError> {
    let (mut damaged, mut after) = (RoaringTreemap::new(), 0);
    loop {
        let page = db::damage::page(db.reader().await?.exec(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(damaged) };
        after = last.id;
        damaged.extend(page.iter().map(|chunk| chunk.id).filter(|id| ids.contains(*id)));
    }
}

async fn names_any(db: &Db, facts: &NarFacts, ids: &RoaringTreemap) -> Result<bool, DbError> {
    let named = |data: &[u8]| {
        Segment::decode(data)
            .is_ok_and(|segment| segment.entries.iter().any(|entry| ids.contains(entry.id)))
    };
    if named(&facts.first) {
        return Ok(true);
    }
    for seq in 1..facts.nar.segment_count {
        let data = db::nars::segment(db.reader().await?.exec(), facts.nar.id, seq).await?;
        if data.is_some_and(|data| named(&data)) {
            return Ok(true);
        }
    }
    Ok(false)
}
