//! Benchmarks of Snowbank. Each prints what it measured, and what on; build with `--release`:
//!
//! `cargo build --release && cargo run --release -p snowbank-bench -- big-path`
//!
//! The binaries measured are those beside this one (`SNOWBANK_TEST_BIN` names another folder).

mod big_path;
mod chunk_sweep;
mod far;
mod many_pushers;
mod storage_latency;
mod tiny_paths;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "snowbank-bench", about = "Measure Snowbank", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// One path of several GiB: time, and the server's and the client's peak memory
    BigPath(big_path::Args),
    /// Thousands of tiny paths in one push: time and requests
    TinyPaths(tiny_paths::Args),
    /// A storage that takes its time: the rate of one large NAR, and a closure's requests
    StorageLatency(storage_latency::Args),
    /// Several clients that push large paths: the server's peak memory
    ManyPushers(many_pushers::Args),
    /// Stored bytes by chunk size, over real version pairs
    ChunkSweep(chunk_sweep::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().benchmark {
        Benchmark::BigPath(args) => big_path::run(&args),
        Benchmark::TinyPaths(args) => tiny_paths::run(&args),
        Benchmark::StorageLatency(args) => storage_latency::run(&args),
        Benchmark::ManyPushers(args) => many_pushers::run(&args),
        Benchmark::ChunkSweep(args) => chunk_sweep::run(&args),
    }
}
