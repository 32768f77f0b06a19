//! The server's parts, put together once at start. Endpoints take from here what they hand to domain functions.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::auth::Verifier;
use crate::config::Config;
use crate::db::Db;
use crate::db::settings::cut_params;
use crate::directory::Directory;
use crate::http::Budgets;
use crate::ingest::{Ingest, IngestLimits};
use crate::pack::Packs;
use crate::secrets::Sealer;
use crate::serving::{NarBody, Narinfos};
use crate::storage::Storage;
use snowbank_core::cut::CutParams;

/// Stored bytes of one batch that is read ahead, filled and waiting: what a read-ahead permit stands for.
const READ_AHEAD_BYTES: u64 = 2 * 1024 * 1024;

/// Everything that endpoints need.
#[derive(Debug)]
pub struct App {
    /// The settings.
    pub config: Config,
    /// Metadata.
    pub db: Db,
    /// Objects.
    pub storage: Arc<Storage>,
    /// Tokens.
    pub verifier: Verifier,
    /// Caches and their keys.
    pub directory: Directory,
    /// Pushes.
    pub ingest: Ingest,
    /// Narinfos.
    pub narinfos: Narinfos,
    /// NARs.
    pub nars: NarBody,
    /// What requests may hold.
    pub budgets: Budgets,
    /// How clients are told to cut.
    pub cut: CutParams,
}

impl App {
    /// Puts the parts together. `[limits] memory` is shared out here, and nowhere else: half to request bodies, a quarter
    /// to packs that were just written, a quarter to read-ahead.
    ///
    /// # Errors
    /// When the settings in the database cannot be read.
    pub async fn new(
        config: Config,
        db: Db,
        storage: Storage,
        sealer: Sealer,
        verifier: Verifier,
    ) -> anyhow::Result<Self> {
        let memory = config.limits.memory.bytes();
        let storage = Arc::new(storage);
        let packs = Packs::new(db.clone(), Arc::clone(&storage), memory / 4);
        let limits = IngestLimits {
            verify_threads: config.limits.effective_verify_threads(),
            commit_raw_bytes: config.limits.max_nar_size.bytes(),
        };
        let read_ahead = usize::try_from(memory / 4 / READ_AHEAD_BYTES).unwrap_or(usize::MAX >> 4).max(1);
        let mut conn = db.reader().await?;
        let cut = cut_params(conn.exec()).await?.unwrap_or(CutParams::DEFAULT);
        drop(conn);
        Ok(Self {
            directory: Directory::new(db.clone(), sealer),
            ingest: Ingest::new(db.clone(), packs.clone(), limits),
            narinfos: Narinfos::new(db.clone()),
            nars: NarBody { db: db.clone(), packs, read_ahead: Arc::new(Semaphore::new(read_ahead)) },
            budgets: Budgets::new(memory / 2),
            config,
            db,
            storage,
            verifier,
            cut,
        })
    }
}
