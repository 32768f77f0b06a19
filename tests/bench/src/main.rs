//! Benchmarks of Snowbank. Without a subcommand it measures the whole system beside its peers (see
//! `suite`); each subcommand looks into one thing. Build with `--profile dist`:
//!
//! `cargo build --workspace --profile dist --bins && cargo run --profile dist -p snowbank-bench`
//!
//! The binaries measured are those beside this one (`SNOWBANK_TEST_BIN` names another folder).

mod big_path;
mod blind;
mod bucket;
mod chunk_sweep;
mod far;
mod gc_scale;
mod hostile;
mod listings;
mod many_pushers;
mod plant;
mod releases;
mod storage_latency;
mod suite;
mod tiny_paths;
mod year_of_ci;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "snowbank-bench",
    about = "Measure Snowbank: the whole suite, or one thing",
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    benchmark: Option<Benchmark>,
    #[command(flatten)]
    suite: suite::Args,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// One path of several GiB: time, and the server's and the client's peak memory
    BigPath(big_path::Args),
    /// Thousands of tiny paths in one push: time and requests
    TinyPaths(tiny_paths::Args),
    /// A storage that takes its time: the rate of one large NAR, and a closure's requests
    StorageLatency(storage_latency::Args),
    /// Bytes and requests between a server and its bucket, for pushes and downloads
    Bucket(bucket::Args),
    /// Several clients that push large paths: the server's peak memory
    ManyPushers(many_pushers::Args),
    /// Stored bytes by chunk size, over real version pairs
    ChunkSweep(chunk_sweep::Args),
    /// A collection on a database of millions of rows: time, the longest lock, memory
    GcScale(gc_scale::Args),
    /// Pages of a cache of a million paths: time and rows looked at, and narinfos beside strangers
    /// who list
    Listings(listings::Args),
    /// Hostile clients beside honest ones: memory, narinfos, the health check, pushes of others
    Hostile(hostile::Args),
    /// A year of pushes and nightly collections in minutes: what stays flat after the first month
    YearOfCi(year_of_ci::Args),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let Some(benchmark) = cli.benchmark else { return suite::run(&cli.suite) };
    match benchmark {
        Benchmark::BigPath(args) => big_path::run(&args),
        Benchmark::TinyPaths(args) => tiny_paths::run(&args),
        Benchmark::StorageLatency(args) => storage_latency::run(&args),
        Benchmark::Bucket(args) => bucket::run(&args),
        Benchmark::ManyPushers(args) => many_pushers::run(&args),
        Benchmark::ChunkSweep(args) => chunk_sweep::run(&args),
        Benchmark::GcScale(args) => gc_scale::run(&args),
        Benchmark::Listings(args) => listings::run(&args),
        Benchmark::Hostile(args) => hostile::run(&args),
        Benchmark::YearOfCi(args) => year_of_ci::run(&args),
    }
}
