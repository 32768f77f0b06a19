//! The server's parts, put together once at start. Endpoints take from here what they hand to domain functions.

use std::sync::Arc;

use crate::admin::{Admin, AuditQueue};
use crate::admission::Budgets;
use crate::auth::Verifier;
use crate::config::{Config, Seconds};
use crate::damage::{Inspector, Withdrawn};
use crate::db::Db;
use crate::db::settings::cut_params;
use crate::directory::Directory;
use crate::gc::collect::Collector;
use crate::ingest::{Ingest, IngestLimits};
use crate::pack::{Packs, ReadBudget};
use crate::serving::{Lookups, NarBody, Narinfos, PathUses, SmallNars};
use crate::storage::{FreeSpace, Storage};
use snowbank_core::cut::CutParams;
use snowbank_core::store_path::StorePathHash;

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
    /// What was read and is to be noted down.
    pub uses: PathUses,
    /// For how long caches that do not say keep paths that nobody uses.
    pub retention: Option<Seconds>,
    /// Looks into NARs that could not be served.
    pub inspector: Inspector,
    /// What requests may hold.
    pub budgets: Budgets,
    /// How clients are told to cut.
    pub cut: CutParams,
    /// What operators work on.
    pub admin: Admin,
    /// What waits for the audit log.
    pub audit: AuditQueue,
    /// What takes away what is not kept.
    pub collector: Collector,
    /// Whether there is room to write.
    pub free_space: FreeSpace,
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
        // There is no setting for the server as a whole yet: caches that do not say keep everything.
        let retention = config.gc.retention;
        let limits = IngestLimits {
            retention,
            verify_threads: config.limits.effective_verify_threads(),
            commit_raw_bytes: config.limits.max_nar_size.bytes(),
            read_back: memory / 8,
        };
        let inspector = Inspector::new(db.clone(), Arc::clone(&storage), packs.clone());
        let lookups = Lookups::new(&db);
        let free_space = FreeSpace::new(&config.storage, &config.database, config.min_free);
        let room = free_space.clone();
        let mut conn = db.reader().await?;
        let cut = cut_params(conn.exec()).await?.unwrap_or(CutParams::DEFAULT);
        drop(conn);
        Ok(Self {
            audit: AuditQueue::default(),
            collector: Collector::new(db.clone(), Arc::clone(&storage), packs.clone(), room, config.gc.clone()),
            free_space,
            directory: Directory::new(db.clone(), admin.sealer.clone()),
            ingest: Ingest::new(db.clone(), packs.clone(), inspector.clone(), limits),
            narinfos: Narinfos::new(lookups.clone()),
            lookups,
            nars: NarBody { db: db.clone(), packs, read_ahead: ReadBudget::new(memory / 4) },
            small_nars: SmallNars::new(),
            uses: PathUses::default(),
            retention,
            inspector,
            budgets: Budgets::new(memory / 2 - blocks),
            config,
            db,
            storage,
            verifier,
            cut,
            admin,
        })
    }

    /// Drops what is kept of paths that are out of sight now, so that this server says so at once.
    pub fn forget(&self, withdrawn: &Withdrawn) {
        for path in &withdrawn.paths {
            self.small_nars.forget(path.cache, withdrawn.nar_hash);
            if let Some(hash) = StorePathHash::from_chars(path.hash.as_bytes()) {
                self.narinfos.forget(path.cache, hash);
            }
        }
    }
}
