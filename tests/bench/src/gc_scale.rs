//! A collection on a database of a million paths and ten million chunks, of which a third goes: how
//! long it takes, for how long others wait for the database at most, and how much memory it needs.
//!
//! The rows are made with SQL (see `suite::prefill`), and the packs' objects are not there, so that
//! nothing is compacted. A server runs beside it, and a prober that begins a write transaction
//! every few milliseconds, as a push would.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use snowbank_harness::{Gc, Output, Server, ageing::DAY, collection::Collected, process::Running};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::suite::prefill::Prefilled;

const MIB: u64 = 1 << 20;
/// What a collection may need.
const MAX_MEMORY: u64 = 512 * MIB;
/// For how long others may have to wait.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// How long one collection may take.
const LIMIT: Duration = Duration::from_hours(1);
const CONFIG: &str = "[gc]\ninterval = \"never\"\nretention = \"30d\"\n";

/// Options of `gc-scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Paths that are stored
    #[arg(long, default_value_t = 1_000_000)]
    paths: u64,
    /// Chunks that are stored
    #[arg(long, default_value_t = 10_000_000)]
    chunks: u64,
}

/// Runs the benchmark; fails when a target is missed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let prefilled = Prefilled::make(args.chunks, args.paths)?;
    let data_dir = prefilled.data_dir();
    let database = data_dir.join("snowbank.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(make_a_third_old(&database, args.paths))?;
    let server = Server::options().config(CONFIG).data_dir(&data_dir).start();
    println!(
        "{} paths, {} chunks, a database of {} MiB; a third of the paths is old",
        args.paths,
        args.chunks,
        std::fs::metadata(&database)?.len() / MIB
    );

    let mut missed = Vec::new();
    for (what, gc) in
        [("dry run", Gc::new().dry_run()), ("collection", Gc::without_grace().without_compaction())]
    {
        let prober = Prober::start(&database)?;
        let (output, phases) = watch(gc.start(&server.replicas()[0], ""))?;
        let waits = prober.end()?;
        ensure!(output.status.success(), "{what}: {output}");
        let report = Collected::parse(&output.stdout)
            .with_context(|| format!("{what}: no report: {output}"))?;
        println!(
            "\n{what}: {:.1} s, {} paths, {} NARs, {} chunks, {} packs, {} objects",
            output.elapsed.as_secs_f64(),
            report.paths(),
            report.nars(),
            report.chunks(),
            report.packs(),
            report.objects()
        );
        for phase in phases {
            println!(
                "  {:>7.1} s, longest wait {:>3} ms  {}",
                (phase.to - phase.from).as_secs_f64(),
                waits.longest_within(&phase).as_millis(),
                phase.text
            );
        }
        println!("  {waits}; by its own word {} ms", report.longest_lock_milliseconds());
        println!(
            "  peak memory {} MiB, processor time {:.1} s",
            output.peak_rss / MIB,
            output.cpu.as_secs_f64()
        );
        ensure!(report.paths() > args.paths / 4, "a third of the paths was to go: {report}");
        if waits.longest > LONGEST_WAIT {
            missed.push(format!(
                "{what}: others waited for {:?}; {LONGEST_WAIT:?} are allowed",
                waits.longest
            ));
        }
        if output.peak_rss > MAX_MEMORY {
            missed.push(format!(
                "{what}: {} MiB; {} are allowed",
                output.peak_rss / MIB,
                MAX_MEMORY / MIB
            ));
        }
    }
    ensure!(missed.is_empty(), "{}", missed.join("\n"));
    Ok(())
}

/// Makes the last third of the paths old, to which none of the others refers, and all others a day
/// young.
async fn make_a_third_old(database: &std::path::Path, paths: u64) -> Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let now = i64::try_from(now)?;
    let mut db =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(database)).await?;
    let young = sqlx::query("UPDATE paths SET created = $1 WHERE id <= $2");
    young.bind(now - DAY).bind(i64::try_from(paths / 3 * 2)?).execute(&mut db).await?;
    // As though servers had noted the time, and uses, since the beginning.
    let clock = format!("{{\"since\":0,\"noted\":{now},\"jumps\":[]}}");
    let note = sqlx::query(
        "INSERT INTO settings (key, value) VALUES ('clock', $1) ON CONFLICT (key) DO UPDATE SET \
         value = $1",
    );
    note.bind(clock).execute(&mut db).await?;
    db.close().await?;
    Ok(())
}

/// What a command said it was doing, and for how long.
#[derive(Debug)]
struct Phase {
    text: String,
    from: Instant,
    to: Instant,
}

/// Waits for a command's end, and notes when it began to say each line.
fn watch(mut running: Running) -> Result<(Output, Vec<Phase>)> {
    let began = Instant::now();
    let mut phases: Vec<Phase> = Vec::new();
    while !running.is_done() {
        ensure!(began.elapsed() < LIMIT, "not done after {LIMIT:?}");
        let (said, now) = (running.stderr_so_far(), Instant::now());
        for line in said.lines().skip(phases.len()) {
            if let Some(last) = phases.last_mut() {
                last.to = now;
            }
            phases.push(Phase { text: line.to_owned(), from: now, to: now });
        }
        thread::sleep(Duration::from_millis(5));
    }
    if let Some(last) = phases.last_mut() {
        last.to = Instant::now();
    }
    Ok((running.wait(), phases))
}

/// How long a writer had to wait.
#[derive(Debug, Default)]
struct Waits {
    count: usize,
    longest: Duration,
    over: usize,
    all: Vec<(Instant, Duration)>,
}

impl Waits {
    /// The longest of those that ended within a phase.
    fn longest_within(&self, phase: &Phase) -> Duration {
        let ended = self.all.iter().filter(|(at, _)| (phase.from..=phase.to).contains(at));
        ended.map(|(_, waited)| *waited).max().unwrap_or_default()
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted: Vec<Duration> = self.all.iter().map(|(_, waited)| *waited).collect();
        sorted.sort_unstable();
        let of_100 = sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default();
        write!(
            f,
            "a writer beside it waited {:.0} ms at most, {:.1} ms in 99 of 100 of {} times, longer \
             than {} ms {} times",
            self.longest.as_secs_f64() * 1e3,
            of_100.as_secs_f64() * 1e3,
            self.count,
            LONGEST_WAIT.as_millis(),
            self.over
        )
    }
}

/// Begins a write transaction every few milliseconds, and measures how long that takes.
struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Waits>>,
}

impl Prober {
    fn start(database: &std::path::Path) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let options = SqliteConnectOptions::new().filename(database).busy_timeout(Duration::ZERO);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || runtime.block_on(probe(&options, &seen)));
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<Waits> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the prober panicked"))?
    }
}

async fn probe(options: &SqliteConnectOptions, stop: &AtomicBool) -> Result<Waits> {
    let mut db = SqliteConnection::connect_with(options).await?;
    let mut waits = Waits::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        // SQLite itself would look again after up to 100 ms.
        while let Err(error) = sqlx::query("BEGIN IMMEDIATE").execute(&mut db).await {
            let is_busy =
                error.as_database_error().is_some_and(|error| error.message().contains("locked"));
            ensure!(
                is_busy && began.elapsed() < Duration::from_mins(5),
                "the prober's transaction: {error}"
            );
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        let waited = began.elapsed();
        sqlx::query("ROLLBACK").execute(&mut db).await?;
        waits.count += 1;
        waits.longest = waits.longest.max(waited);
        waits.over += usize::from(waited > LONGEST_WAIT);
        waits.all.push((Instant::now(), waited));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    db.close().await?;
    Ok(waits)
}
