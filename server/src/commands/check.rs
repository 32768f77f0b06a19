//! `snowbankd check`: proves that database and storage agree, beside a running server or without one.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use super::Beside;
use super::cli::CheckArgs;
use crate::config::Overrides;
use crate::db;
use crate::gc::check::{CheckStats, Checker};
use crate::pack::{Packs, ReadBudget};
use crate::serving::NarBody;
use crate::storage::Storage;

/// Memory for what is read ahead while NARs are decoded.
const READ_AHEAD_BYTES: u64 = 24 << 20;

/// Prints each finding and a summary; the exit code is 0 only when there was nothing to find.
pub(super) async fn check(overrides: &Overrides, args: CheckArgs) -> anyhow::Result<ExitCode> {
    let beside = Beside::open(overrides).await?;
    let storage = Arc::new(Storage::attach(&beside.config.storage).await?);
    // Everything would be missing from another one's storage.
    let instance = db::instance::lookup(beside.db.reader().await?.exec()).await?;
    storage.verify_owner(&instance.context("the database has no instance row; start the server once")?).await?;
    let packs = Packs::new(beside.db.clone(), Arc::clone(&storage), 0, 0);
    let nars = NarBody { db: beside.db.clone(), packs, read_ahead: ReadBudget::new(READ_AHEAD_BYTES) };
    let checker = Checker { db: &beside.db, storage: &storage, nars: &nars, read_data: args.read_data };
    let mut findings = 0_u64;
    let stats = checker
        .run(&mut |finding| {
            findings += 1;
            println!("{finding}");
        })
        .await?;
    beside.db.close().await;
    println!("{}", summary(stats, findings));
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn summary(stats: CheckStats, findings: u64) -> String {
    let CheckStats { packs, chunks, nars, paths, unnamed_objects, read_bytes } = stats;
    let verdict = match findings {
        0 => "no problem found".to_owned(),
        1 => "1 problem found".to_owned(),
        many => format!("{many} problems found"),
    };
    format!(
        "{verdict}: {packs} packs, {chunks} chunks, {nars} NARs, {paths} paths; {unnamed_objects} objects without rows \
         (harmless; a stopped push leaves them); {read_bytes} bytes read"
    )
}
