//! Chunk ids, reserved from the database in blocks and handed out in runs.
//!
//! Invariant (C2): an id is given out at most once, ever. A block that a stopped server had not
//! used up is lost, which is harmless: there are 2⁶³ of them. The chunks of one pack get
//! neighbouring ids, so that manifests are short runs.

use std::ops::Range;

use tokio::sync::Mutex;

use crate::db::counters::Counter;
use crate::db::{Db, DbError};

/// How many ids one reservation takes at least: one small transaction per this many chunks.
const IDS_PER_BLOCK: u32 = 16_384;

/// Hands out runs of neighbouring chunk ids.
#[derive(Debug, Default)]
pub struct ChunkIds {
    free: Mutex<Range<u64>>,
}

impl ChunkIds {
    /// A run of `count` ids that nobody had before and nobody will have again.
    ///
    /// # Errors
    /// When the database cannot reserve a new block.
    pub async fn take(&self, db: &Db, count: u32) -> Result<Range<u64>, DbError> {
        let mut free = self.free.lock().await;
        if free.end - free.start < u64::from(count) {
            let block = IDS_PER_BLOCK.max(count);
            let first = db.reserve(Counter::Chunk, block).await?;
            let first = u64::try_from(first)
                .map_err(|_| DbError::corrupt("the chunk counter is negative"))?;
            *free = first..first + u64::from(block);
        }
        let run = free.start..free.start + u64::from(count);
        free.start = run.end;
        Ok(run)
    }

    /// Forgets what is reserved: an id of it turned out to be taken, by rows that were rebuilt from
    /// packs.
    pub async fn forget(&self) {
        *self.free.lock().await = 0..0;
    }
}
