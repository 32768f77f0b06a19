//! One push of entries of one cache, and the outcome of each.

use std::sync::Arc;

use snowbank_core::store_path::StorePath;

use super::DrainOptions;
use crate::api::{Api, ApiErrorKind};
use crate::cli::GlobalArgs;
use crate::config::resolve_target;
use crate::exit::{Exit, Failure};
use crate::progress::{Progress, Style};
use crate::push::{Ledger, LedgerOptions, PathOutcome, PushError, PushOptions, Summary, push};
use crate::queue::Entry;
use crate::queue::database::Settlement;
use crate::store::{COLLECTED, Store};

/// A push that has ended.
pub(super) struct Batch {
    /// The outcome of each entry, in their order.
    pub(super) outcomes: Vec<Outcome>,
    /// The failure of the push as a whole.
    pub(super) outage: Option<Outage>,
    /// The cache and the server, and the push in numbers, if it began.
    pub(super) summary: Option<(String, Summary)>,
}

/// The reason why a push failed as a whole.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    pub(super) reason: String,
    pub(super) exit: Exit,
    /// Whether the failure may be that of one path, whose bytes or names a request carried.
    pub(super) is_of_contents: bool,
}

/// The outcome of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// In the cache, or upstream.
    Pushed,
    /// Not pushed, as a filter asks for.
    LeftOut { reason: String },
    /// Not in the store any more.
    Collected,
    /// Not pushed, and trying again does not help.
    Refused { reason: String, exit: Exit },
    /// Not pushed.
    Failed { reason: String, exit: Exit },
    /// Nothing could be pushed.
    Unavailable { reason: String, exit: Exit },
}

impl Batch {
    /// Pushes the closures of `entries`, all of one cache.
    pub(super) async fn push(
        global: &GlobalArgs,
        options: &DrainOptions,
        entries: &[Entry],
    ) -> Self {
        match Self::try_push(global, options, entries).await {
            Ok(batch) => batch,
            Err(failure) => {
                let outage = Outage::new(&failure, false);
                let outcomes = vec![outage.outcome(); entries.len()];
                Self { outcomes, outage: Some(outage), summary: None }
            }
        }
    }

    /// [`Batch::push`]. Fails where no push could begin.
    async fn try_push(
        global: &GlobalArgs,
        options: &DrainOptions,
        entries: &[Entry],
    ) -> Result<Self, Failure> {
        let cache = entries.first().map_or("", |entry| entry.cache.as_str());
        let target = resolve_target(global, cache)?;
        let api = Api::new(&target)?;
        // A store for each push: temporary roots last as long as it is open.
        let store = Store::open(options.store.clone()).await?;
        let parse = |entry: &Entry| StorePath::parse(store.store_dir(), &entry.store_path).ok();
        let paths: Vec<Option<StorePath>> = entries.iter().map(parse).collect();
        let named: Vec<StorePath> = paths.iter().flatten().cloned().collect();
        let valid = store.valid_paths(&named).await?;
        let roots: Vec<StorePath> = named.into_iter().filter(|path| valid.contains(path)).collect();

        let progress = Arc::new(Progress::new(Style::Silent));
        let ledger_options = LedgerOptions { mute: true, ..LedgerOptions::default() };
        let mut ledger = Ledger::open(ledger_options, &progress)?;
        ledger.follow(roots.iter().map(|path| path.full(store.store_dir())));
        let push_options = PushOptions {
            filter: target.filter.with(&options.push.filter),
            ..options.push.clone()
        };
        let pushed = if roots.is_empty() {
            Ok(())
        } else {
            let upstreams = &options.upstreams;
            push(&api, &store, &roots, upstreams, &push_options, &mut ledger, &progress).await
        };
        ledger.finish()?;
        let summary = ledger.has_begun().then(|| {
            (format!("{} at {}", api.cache(), api.server_url()), ledger.summary().clone())
        });
        let outage = pushed.err().map(|error| {
            let is_of_contents = is_of_contents(&error);
            Outage::new(&error.into(), is_of_contents)
        });
        let outcomes = paths.into_iter().map(|path| match path {
            None => Outcome::Refused {
                reason: format!("it is no path in {}", store.store_dir()),
                exit: Exit::Store,
            },
            Some(path) if !valid.contains(&path) => Outcome::Collected,
            Some(path) => {
                let known = ledger.outcome(&path.full(store.store_dir()));
                Outcome::of(known, outage.as_ref())
            }
        });
        Ok(Self { outcomes: outcomes.collect(), outage, summary })
    }
}

/// Whether a failure of the whole push may be about the contents of a request.
fn is_of_contents(error: &PushError) -> bool {
    match error {
        PushError::Api(error) => {
            matches!(error.kind(), ApiErrorKind::TooLarge | ApiErrorKind::Rejected)
        }
        PushError::Internal(_) => true,
        _ => false,
    }
}

impl Outage {
    fn new(failure: &Failure, is_of_contents: bool) -> Self {
        Self { reason: failure.to_string(), exit: failure.exit, is_of_contents }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Unavailable { reason: self.reason.clone(), exit: self.exit }
    }
}

impl Outcome {
    /// The outcome of a path that the ledger knows, or that the push did not get to.
    fn of(known: Option<&PathOutcome>, outage: Option<&Outage>) -> Self {
        match (known, outage) {
            (Some(PathOutcome::Cached), _) => Self::Pushed,
            (Some(PathOutcome::LeftOut { reason }), _) => Self::LeftOut { reason: reason.clone() },
            (Some(PathOutcome::Failed { reason, exit }), _) => {
                let (reason, exit) = (reason.clone(), *exit);
                match exit {
                    Exit::Refused | Exit::Different | Exit::Damaged => {
                        Self::Refused { reason, exit }
                    }
                    _ => Self::Failed { reason, exit },
                }
            }
            (None, Some(outage)) => outage.outcome(),
            (None, None) => Self::Failed {
                reason: "the push ended without a word of it".to_owned(),
                exit: Exit::Unexpected,
            },
        }
    }

    /// The exit code of this outcome.
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::Pushed | Self::LeftOut { .. } => Exit::Success,
            Self::Collected => Exit::Store,
            Self::Refused { exit, .. }
            | Self::Failed { exit, .. }
            | Self::Unavailable { exit, .. } => *exit,
        }
    }

    /// Shows the outcome, if it is news.
    pub(super) fn report(&self, entry: &Entry) {
        let path = &entry.store_path;
        match self {
            Self::Pushed => tracing::info!("pushed to {}: {path}", entry.cache),
            Self::LeftOut { reason } => {
                tracing::info!("left out for {}: {path} ({reason})", entry.cache);
            }
            Self::Collected => tracing::warn!("{path} is dropped: {COLLECTED}"),
            Self::Refused { reason, .. } => tracing::error!(
                "{path} is set aside: {reason}; `snowbank queue retry {path}` tries it again"
            ),
            Self::Failed { reason, .. } if entry.reason.as_ref() != Some(reason) => {
                tracing::warn!("{path} is tried again: {reason}");
            }
            Self::Failed { .. } | Self::Unavailable { .. } => {}
        }
    }

    /// How the entry goes on: when a failed path is tried again, and when a whole cache is.
    pub(super) fn settlement(self, own_end: i64, outage_ends_at: i64) -> Settlement {
        match self {
            Self::Pushed | Self::LeftOut { .. } => Settlement::Done,
            Self::Collected => Settlement::Collected,
            Self::Refused { reason, .. } => Settlement::Aside { reason },
            Self::Failed { reason, .. } => {
                Settlement::Postponed { reason, next_at: own_end, is_outage: false }
            }
            Self::Unavailable { reason, .. } => {
                Settlement::Postponed { reason, next_at: outage_ends_at, is_outage: true }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_that_was_refused_is_set_aside() {
        let outage =
            Outage { reason: "down".to_owned(), exit: Exit::Unreachable, is_of_contents: false };
        let failed = |exit| PathOutcome::Failed { reason: "no".to_owned(), exit };
        let settled =
            |known: Option<&PathOutcome>| Outcome::of(known, Some(&outage)).settlement(1, 2);
        assert_eq!(settled(Some(&PathOutcome::Cached)), Settlement::Done);
        let left_out = PathOutcome::LeftOut { reason: "large".to_owned() };
        assert_eq!(settled(Some(&left_out)), Settlement::Done);
        for exit in [Exit::Refused, Exit::Different, Exit::Damaged] {
            let aside = Settlement::Aside { reason: "no".to_owned() };
            assert_eq!(settled(Some(&failed(exit))), aside);
        }
        for exit in [Exit::Store, Exit::Server, Exit::StorageFull, Exit::Receipt] {
            let own =
                Settlement::Postponed { reason: "no".to_owned(), next_at: 1, is_outage: false };
            assert_eq!(settled(Some(&failed(exit))), own);
        }
        let whole =
            Settlement::Postponed { reason: "down".to_owned(), next_at: 2, is_outage: true };
        assert_eq!(settled(None), whole);
    }
}
