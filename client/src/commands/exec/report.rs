//! The end of `snowbank exec`: one summary, the paths that were not pushed, and the exit code of
//! the push.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::ci::CiLog;
use crate::cli::{ExecArgs, GlobalArgs};
use crate::exit::{Exit, Failure};
use crate::push::Summary;
use crate::queue::QueueError;
use crate::queue::drain::Drain;

/// Shows the outcome of the pushes, and gives its exit code.
pub(super) async fn report(
    global: &GlobalArgs,
    args: &ExecArgs,
    drain: &mut Drain<'_>,
    failure: Option<QueueError>,
    interrupted: Option<Exit>,
) -> Exit {
    let left = match failure {
        Some(error) => Err(error),
        None => drain.left().await,
    };
    let left = match left {
        Ok(left) => left,
        Err(error) => {
            let failure = Failure::from(error);
            tracing::error!("what was built may not be pushed: {failure}");
            return failure.exit;
        }
    };
    let tally = drain.tally();
    let mut failed = tally.failed().clone();
    let (why, exit) = match interrupted {
        Some(exit) => ("a signal ended the push", exit),
        None => ("the time was over", Exit::Unreachable),
    };
    for entry in left {
        failed.entry(entry.store_path).or_insert_with(|| (why.to_owned(), exit));
    }
    let mut text = String::new();
    if !global.quiet {
        for (target, summary) in tally.pushes() {
            let _ = writeln!(text, "{target}: {summary}.");
        }
        if tally.pushes().next().is_none() && failed.is_empty() {
            let _ = writeln!(text, "Nothing new was built, and nothing pushed to {}.", args.cache);
        }
    }
    if !failed.is_empty() && (args.require_push || !global.quiet) {
        let kind = if args.require_push { "error" } else { "warning" };
        let paths = if failed.len() == 1 { "path was" } else { "paths were" };
        let _ = writeln!(
            text,
            "snowbank: {kind}: {} {paths} not pushed to {}:",
            failed.len(),
            args.cache
        );
        for (path, (reason, _)) in &failed {
            let _ = writeln!(text, "  {path}: {reason}");
        }
        let _ = writeln!(text, "`snowbank push {} PATH…` pushes them later.", args.cache);
    }
    if !global.quiet {
        append_tables(args, drain, failed.len() as u64);
    }
    // Where standard error is closed, the code still tells.
    let _ = io::stderr().write_all(text.as_bytes());
    failed.values().fold(Exit::Success, |worst, (_, exit)| worst.worse(*exit))
}

/// Adds the numbers to the page of a CI run, as `push` does.
fn append_tables(args: &ExecArgs, drain: &Drain<'_>, failed: u64) {
    let log = CiLog::of_environment();
    let mut tables: Vec<(String, Summary)> = drain
        .tally()
        .pushes()
        .map(|(target, summary)| (target.to_owned(), Summary { failed, ..summary.clone() }))
        .collect();
    if tables.is_empty() && failed > 0 {
        tables.push((args.cache.clone(), Summary { failed, ..Summary::default() }));
    }
    for (target, summary) in tables {
        // Where standard error is closed, nobody reads why.
        let _ = log.append_table(&format!("Pushed to {target}"), &summary.rows());
    }
}
