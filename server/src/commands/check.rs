//! `snowbankd check`: proves that database and storage agree, beside a running server or without
//! one.

mod output;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};

use super::cli::CheckArgs;
use super::{CommandContext, explain};
use crate::chain::Chain;
use crate::clock::unix_now;
use crate::config::{Overrides, Size};
use crate::db;
use crate::integrity::check::{CheckOptions, Checker};
use crate::integrity::{PathPattern, Percent, Sample, matches_any};
use crate::pack::{Packs, ReadBudget};
use crate::serving::{Bench, NarBody};
use crate::storage::Storage;
use output::CheckOutput;

/// Memory for what is read ahead while NARs are decoded.
const READ_AHEAD_BYTES: u64 = 24 << 20;

/// What a check could not find out for want of an answer.
const UNFINISHED: u8 = 2;

/// Prints each finding and a summary; the exit code is 0 only when there was nothing to find, and 2
/// when not all could be looked at.
pub(super) async fn check(overrides: &Overrides, args: CheckArgs) -> anyhow::Result<ExitCode> {
    match run(overrides, args).await {
        Ok(code) => Ok(code),
        Err(error) => {
            eprintln!("snowbankd: error: the check could not be finished: {}", explain(&error));
            Ok(ExitCode::from(UNFINISHED))
        }
    }
}

async fn run(overrides: &Overrides, args: CheckArgs) -> anyhow::Result<ExitCode> {
    let stores = Stores::open(overrides).await?;
    stores.find_paths(args.content.paths.as_ref()).await?;
    let sample = drawn(args.read_data, args.seed)?;
    let (paths, rate) = (args.content.paths, args.content.rate.map(Size::bytes));
    let options = CheckOptions { read_data: sample, paths, rate };
    let mut output =
        CheckOutput::new(args.output.json, args.resume.as_deref(), &stores.instance, options)?;
    let checker = Checker {
        chain: &stores.chain,
        db: &stores.context.db,
        storage: &stores.storage,
        nars: &stores.nars,
        options: output.options().clone(),
        now: unix_now(),
    };
    let (place, stats) = output.begin();
    let outcome = checker.run(place, stats, &mut output).await;
    stores.context.db.close().await;
    match outcome {
        Ok(stats) => Ok(if output.end(&stats)? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Err(error) => {
            output.break_off(&error)?;
            Err(error.into())
        }
    }
}

/// The packs that are to be read, if any.
pub(super) fn drawn(share: Option<Percent>, seed: Option<u64>) -> anyhow::Result<Option<Sample>> {
    let sample = share.map(|share| Sample::draw(share, seed)).transpose();
    sample.map_err(|error| anyhow!("the system gives no random number: {error}"))
}

/// Database and storage, found to belong together.
pub(super) struct Stores {
    pub(super) context: CommandContext,
    pub(super) chain: Chain,
    pub(super) storage: Arc<Storage>,
    pub(super) packs: Packs,
    pub(super) nars: NarBody,
    /// The instance's id and epoch.
    pub(super) instance: String,
}

impl Stores {
    /// For reading alone.
    pub(super) async fn open(overrides: &Overrides) -> anyhow::Result<Self> {
        let context = CommandContext::open(overrides).await?;
        let chain = context.chain().await?;
        Self::over(context, chain).await
    }

    /// For what changes rows or objects.
    pub(super) async fn open_joined(overrides: &Overrides) -> anyhow::Result<Self> {
        let context = CommandContext::open(overrides).await?;
        let chain = context.joined_chain().await?;
        Self::over(context, chain).await
    }

    async fn over(context: CommandContext, chain: Chain) -> anyhow::Result<Self> {
        let storage = Arc::clone(chain.storage());
        let instance = db::instance::lookup(context.db.reader().await?.exec()).await?;
        let instance =
            instance.context("the database has no instance row; start the server once")?;
        let packs = Packs::new(context.db.clone(), Arc::clone(&storage), 0);
        let read_ahead = ReadBudget::new(READ_AHEAD_BYTES);
        let nars = NarBody {
            db: context.db.clone(),
            packs: packs.clone(),
            read_ahead,
            bench: Bench::default(),
        };
        Ok(Self {
            context,
            chain,
            storage,
            packs,
            nars,
            instance: format!("{} {}", instance.id, instance.epoch),
        })
    }

    /// Refuses a pattern that means no path.
    pub(super) async fn find_paths(&self, pattern: Option<&PathPattern>) -> anyhow::Result<()> {
        if let Some(pattern) = pattern
            && !matches_any(&self.context.db, pattern).await?
        {
            bail!(
                "no path fits `--paths {pattern}`; `snowbankd path list CACHE` shows which there \
                 are"
            );
        }
        Ok(())
    }
}
