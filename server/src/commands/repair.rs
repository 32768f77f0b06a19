//! `snowbankd repair`: says what it will do, asks, and does it, beside a running server or without
//! one.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use snowbank_cli::confirm;

use super::check::{Stores, drawn};
use super::cli::RepairArgs;
use crate::clock::unix_now;
use crate::config::{Overrides, Size};
use crate::integrity::repair::{RepairOptions, Repairer};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Prints the plan and, once it is done, what was done.
pub(super) async fn repair(overrides: &Overrides, args: RepairArgs) -> anyhow::Result<ExitCode> {
    let stores = if args.dry_run {
        Stores::open(overrides).await?
    } else {
        Stores::open_joined(overrides).await?
    };
    stores.find_paths(args.content.paths.as_ref()).await?;
    let repairer = Repairer {
        chain: &stores.chain,
        db: &stores.context.db,
        storage: &stores.storage,
        packs: &stores.packs,
        nars: &stores.nars,
        options: RepairOptions {
            read_data: drawn(args.read_data, args.seed)?,
            paths: args.content.paths,
            rate: args.content.rate.map(Size::bytes),
            forget_withdrawn: args.forget_withdrawn,
        },
        now: unix_now(),
    };
    let mut shown_at = Instant::now();
    let shows_progress = io::stderr().is_terminal();
    let mut progress = move |line: String| {
        if shows_progress && shown_at.elapsed() >= PROGRESS_INTERVAL {
            shown_at = Instant::now();
            eprintln!("{line}");
        }
    };
    let plan = repairer.plan(&mut progress).await?;
    say(&plan.to_string());
    if args.dry_run || plan.is_empty() {
        stores.context.db.close().await;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes {
        confirm("This changes the database, and may take paths out of sight.", "repair")?;
    }
    let report = repairer.execute(plan, &mut progress).await?;
    stores.context.db.close().await;
    say(&report.to_string());
    Ok(ExitCode::SUCCESS)
}

/// A pipe that nobody reads any more is no failure of the repair.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
