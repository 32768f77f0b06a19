//! The work of Nix: what the cache has is fetched from it, and what it lacks from upstream caches
//! alone, or from nowhere. Nix is started again while that helps.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use snowbank_core::receipt::ReceiptLine;
use snowbank_core::store_path::StorePath;

use super::super::receipts::ReceiptFile;
use super::nix_store::{NixStoreCommand, Process};
use super::report::Origin;
use super::source::{MAX_NAMED, Plan, Source};
use crate::exit::{Exit, Failure};
use crate::store::{Store, StoreOptions};

/// How often Nix is started while the cache has what it did not fetch.
const MAX_ATTEMPTS: u32 = 4;

/// The work of Nix, and what it needs.
pub(super) struct Engine<'a> {
    pub(super) options: &'a StoreOptions,
    pub(super) store: &'a Store,
    pub(super) source: &'a Source<'a>,
    pub(super) process: &'a Process,
}

/// The result of the work of Nix.
pub(super) struct Fetched {
    /// The paths that were fetched from the cache.
    pub(super) plan: Plan,
    /// The paths that came from upstream caches, with all that they refer to.
    from_upstream: HashSet<StorePath>,
}

impl Fetched {
    /// How a path of the closure came into the store.
    pub(super) fn origin(&self, path: &StorePath) -> Origin {
        if self.plan.paths.contains_key(path) {
            Origin::Cache
        } else if self.from_upstream.contains(path) {
            Origin::Upstream
        } else {
            Origin::Present
        }
    }
}

impl Engine<'_> {
    /// Fetches `roots`, with everything that they refer to.
    pub(super) async fn fetch(
        &self,
        command: &NixStoreCommand,
        roots: &[StorePath],
        upstreams: &[String],
        receipts: Option<&ReceiptFile>,
        was_away: &AtomicBool,
    ) -> Result<Fetched, Failure> {
        let mut plan = self.source.plan(self.store, roots).await?;
        let mut from_upstream = HashSet::new();
        if !plan.absent.is_empty() {
            if upstreams.is_empty() {
                return Err(self.absent(&plan, receipts));
            }
            from_upstream = self.fetch_upstream(command, &plan, upstreams).await?;
            plan = self.source.plan(&self.fresh_store().await?, roots).await?;
            if !plan.absent.is_empty() {
                return Err(self.absent(&plan, receipts));
            }
        }
        let planned: Vec<StorePath> = plan.paths.keys().cloned().collect();
        self.store.keep(&planned).await?;
        let mut waiting = planned.len();
        for attempt in 1.. {
            if waiting == 0 {
                break;
            }
            was_away.store(false, Ordering::Relaxed);
            command.fetch(self.process, roots).await?;
            let left = self.source.plan(&self.fresh_store().await?, roots).await?;
            if !left.absent.is_empty() {
                return Err(self.absent(&left, receipts));
            }
            // The cache was away for a moment, or Nix got further than before.
            let has_hope =
                attempt == 1 || was_away.load(Ordering::Relaxed) || left.paths.len() < waiting;
            if !left.paths.is_empty() && (attempt == MAX_ATTEMPTS || !has_hope) {
                return Err(command.failure(self.source, &left));
            }
            waiting = left.paths.len();
        }
        Ok(Fetched { plan, from_upstream })
    }

    /// Fetches the paths that the cache lacks from `upstreams`. Gives them, and all that they refer
    /// to.
    async fn fetch_upstream(
        &self,
        command: &NixStoreCommand,
        plan: &Plan,
        upstreams: &[String],
    ) -> Result<HashSet<StorePath>, Failure> {
        let paths: Vec<StorePath> = plan.absent.iter().map(|absent| absent.path.clone()).collect();
        self.store.keep(&paths).await?;
        command.fetch_from(self.process, upstreams, &paths).await?;
        let closure = self.fresh_store().await?.closure(&paths).await?;
        if let Some(path) = closure.absent.first() {
            let text = format!(
                "neither {} nor {} gave {}; the messages of Nix above say why",
                self.source,
                upstreams.join(" "),
                path.full(self.store.store_dir())
            );
            return Err(Failure::new(Exit::Absent, anyhow!(text)));
        }
        Ok(closure.infos.into_iter().map(|info| info.path).collect())
    }

    /// A connection to Nix that remembers nothing of what was asked before.
    async fn fresh_store(&self) -> Result<Store, Failure> {
        Ok(Store::open_or_create(self.options.clone()).await?)
    }

    /// The error that names the paths that the cache does not have.
    fn absent(&self, plan: &Plan, receipts: Option<&ReceiptFile>) -> Failure {
        let store_dir = self.store.store_dir();
        let mut lines = HashMap::new();
        for line in receipts.iter().flat_map(|file| &file.lines) {
            lines.insert(line.store_path(), line);
        }
        let mut text = format!("{} does not have", self.source);
        let (mut is_root, mut is_upstream) = (false, false);
        for absent in plan.absent.iter().take(MAX_NAMED) {
            let full = absent.path.full(store_dir);
            let _ = write!(text, "\n  {full}");
            match &absent.referrer {
                Some(referrer) => {
                    let _ = write!(text, ", which {} refers to", referrer.full(store_dir));
                }
                None => is_root = true,
            }
            match lines.get(full.as_str()) {
                Some(ReceiptLine::SkippedUpstream { reason, .. }) => {
                    is_upstream = true;
                    let _ = write!(text, "; its push left it to an upstream ({reason})");
                }
                Some(ReceiptLine::LeftOut { reason, .. }) => {
                    let _ = write!(text, "; a filter of its push left it out ({reason})");
                }
                Some(ReceiptLine::Failed { reason, .. }) => {
                    let _ = write!(text, "; its push failed ({reason})");
                }
                _ => {}
            }
        }
        if let more @ 1.. = plan.absent.len().saturating_sub(MAX_NAMED) {
            let _ = write!(text, "\n  and {more} more");
        }
        text.push_str(if is_root && !is_upstream {
            "\nPush it first: `snowbank push`"
        } else {
            "\n`--upstream URL` fetches it from a cache that has it; `snowbank push \
             --no-upstream-filter` pushes it too"
        });
        Failure::new(Exit::Absent, anyhow!(text))
    }
}
