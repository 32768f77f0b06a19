//! The whole suite: every figure of the system as users meet it, beside what they would otherwise
//! use, in one run.
//!
//! `cargo run --profile dist -p snowbank-bench` measures what stands beside its own binary: build
//! all of it first, with `cargo build --workspace --profile dist --bins`. `docs/benchmarks.md` is
//! made with `--write docs/benchmarks.md`.
//!
//! Figures are ratios within one run: ours and the peer's take turns, each on a fresh server, store
//! or folder as the figure demands, and the median over the runs is what counts. Everything runs on
//! loopback of one machine, the clients and the loads on the same processors as the servers.

mod corpus;
mod figures;
mod http;
mod load;
mod machine;
pub(crate) mod prefill;
pub(crate) mod report;
mod scale;
pub(crate) mod series;
mod slow_link;
mod work;

use std::{
    any::Any,
    cell::OnceCell,
    fs,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use snowbank_harness::process;

use self::{
    corpus::{Corpus, made},
    figures::{ALL, Figure},
    prefill::Prefilled,
    report::Report,
    scale::Scale,
};

/// Options of the suite.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write a report in Markdown to this file (docs/benchmarks.md is made so)
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Measure these figures only
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Runs of each figure, ours and the peer's in turn; medians count [default: 5, and 1 with
    /// --quick]
    #[arg(long, value_name = "N")]
    runs: Option<NonZero<usize>>,
    /// Try the suite itself out: a small corpus, low counts; no measurement
    #[arg(long)]
    quick: bool,
    /// List the figures and do nothing
    #[arg(long)]
    list: bool,
}

/// What a figure has at hand.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(crate) scale: Scale,
    pub(crate) runs: usize,
    pub(crate) corpus: Corpus,
    pub(crate) report: Report,
    full: OnceCell<Prefilled>,
    many: OnceCell<Prefilled>,
}

impl Suite {
    /// Runs of what takes long and hardly varies, such as peaks of memory.
    pub(crate) fn few_runs(&self) -> usize {
        self.runs.min(3)
    }

    /// A database that holds as much as where pushes to a full cache are measured.
    pub(crate) fn full(&self) -> Result<&Prefilled> {
        made(&self.full, || Prefilled::make(self.scale.full_chunks, self.scale.full_paths))
    }

    /// A database that holds as many paths as where reads of a full cache are measured.
    pub(crate) fn many(&self) -> Result<&Prefilled> {
        made(&self.many, || Prefilled::make(self.scale.many_paths, self.scale.many_paths))
    }
}

/// Runs the suite.
///
/// # Errors
/// When the binaries are not what can be measured, an option makes no sense, or a figure failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for figure in ALL {
            println!("{:<14} {}", figure.id, figure.about);
        }
        return Ok(());
    }
    let chosen = chosen(&args.only)?;
    ensure_release_binaries()?;
    let scale = if args.quick { Scale::QUICK } else { Scale::FULL };
    let suite = Suite {
        runs: args.runs.map_or(if args.quick { 1 } else { 5 }, NonZero::get),
        corpus: Corpus::new(&scale),
        report: Report::default(),
        full: OnceCell::new(),
        many: OnceCell::new(),
        scale,
    };
    println!("{}", heading(&suite));
    print!("{}", machine::describe());
    let failed = chosen.iter().filter(|figure| !measure(&suite, figure)).count();

    let (met, all) = suite.report.met();
    println!("\n{}\n{}\n{met} of {all} targets met", heading(&suite), suite.report.table());
    if let Some(file) = &args.write {
        fs::write(file, markdown(&suite))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    ensure!(
        failed == 0,
        "{failed} figures could not be measured; what is said above of each is why"
    );
    Ok(())
}

fn chosen(only: &[String]) -> Result<Vec<&'static Figure>> {
    if let Some(unknown) = only.iter().find(|name| !ALL.iter().any(|figure| figure.id == **name)) {
        bail!("there is no figure `{unknown}`; --list shows them");
    }
    Ok(ALL
        .iter()
        .filter(|figure| only.is_empty() || only.iter().any(|name| name == figure.id))
        .collect())
}

/// Measures one figure; one that panics or fails says so in the report, and the others go on.
fn measure(suite: &Suite, figure: &Figure) -> bool {
    suite.report.begin(figure.id, figure.about);
    let missing: Vec<&str> =
        figure.tools.iter().copied().filter(|tool| !machine::has(tool)).collect();
    if !missing.is_empty() {
        suite.report.not_measured(figure.about, &format!("not installed: {}", missing.join(", ")));
        return false;
    }
    let began = Instant::now();
    // What a figure leaves behind in the suite is made whole or not at all.
    let why = match catch_unwind(AssertUnwindSafe(|| (figure.run)(suite))) {
        Ok(Ok(())) => {
            println!("  took {:.0} s in all", began.elapsed().as_secs_f64());
            return true;
        }
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => panic_message(&*panic),
    };
    suite.report.not_measured(figure.about, &why);
    false
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").lines().next().unwrap_or_default().to_owned()
}

fn ensure_release_binaries() -> Result<()> {
    let build = "cargo build --workspace --profile dist --bins";
    ensure!(
        !cfg!(debug_assertions),
        "this is a debug build, which says nothing: run it with --profile dist"
    );
    let own = std::env::current_exe().context("cannot tell where this binary is")?;
    let folder = std::env::var_os("SNOWBANK_TEST_BIN")
        .map_or_else(|| own.parent().map(PathBuf::from).unwrap_or_default(), PathBuf::from);
    for name in ["snowbankd", "snowbank"] {
        let binary = folder.join(name);
        ensure!(binary.is_file(), "{} is not there; build it first: {build}", binary.display());
        let is_debug = fs::canonicalize(&folder)?.ends_with("debug");
        ensure!(
            !is_debug,
            "{} is a debug build, which says nothing; build it with: {build}",
            binary.display()
        );
        // The harness finds the same one.
        ensure!(process::binary(name) == binary, "the harness would measure another {name}");
    }
    let site = std::env::var_os("SNOWBANK_TEST_SITE");
    ensure!(
        site.is_none(),
        "SNOWBANK_TEST_SITE is set; the suite starts the servers that each figure is about"
    );
    Ok(())
}

fn heading(suite: &Suite) -> String {
    if suite.scale.quick {
        "TRIAL (--quick): a small corpus and low counts. These are no measurements.".to_owned()
    } else {
        format!("Medians of {} alternating runs.", suite.runs)
    }
}

fn markdown(suite: &Suite) -> String {
    let (met, all) = suite.report.met();
    format!(
        "# Benchmarks\n\n{}\n{}\n\n## Machine\n\n{}\n## Figures\n\n{met} of {all} targets \
         met.\n\n{}\n## Details\n{}",
        include_str!("suite/head.md"),
        heading(suite),
        machine::describe(),
        suite.report.markdown_table(),
        suite.report.markdown_details(),
    )
}
