//! `snowbank verify-receipts`: does every receipt of a file still hold?
//!
//! A receipt holds when one of its signatures is the cache's and the cache serves the path with
//! that hash and size. Lines that are no receipts (failed, different, skipped) are counted and
//! said, nothing more.

mod check;

use std::collections::BTreeMap;
use std::io::{self, Write};

use futures_util::StreamExt;
use snowbank_core::receipt::{Receipt, ReceiptLine};

use super::receipts::{ReceiptFile, pinned_keys};
use crate::cli::{GlobalArgs, VerifyReceiptsArgs};
use crate::config::resolve_server;
use crate::exit::{Exit, Failure};

use check::{CacheChecker, Verdict};

/// Receipts checked at the same time.
const PARALLEL_REQUESTS: usize = 16;

/// Runs `snowbank verify-receipts`.
///
/// # Errors
/// A file that cannot be read, a server that does not answer. Receipts that do not hold are an
/// outcome, not an error.
pub async fn run(global: &GlobalArgs, args: VerifyReceiptsArgs) -> Result<Exit, Failure> {
    let pinned = pinned_keys(&args.public_keys)?;
    let ReceiptFile { lines, broken } = ReceiptFile::read(&args.file)?;
    let (receipts, others) = sorted(lines);

    let server = resolve_server(global, args.server.as_deref())?;
    let mut checkers = BTreeMap::new();
    for receipt in &receipts {
        if !checkers.contains_key(&receipt.cache) {
            checkers.insert(
                receipt.cache.clone(),
                CacheChecker::open(&server, &receipt.cache, &pinned).await?,
            );
        }
    }

    let mut out = Output { json: args.json, quiet: global.quiet, holding: 0, failing: 0 };
    for (line, reason) in &broken {
        out.line(*line, reason)?;
    }
    let checkers = &checkers;
    let mut verdicts = futures_util::stream::iter(&receipts)
        .map(|receipt| async move {
            // Every cache of a receipt has a checker by now.
            let verdict = match checkers.get(&receipt.cache) {
                Some(checker) => checker.check(receipt).await?,
                None => Verdict::NoSuchCache,
            };
            Ok::<_, Failure>((receipt, verdict))
        })
        .buffered(PARALLEL_REQUESTS);
    while let Some(verdict) = verdicts.next().await {
        let (receipt, verdict) = verdict?;
        out.receipt(receipt, &verdict)?;
    }
    out.summary(&others)
}

/// The receipts, and the other lines by what they say.
fn sorted(lines: Vec<ReceiptLine>) -> (Vec<Receipt>, BTreeMap<&'static str, u64>) {
    let (mut receipts, mut others) = (Vec::new(), BTreeMap::new());
    for line in lines {
        let other = match line {
            ReceiptLine::Receipt(receipt) => {
                receipts.push(receipt);
                continue;
            }
            ReceiptLine::Different { .. } => "different",
            ReceiptLine::SkippedUpstream { .. } => "skipped as upstream's",
            ReceiptLine::LeftOut { .. } => "left out by filters",
            ReceiptLine::Failed { .. } => "failed",
        };
        *others.entry(other).or_default() += 1;
    }
    (receipts, others)
}

/// Says what came out: failing receipts and a summary on standard error, or everything as JSON on
/// standard output.
struct Output {
    json: bool,
    quiet: bool,
    holding: u64,
    failing: u64,
}

impl Output {
    fn line(&mut self, line: usize, reason: &str) -> io::Result<()> {
        self.failing += 1;
        if self.json {
            print(&serde_json::json!({ "line": line, "holds": false, "reason": reason }))
        } else {
            writeln!(io::stderr(), "line {line}: no receipt: {reason}")
        }
    }

    fn receipt(&mut self, receipt: &Receipt, verdict: &Verdict) -> io::Result<()> {
        let path = &receipt.store_path;
        match verdict {
            Verdict::Holds { .. } => self.holding += 1,
            _ => self.failing += 1,
        }
        match verdict {
            Verdict::Holds { key } if self.json => {
                print(&serde_json::json!({ "store_path": path, "holds": true, "signed_by": key }))
            }
            Verdict::Holds { key } => {
                tracing::info!("{path}: holds, signed by {key}");
                Ok(())
            }
            _ if self.json => print(&serde_json::json!({
                "store_path": path,
                "holds": false,
                "reason": verdict.to_string(),
            })),
            _ => writeln!(io::stderr(), "{path}: {verdict}"),
        }
    }

    fn summary(&self, others: &BTreeMap<&'static str, u64>) -> Result<Exit, Failure> {
        if self.json {
            let summary = serde_json::json!({
                "holding": self.holding,
                "failing": self.failing,
                "others": others,
            });
            print(&serde_json::json!({ "summary": summary }))?;
        } else if !self.quiet || self.failing > 0 {
            let others: Vec<String> =
                others.iter().map(|(what, count)| format!(", {count} {what}")).collect();
            let others = others.concat();
            writeln!(
                io::stderr(),
                "Receipts that hold: {}, that do not: {}{others}.",
                self.holding,
                self.failing
            )?;
        }
        Ok(if self.failing == 0 { Exit::Success } else { Exit::Receipt })
    }
}

fn print(value: &serde_json::Value) -> io::Result<()> {
    writeln!(io::stdout(), "{value}")
}
