//! The server's parts, put together once at start. Endpoints take from here what they hand to
//! domain functions.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::{Admin, AuditQueue, PushLog};
use crate::admission::{self, Budgets, ConnectionLimits, Connections, Listings, ResponsePlaces};
use crate::auth::Verifier;
use crate::chain::Chain;
use crate::config::{Config, LimitsConfig, Seconds};
use crate::damage::{Inspector, Withdrawal};
use crate::db::Db;
use crate::db::settings::cut_params;
use crate::directory::Directory;
use crate::gc::collect::Collector;
use crate::ingest::{Ingest, IngestLimits};
use crate::pack::{Packs, ReadBudget};
use crate::serving::{Bench, Lookups, NarBody, Narinfos, PathUses, SmallNars};
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
    /// Whose the storage is.
    pub chain: Chain,
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
    pub budgets: Arc<Budgets>,
    /// Who is connected.
    pub connections: Connections,
    /// NARs that are being sent.
    pub downloads: ResponsePlaces,
    /// Listings that are made and sent.
    pub answers: ResponsePlaces,
    /// Who may ask for listings.
    pub listings: Listings,
    /// How clients are told to cut.
    pub cut: CutParams,
    /// What operators work on.
    pub admin: Admin,
    /// What waits for the audit log.
    pub audit: AuditQueue,
    /// Pushes that are under way, or a moment ago were.
    pub pushes: PushLog,
    /// What takes away what is not kept.
    pub collector: Collector,
    /// Whether there is room to write.
    pub free_space: FreeSpace,
}

impl App {
    /// Puts the parts together. `[limits] memory` is shared out here, and nowhere else: half to
    /// pushes (see [`Budgets::new`]), an eighth to packs that were just written, an eighth to
    /// reading them back, a quarter to read-ahead. Answers that were given a moment ago are kept in
    /// 16 MiB besides.
    ///
    /// # Errors
    /// When the settings in the database cannot be read.
    pub async fn new(
        config: Config,
        chain: Chain,
        admin: Admin,
        verifier: Verifier,
    ) -> anyhow::Result<Self> {
        let (db, storage) = (admin.db.clone(), Arc::clone(chain.storage()));
        let memory = config.limits.memory.bytes();
        let packs = Packs::new(db.clone(), Arc::clone(&storage), memory / 8);
        // For caches that have no retention of their own. Without either they keep everything.
        let retention = config.gc.retention;
        let budgets = Arc::new(Budgets::new(admission::Limits {
            memory_bytes: memory / 2,
            share_percent: config.limits.client_share,
        }));
        let limits = IngestLimits {
            bundle_bytes: config.limits.bundle_size.bytes().min(budgets.bodies.largest()),
            retention,
            verify_threads: config.limits.effective_verify_threads(),
            max_nar_size: config.limits.max_nar_size.bytes(),
            read_back: memory / 8,
            pins_per_cache: config.limits.pins_per_cache,
        };
        let inspector = Inspector::new(chain.clone(), packs.clone());
        let lookups = Lookups::new(&db);
        let free_space = FreeSpace::new(&config.storage, &config.database, config.min_free);
        let room = free_space.clone();
        let mut conn = db.reader().await?;
        let cut = cut_params(conn.exec()).await?.unwrap_or(CutParams::DEFAULT);
        drop(conn);
        Ok(Self {
            audit: AuditQueue::default(),
            pushes: PushLog::default(),
            collector: Collector::new(chain.clone(), packs.clone(), room, config.gc.clone()),
            free_space,
            directory: Directory::new(db.clone(), admin.sealer.clone()),
            ingest: Ingest::new(
                chain.clone(),
                packs.clone(),
                inspector.clone(),
                Arc::clone(&budgets),
                limits,
            ),
            narinfos: Narinfos::new(lookups.clone()),
            lookups,
            nars: NarBody {
                db: db.clone(),
                packs,
                read_ahead: ReadBudget::new(memory / 4),
                bench: Bench::default(),
            },
            small_nars: SmallNars::new(),
            uses: PathUses::default(),
            retention,
            inspector,
            budgets,
            connections: Connections::new(connection_limits(&config.limits)),
            downloads: downloads(&config.limits),
            answers: answers(),
            listings: Listings::new(
                db.listing_readers(),
                config.limits.anonymous_listings,
                config.limits.listings_per_token,
            ),
            config,
            db,
            chain,
            storage,
            verifier,
            cut,
            admin,
        })
    }

    /// Applies the deadlines of connections and responses. To be called about once a second.
    pub fn sweep(&self) {
        self.connections.sweep();
        self.downloads.sweep();
        self.answers.sweep();
    }

    /// The most bytes of a bundle: as configured, and no more than one body may have of the memory.
    #[must_use]
    pub fn bundle_bytes(&self) -> u64 {
        self.ingest.limits().bundle_bytes
    }

    /// Drops what is kept of paths that are out of sight now, so that this server says so at once.
    pub fn forget(&self, withdrawn: &Withdrawal) {
        for path in &withdrawn.paths {
            self.small_nars.forget(path.cache, withdrawn.nar_hash);
            if let Some(hash) = StorePathHash::from_chars(path.hash.as_bytes()) {
                self.narinfos.forget(path.cache, hash);
            }
        }
    }
}

/// How long a download waits for its place.
const DOWNLOAD_PATIENCE: Duration = Duration::from_secs(20);

fn downloads(limits: &LimitsConfig) -> ResponsePlaces {
    ResponsePlaces::new(
        "download",
        "is sending as many NARs as it may",
        limits.downloads,
        DOWNLOAD_PATIENCE,
    )
}

/// Listings that are made, or wait for their clients to read them, at the same time; each is a MiB
/// at most.
const MAX_ANSWERS: usize = 16;
/// How long a listing waits for room.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

fn answers() -> ResponsePlaces {
    ResponsePlaces::new(
        "answer",
        "has as many listings to send as it may",
        MAX_ANSWERS,
        ANSWER_PATIENCE,
    )
}

fn connection_limits(limits: &LimitsConfig) -> ConnectionLimits {
    let duration = |seconds: Seconds| Duration::from_secs(seconds.get());
    ConnectionLimits {
        connections: limits.connections,
        per_address: limits.connections_per_address,
        requests: limits.requests,
        first_request: duration(limits.first_request_timeout),
        idle: duration(limits.idle_timeout),
        write: duration(limits.write_timeout),
    }
}
