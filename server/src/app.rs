//! The server's parts, put together once at start. Endpoints take from here what they hand to domain functions.

use std::sync::Arc;

use crate::admin::{Admin, AuditQueue};
use crate::auth::Verifier;
use crate::config::Config;
use crate::db::Db;
use crate::db::settings::cut_params;
use crate::directory::Directory;
use crate::http::Budgets;
use crate::ingest::{Ingest, IngestLimits};
use crate::pack::{Packs, ReadBudget};
use crate::serving::{Lookups, NarBody, Narinfos, SmallNars};
use crate::storage::Storage;
use snowbank_core::cut::CutParams;

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
    /// What readers ask the database.
    pub lookups: Lookups,
    /// NARs.
    pub nars: NarBody,
    /// Small ones that were asked for lately.
    pub small_nars: SmallNars,
    /// What requests may hold.
    pub budgets: Budgets,
    /// How clients are told to cut.
    pub cut: CutParams,
    /// What operators work on.
    pub admin: Admin,
    /// What waits for the audit log.
    pub audit: AuditQueue,
}

impl App {
    /// Puts the parts together. `[limits] memory` is shared out here, and nowhere else: half to request bodies, an
    /// eighth to packs that were just written, an eighth to reading them back, a quarter to read-ahead. A storage over the
    /// network gets a twelfth for blocks of packs, out of what is the request bodies' otherwise. Answers that were given a
    /// moment ago are kept in 16 MiB besides.
    ///
    /// # Errors
    /// When the settings in the database cannot be read.
    pub async fn new(config: Config, storage: Storage, admin: Admin, verifier: Verifier) -> anyhow::Result<Self> {
        let db = admin.db.clone();
        let memory = config.limits.memory.bytes();
        let storage = Arc::new(storage);
        let blocks = if storage.is_far() { memory / 12 } else { 0 };
        let packs = Packs::new(db.clone(), Arc::clone(&storage), memory / 8, blocks);
        let limits = IngestLimits {
            verify_threads: config.limits.effective_verify_threads(),
            commit_raw_bytes: config.limits.max_nar_size.bytes(),
            read_back: memory / 8,
        };
        let lookups = Lookups::new(&db);
        let mut conn = db.reader().await?;
        let cut = cut_params(conn.exec()).await?.unwrap_or(CutParams::DEFAULT);
        drop(conn);
        Ok(Self {
            audit: AuditQueue::default(),
            directory: Directory::new(db.clone(), admin.sealer.clone()),
            ingest: Ingest::new(db.clone(), packs.clone(), limits),
            narinfos: Narinfos::new(lookups.clone()),
            lookups,
            nars: NarBody { db: db.clone(), packs, read_ahead: ReadBudget::new(memory / 4) },
            small_nars: SmallNars::new(),
            budgets: Budgets::new(memory / 2 - blocks),
            config,
            db,
            storage,
            verifier,
            cut,
            admin,
        })
    }
}
