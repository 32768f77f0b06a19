//! What `fetch` says: the paths that fail, a summary, and the paths or JSON on standard output.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use snowbank_core::units::Bytes;

use super::closure::Verdict;
use super::source::Source;
use crate::ci::CiLog;
use crate::cli::GlobalArgs;
use crate::exit::Exit;
use crate::store::PathInfo;

/// How a path came into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This run fetched it from the cache.
    Cache,
    /// This run fetched it from another cache, or it was there with a path of that.
    Upstream,
    /// It was there.
    Present,
}

impl Origin {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "fetched",
            Self::Upstream => "upstream",
            Self::Present => "present",
        }
    }
}

/// The outcome so far.
pub(super) struct Report {
    quiet: bool,
    json: bool,
    started: Instant,
    exit: Exit,
    fetched: u64,
    upstream: u64,
    present: u64,
    /// Bytes of the NARs that were fetched from the cache.
    nar_bytes: u64,
    holding: u64,
    failing: u64,
    has_receipts: bool,
}

impl Report {
    pub(super) const fn new(global: &GlobalArgs, json: bool, started: Instant) -> Self {
        Self {
            quiet: global.quiet,
            json,
            started,
            exit: Exit::Success,
            fetched: 0,
            upstream: 0,
            present: 0,
            nar_bytes: 0,
            holding: 0,
            failing: 0,
            has_receipts: false,
        }
    }

    /// The exit code of all that was reported.
    pub(super) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Reports lines of the receipts file that are no receipts: each is a failure.
    pub(super) fn broken_lines(&mut self, broken: &[(usize, String)]) -> io::Result<()> {
        for (line, reason) in broken {
            self.fail(Exit::Receipt);
            if self.json {
                print(&json!({ "line": line, "holds": false, "reason": reason }))?;
            } else {
                writeln!(io::stderr(), "line {line}: no receipt: {reason}")?;
            }
        }
        Ok(())
    }

    /// Reports one path of the closure.
    pub(super) fn path(
        &mut self,
        full: &str,
        info: &PathInfo,
        origin: Origin,
        is_root: bool,
        verdict: &Verdict,
    ) -> io::Result<()> {
        match origin {
            Origin::Cache => {
                self.fetched += 1;
                self.nar_bytes += info.nar_size;
            }
            Origin::Upstream => self.upstream += 1,
            Origin::Present => self.present += 1,
        }
        let exit = verdict.exit();
        match verdict {
            _ if exit != Exit::Success => self.fail(exit),
            Verdict::Holds { .. } | Verdict::SameHash => self.holding += 1,
            _ => {}
        }
        self.has_receipts |= !matches!(verdict, Verdict::NotCompared) && exit != Exit::Damaged;
        if self.json {
            let mut line = json!({
                "status": origin.as_str(),
                "store_path": full,
                "requested": is_root,
                "nar_hash": info.nar_hash,
                "nar_size": info.nar_size,
            });
            match verdict {
                Verdict::NotCompared => {}
                Verdict::Holds { key } => {
                    line["holds"] = true.into();
                    line["signed_by"] = key.as_str().into();
                }
                _ => {
                    line["holds"] = (exit == Exit::Success).into();
                    line["reason"] = verdict.to_string().into();
                }
            }
            print(&line)
        } else if exit == Exit::Success {
            tracing::info!("{full}: {}, {verdict}", origin.as_str());
            Ok(())
        } else {
            writeln!(io::stderr(), "{full}: {verdict}")
        }
    }

    const fn fail(&mut self, exit: Exit) {
        self.exit = self.exit.worse(exit);
        self.failing += 1;
    }

    /// Says the numbers: in JSON, in a line, and on the page of a CI run.
    pub(super) fn finish(&self, source: &Source<'_>, log: &CiLog) -> io::Result<()> {
        let elapsed = self.started.elapsed();
        if self.json {
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let mut summary = json!({
                "fetched": self.fetched,
                "upstream": self.upstream,
                "present": self.present,
                "nar_bytes": self.nar_bytes,
                "failing": self.failing,
                "elapsed_ms": elapsed_ms,
            });
            if self.has_receipts {
                summary["holding"] = self.holding.into();
            }
            print(&json!({ "summary": summary }))?;
        }
        log.append_table(&format!("Fetched from {source}"), &self.rows(elapsed))?;
        if self.failing > 0 || !self.quiet {
            let mut text = format!("{source}: {} fetched", self.fetched);
            if self.fetched > 0 {
                let _ = write!(text, " ({})", Bytes(self.nar_bytes));
            }
            if self.upstream > 0 {
                let _ = write!(text, ", {} from upstream", self.upstream);
            }
            let _ = write!(text, ", {} present", self.present);
            if self.has_receipts {
                let _ = write!(text, "; {} as their receipts say", self.holding);
            }
            if self.failing > 0 {
                let _ = write!(text, ", {} not", self.failing);
            }
            let _ = write!(text, "; {:.1} s.", elapsed.as_secs_f32());
            writeln!(io::stderr(), "{text}")?;
        }
        Ok(())
    }

    fn rows(&self, elapsed: Duration) -> Vec<(&'static str, String)> {
        let mut rows = vec![("fetched", self.fetched.to_string())];
        for (name, count) in [
            ("from upstream", self.upstream),
            ("already present", self.present),
            ("as their receipts say", self.holding),
            ("failing", self.failing),
        ] {
            if count > 0 {
                rows.push((name, count.to_string()));
            }
        }
        rows.push(("size of the NARs", Bytes(self.nar_bytes).to_string()));
        rows.push(("time", format!("{:.1} s", elapsed.as_secs_f32())));
        rows
    }

    /// Prints the paths that were asked for, unless JSON has said them.
    pub(super) fn roots(&self, roots: impl Iterator<Item = String>) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        for root in roots {
            writeln!(out, "{root}")?;
        }
        Ok(())
    }
}

fn print(value: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{value}")
}
