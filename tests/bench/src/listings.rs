//! Pages of listings of a cache of a million paths: how long each takes, and how many rows the
//! server looks at; and what an honest client's narinfo takes beside strangers who list all the
//! time.
//!
//! The rows are made with SQL (see `suite::prefill`).

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use snowbank_harness::{Api, Server, process};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::suite::prefill::Prefilled;

/// How long a page may take, half of the times.
const LIMIT: Duration = Duration::from_millis(20);
/// How many times as long a narinfo may take beside strangers who list.
const MAX_TIMES: u32 = 10;

/// Options of `listings`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Paths of the cache
    #[arg(long, default_value_t = 1_000_000)]
    paths: u64,
    /// Pins of the cache
    #[arg(long, default_value_t = 10_000)]
    pins: u64,
    /// How often each page is asked for
    #[arg(long, default_value_t = 50)]
    times: usize,
    /// Strangers who list at the same time
    #[arg(long, default_value_t = 64)]
    strangers: usize,
    /// How long they do
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Runs the benchmark; fails when a target is missed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let prefilled = Prefilled::make(args.paths, args.paths)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(add_pins(&prefilled, args.pins))?;
    let metrics = process::own_address();
    let config = format!("[limits]\npins-per-cache = 1000000\n[metrics]\nlisten = \"{metrics}\"\n");
    let server = Server::options().config(&config).data_dir(&prefilled.data_dir()).start();
    let (root, metrics) = (Api::root(&server), Api::new(&format!("http://{metrics}"), None));

    println!("a cache of {} paths and {} pins", args.paths, args.pins);
    let mut missed = Vec::new();
    for (what, address) in pages(args, &prefilled.hashes) {
        let address = format!("/api/v1/caches/main/{address}");
        let before = looked_at(&metrics);
        let mut times = Vec::with_capacity(args.times);
        let mut bytes = 0;
        for _ in 0..args.times {
            let (answer, time) = timed(|| root.get(&address));
            ensure!(answer.status == 200, "{address}: {} {}", answer.status, answer.text());
            bytes = answer.body.len();
            times.push(time);
        }
        let rows = (looked_at(&metrics) - before) / args.times.max(1) as u64;
        let (median, of_99) = (quantile(&mut times, 50), quantile(&mut times, 99));
        println!(
            "  {what:<32} {:>7.2} ms, 99 of 100 {:>7.2} ms, {rows:>5} rows looked at, {:>7.1} KiB",
            median.as_secs_f64() * 1e3,
            of_99.as_secs_f64() * 1e3,
            kib(bytes)
        );
        if median > LIMIT {
            missed.push(format!("{what}: {median:?}; {LIMIT:?} are allowed"));
        }
    }
    beside_strangers(args, &server, &prefilled.hashes, &mut missed)?;
    ensure!(missed.is_empty(), "{}", missed.join("\n"));
    Ok(())
}

/// The pages that are asked for, with their addresses below the cache's.
fn pages(args: &Args, hashes: &[String]) -> Vec<(&'static str, String)> {
    let (paths, pins) = (args.paths, args.pins);
    let deep = paths / 10 * 9;
    vec![
        ("paths: first", "paths".to_owned()),
        ("paths: deep", format!("paths?after={deep}")),
        ("paths: nothing fits", "paths?pattern=*nosuch*".to_owned()),
        ("paths: nothing fits, deep", format!("paths?pattern=*nosuch*&after={deep}")),
        ("paths: nothing begins so", "paths?pattern=nosuch*".to_owned()),
        ("paths: few begin so", format!("paths?pattern=stored-{}*", paths / 1_000)),
        ("paths: all begin so", "paths?pattern=stored-*".to_owned()),
        (
            "paths: all begin so, deep",
            format!("paths?pattern=stored-*&after=n.{deep}.stored-{deep}"),
        ),
        ("paths: begins so, nothing fits", "paths?pattern=stored-*nosuch".to_owned()),
        ("paths: by a part of the hash", format!("paths?pattern={}*", &hashes[0][..4])),
        ("pins: first", "pins".to_owned()),
        ("pins: deep", format!("pins?after=pin-{:08}", pins / 10 * 9)),
        ("one path, pinned by all", format!("paths/{}", hashes[0])),
        ("withdrawn", "withdrawn".to_owned()),
    ]
}

/// Pins of the first path, all of them.
async fn add_pins(prefilled: &Prefilled, pins: u64) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(prefilled.data_dir().join("snowbank.db"));
    let mut db = SqliteConnection::connect_with(&options).await?;
    sqlx::query("BEGIN").execute(&mut db).await?;
    for number in 0..pins {
        let name = format!("pin-{number:08}");
        let pin = "INSERT INTO pins (cache_id, name, generation, keep) SELECT id, $1, 1, 5 FROM \
            caches WHERE name = 'main'";
        sqlx::query(pin).bind(&name).execute(&mut db).await?;
        let generation = "INSERT INTO pin_generations (cache_id, name, generation, hash, \
            path_name, created, created_by) SELECT cache_id, $1, 1, hash, name, created, 'bench' \
            FROM paths WHERE id = 1";
        sqlx::query(generation).bind(&name).execute(&mut db).await?;
    }
    sqlx::query("COMMIT").execute(&mut db).await?;
    db.close().await?;
    Ok(())
}

fn beside_strangers(
    args: &Args,
    server: &Server,
    hashes: &[String],
    missed: &mut Vec<String>,
) -> Result<()> {
    let honest = |until: Instant| -> Result<(Vec<Duration>, Duration)> {
        let (api, mut times, mut ready) = (Api::anonymous(server), Vec::new(), Duration::ZERO);
        for hash in hashes.iter().cycle().step_by(7_919) {
            if Instant::now() >= until {
                break;
            }
            let (answer, time) = timed(|| api.get(&format!("/main/{hash}.narinfo")));
            ensure!(answer.status == 200, "{}", answer.text());
            times.push(time);
            let (answer, time) = timed(|| api.get("/readyz"));
            ensure!(answer.status == 200, "/readyz: {}", answer.text());
            ready = ready.max(time);
            thread::sleep(Duration::from_millis(5));
        }
        Ok((times, ready))
    };
    let seconds = Duration::from_secs(args.seconds);
    let (mut alone, _) = honest(Instant::now() + seconds)?;
    let until = Instant::now() + seconds;
    let (answered, refused, beside) = thread::scope(|scope| {
        let strangers: Vec<_> =
            (0..args.strangers).map(|_| scope.spawn(move || list(server, until))).collect();
        let beside = honest(until);
        let counts = strangers.into_iter().map(|one| one.join().unwrap_or_default());
        let (answered, refused) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (answered, refused, beside)
    });
    let (mut times, ready) = beside?;
    let (before, during) = (quantile(&mut alone, 99), quantile(&mut times, 99));
    println!(
        "beside {} strangers who list for {} s ({answered} answered, {refused} refused): a narinfo \
         takes {:.2} ms, 99 of 100 {:.2} ms ({:.2} and {:.2} ms without them); /readyz {:.0} ms at \
         most",
        args.strangers,
        args.seconds,
        quantile(&mut times, 50).as_secs_f64() * 1e3,
        during.as_secs_f64() * 1e3,
        quantile(&mut alone, 50).as_secs_f64() * 1e3,
        before.as_secs_f64() * 1e3,
        ready.as_secs_f64() * 1e3
    );
    if during > before * MAX_TIMES {
        missed.push(format!(
            "a narinfo takes {during:?} beside strangers who list, {before:?} without them"
        ));
    }
    Ok(())
}

/// Lists until then; gives how often it was answered and how often refused.
fn list(server: &Server, until: Instant) -> (u64, u64) {
    let (api, mut answered, mut refused) = (Api::anonymous(server), 0, 0);
    while Instant::now() < until {
        match api.get("/api/v1/caches/main/paths?pattern=*nosuch*").status.as_u16() {
            200 => answered += 1,
            _ => refused += 1,
        }
    }
    (answered, refused)
}

fn timed<T>(ask: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    (ask(), began.elapsed())
}

fn quantile(times: &mut [Duration], of_100: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * of_100 / 100).or(times.last()).copied().unwrap_or_default()
}

/// Rows that the server has looked at for listings so far.
fn looked_at(metrics: &Api) -> u64 {
    let page = metrics.get("/metrics").text();
    let values = page.lines().filter_map(|line| line.strip_prefix("snowbank_listing_rows_total "));
    values.filter_map(|value| value.trim().parse::<u64>().ok()).sum()
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn kib(bytes: usize) -> f64 {
    bytes as f64 / 1024.0
}
