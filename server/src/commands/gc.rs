//! `snowbankd gc`: a collection, beside a running server or without one.

use std::process::ExitCode;
use std::sync::Arc;

use snowbank_cli::confirm;

use super::cli::GcCommandArgs;
use super::{CommandContext, print};
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
    let context = CommandContext::open(overrides).await?;
    let chain = context.joined_chain().await?;
    let packs = Packs::new(context.db.clone(), Arc::clone(chain.storage()), 0);
    let config = &context.config;
    let room = FreeSpace::new(&config.storage, &config.database, config.min_free);
    let collector = Collector::new(chain, packs, room, config.gc.clone());
    let request = args.flags.into_request();
    let report = collector.run(&request, &unix_now, &mut |text| eprintln!("{text}")).await?;
    if !request.dry_run {
        let mut tx = context.db.upkeep_tx().await?;
        db::audit::add(&mut tx, &[Actor::host().collected(&request, unix_now())]).await?;
        tx.commit().await?;
    }
    context.db.close().await;
    print(args.output.json, &report)?;
    Ok(ExitCode::SUCCESS)
}
