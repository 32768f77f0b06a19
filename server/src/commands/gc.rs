//! `snowbankd gc`: a collection, beside a running server or without one.

use std::process::ExitCode;
use std::sync::Arc;

use snowbank_cli::confirm;

use super::cli::GcCommandArgs;
use super::{Beside, print};
use crate::admin::Actor;
use crate::clock::unix_now;
use crate::config::Overrides;
use crate::db;
use crate::gc::collect::Collector;
use crate::pack::Packs;
use crate::storage::FreeSpace;

/// Says on standard error what is being done, and prints the report.
pub(super) async fn gc(overrides: &Overrides, args: GcCommandArgs) -> anyhow::Result<ExitCode> {
    if let Some(question) = args.flags.question() {
        confirm(question, "collect")?;
    }
    if let Some(warning) = args.flags.warning() {
        eprintln!("snowbankd: warning: {warning}");
    }
    let beside = Beside::open(overrides).await?;
    let chain = beside.joined_chain().await?;
    let packs = Packs::new(beside.db.clone(), Arc::clone(chain.storage()), 0);
    let config = &beside.config;
    let room = FreeSpace::new(&config.storage, &config.database, config.min_free);
    let collector = Collector::new(chain, packs, room, config.gc.clone());
    let request = args.flags.into_request();
    let report = collector.run(&request, &unix_now, &mut |text| eprintln!("{text}")).await?;
    if !request.dry_run {
        let mut tx = beside.db.upkeep_tx().await?;
        db::audit::add(&mut tx, &[Actor::host().collected(&request, unix_now())]).await?;
        tx.commit().await?;
    }
    beside.db.close().await;
    print(args.output.json, &report)?;
    Ok(ExitCode::SUCCESS)
}
