//! A year of CI in fast forward: pushes of a closure that changes by versions and by rebuilds,
//! thirty days of retention, and a collection every night. Stored size, rows, packs and the time
//! that a collection takes should stay flat after the first month.
//!
//! A day passes by making everything in the database a day older. The closure is a scaled one of 1
//! GB: layers of packages, each of which refers to some of those below it. A change is a new
//! version of one package, whose dependents are all rebuilt: the same contents but for the hashes
//! inside.

mod world;

use std::time::Instant;

use anyhow::{Result, ensure};
use snowbank_harness::{
    Api, Gc, Pusher, Random, Server,
    ageing::{DAY, age_everything},
    collection, database, oracle,
};

use self::world::World;

const MB: f64 = 1e6;
/// How far the last month may be above the third.
const MAX_GROWTH: f64 = 1.25;

const HEAD: &str = "  day stored MB database    paths     NARs    chunks  packs    mean \
    gc   longest   push ms   sent MB";

/// Options of `year-of-ci`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Days that pass
    #[arg(long, default_value_t = 365)]
    days: u64,
    /// Pushes a day
    #[arg(long, default_value_t = 20)]
    pushes: u64,
    /// For how many days unused paths are kept
    #[arg(long, default_value_t = 30)]
    retention: u64,
    /// Size of the closure, as a part of 1 GB
    #[arg(long, default_value_t = 0.01)]
    scale: f64,
    /// Packages of the closure
    #[arg(long, default_value_t = 24)]
    packages: usize,
}

/// What a month came to; sums and counts are of its last evening.
#[derive(Clone, Copy, Debug, Default)]
struct Month {
    stored: f64,
    database: f64,
    rows: [i64; 3],
    packs: i64,
    collecting: f64,
    longest: f64,
    pushing: f64,
    sent: f64,
}

/// Runs the benchmark; fails when the last month is far above the third.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.packages >= 2 && args.scale > 0.0, "a closure needs some packages and some size");
    let config = format!("[gc]\ninterval = \"never\"\nretention = \"{}d\"\n", args.retention);
    let server = Server::options().config(&config).start();
    let api = Api::root(&server);
    let pusher = Pusher::new(&api, "main");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size of less than a terabyte"
    )]
    let bytes = (1e9 * args.scale) as usize;
    let mut random = Random::fixed(2_026);
    let mut world = World::new(&mut random, args.packages, bytes);
    println!(
        "a closure of {} packages and {:.1} MB, {} pushes a day, {} days of retention",
        args.packages,
        float(bytes as u64) / MB,
        args.pushes,
        args.retention
    );
    println!("{HEAD}");

    let (mut months, mut month, began) = (Vec::new(), Month::default(), Instant::now());
    for day in 1..=args.days {
        for _ in 0..args.pushes {
            world.change(&mut random);
            let began_to_push = Instant::now();
            let answer = pusher.push(&world.closure());
            month.pushing += began_to_push.elapsed().as_secs_f64() * 1e3;
            month.sent += world.bytes_of_last_change() / MB;
            ensure!(answer.uploaded() > 0, "every change makes new paths");
        }
        age_everything(&server, DAY);
        let collected = Instant::now();
        let _ = Gc::new().run(&api);
        let seconds = collected.elapsed().as_secs_f64();
        month.collecting += seconds;
        month.longest = month.longest.max(seconds);
        if day % 30 == 0 || day == args.days {
            let days = float(if day % 30 == 0 { 30 } else { day % 30 });
            months.push(close(&server, month, days, days * float(args.pushes)));
            print(day, months.last().unwrap_or(&month));
            month = Month::default();
        }
    }
    oracle::assert_check_is_clean(&server);
    println!("took {:.0} s", began.elapsed().as_secs_f64());
    let [.., last] = months[..] else { return Ok(()) };
    let Some(third) = months.get(2).filter(|_| months.len() > 3) else { return Ok(()) };
    let growth = [
        ("stored size", last.stored / third.stored),
        ("chunk rows", float(last.rows[2].unsigned_abs()) / float(third.rows[2].unsigned_abs())),
        ("packs", float(last.packs.unsigned_abs()) / float(third.packs.unsigned_abs())),
        ("time of a collection", last.collecting / third.collecting),
    ];
    for (what, ratio) in growth {
        println!("{what}: the last month is {ratio:.2} times the third");
    }
    let grown: Vec<&str> =
        growth.iter().filter(|(_, ratio)| *ratio > MAX_GROWTH).map(|(what, _)| *what).collect();
    ensure!(grown.is_empty(), "not flat: {}", grown.join(", "));
    Ok(())
}

/// The month's figures at its end; times become means.
fn close(server: &Server, month: Month, days: f64, pushes: f64) -> Month {
    let file =
        |name: &str| std::fs::metadata(server.data_dir().join(name)).map_or(0, |meta| meta.len());
    Month {
        stored: float(server.stored_bytes()) / MB,
        database: float(file("snowbank.db")) / MB,
        rows: [database::paths, database::nars, database::chunks].map(|count| count(server)),
        packs: collection::packs(server)[0],
        collecting: month.collecting / days,
        pushing: month.pushing / pushes,
        ..month
    }
}

fn print(day: u64, month: &Month) {
    let Month {
        stored,
        database,
        rows: [paths, nars, chunks],
        packs,
        collecting,
        longest,
        pushing,
        sent,
    } = month;
    println!(
        "{day:>5} {stored:>9.1} {database:>9.1} {paths:>8} {nars:>8} {chunks:>9} {packs:>6} \
         {collecting:>9.3} {longest:>9.3} {pushing:>9.1} {sent:>9.1}"
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
