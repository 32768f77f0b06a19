//! Reading from a storage that takes its time: how fast one large NAR streams, and what a closure
//! costs in requests.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use snowbank_harness::{Client, NixStore, Random, oracle::Oracle, trees};

use crate::far::FarServer;

const LIMIT: Duration = Duration::from_mins(30);
const MIB: u64 = 1 << 20;
/// What one NAR is to stream at, in MB/s of NAR, at 30 ms.
const MIN_RATE: f64 = 100.0;
/// A NAR that takes less than this is small: it is one request, wherever it lies.
const SMALL_NAR: u64 = 8_000_000;

/// Options of `storage-latency`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Milliseconds added to every request to the storage
    #[arg(long, default_value_t = 30)]
    milliseconds: u64,
    /// Size of the large NAR in MB
    #[arg(long, default_value_t = 300)]
    megabytes: usize,
    /// Paths of the closure
    #[arg(long, default_value_t = 400)]
    paths: usize,
    /// The server's `[limits] memory`, a quarter of which is read-ahead, such as 192MiB
    #[arg(long)]
    memory: Option<String>,
}

impl Args {
    fn settings(&self) -> String {
        self.memory
            .as_ref()
            .map_or_else(String::new, |memory| format!("[limits]\nmemory = \"{memory}\"\n"))
    }
}

/// Runs the benchmark; fails when the NAR streams too slowly or the closure takes too many
/// requests.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let latency = Duration::from_millis(args.milliseconds);
    println!("{} ms added to every request to the storage", args.milliseconds);
    large_nar(args, latency)?;
    closure(args, latency)
}

fn large_nar(args: &Args, latency: Duration) -> anyhow::Result<()> {
    let (mut far, store) = (FarServer::start_with(latency, &args.settings()), NixStore::new());
    let path = add(&store, args.megabytes);
    let _ =
        Client::of(&far.server, &store).start_push("main", &[&path], &[]).wait_for(LIMIT).success();

    let info = Oracle::main(&far.server).narinfo(&path).context("the path is not there")?;
    let mut best = f64::MIN;
    for run in 1..=3 {
        far.server.restart();
        let before = far.gets();
        let (served, elapsed) = far.download(&info.url)?;
        #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
        let rate = info.nar_size as f64 / 1e6 / elapsed.as_secs_f64();
        best = best.max(rate);
        println!(
            "one NAR of {} MB ({} MB served), cold server, run {run}: {:.2} s, {rate:.0} MB/s of \
             NAR, {} GETs, server's peak memory {} MiB",
            info.nar_size / 1_000_000,
            served / 1_000_000,
            elapsed.as_secs_f64(),
            far.gets() - before,
            far.server.peak_rss_bytes() / MIB,
        );
    }
    ensure!(best >= MIN_RATE, "the NAR streamed at {best:.0} MB/s; {MIN_RATE:.0} are wanted");
    Ok(())
}

/// One large path. A third of it compresses, as in most packages.
pub(crate) fn add(store: &NixStore, megabytes: usize) -> String {
    let mut random = Random::fixed(3);
    let bytes = megabytes * 1_000_000;
    let files = [("noise", random.bytes(bytes * 2 / 3)), ("text", random.text(bytes / 3))];
    trees::add_files(store, "large", &files)
}

fn closure(args: &Args, latency: Duration) -> anyhow::Result<()> {
    let (mut far, store) = (FarServer::start_with(latency, &args.settings()), NixStore::new());
    let paths = trees::build_graph(&store, args.paths, 48, "latency");
    let push =
        Client::of(&far.server, &store).start_push("main", &paths, &[]).wait_for(LIMIT).success();
    println!(
        "closure of {} paths: pushed in {:.1} s, {} requests",
        paths.len(),
        push.output.elapsed.as_secs_f64(),
        far.requests()
    );

    far.server.restart();
    let oracle = Oracle::main(&far.server);
    let (mut allowed, mut served) = (0, 0);
    for path in &paths {
        let size =
            oracle.narinfo(path).and_then(|info| info.file_size).context("a path is not there")?;
        allowed += if size < SMALL_NAR { 1 } else { 2 * size.div_ceil(SMALL_NAR) };
        served += size;
    }
    let before = far.gets();
    let other = NixStore::new();
    let fetch = other
        .substitute(&format!("{}/main", far.server.url()), &oracle.public_key(), &paths)
        .success();
    let gets = far.gets() - before;
    println!(
        "fetched by Nix in {:.1} s: {} MB served, {gets} GETs; at most {allowed} are wanted",
        fetch.elapsed.as_secs_f64(),
        served / 1_000_000,
    );
    ensure!(gets <= allowed, "the closure took {gets} requests");
    Ok(())
}
